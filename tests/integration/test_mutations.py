"""Whoever changes the stored log is found out: on the memory log many times, on Postgres by a superuser's hand."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from actors.clock import SystemClock
from eventstore.memory import MemoryTables
from eventstore.opening import Store, memory_store, open_store
from service.audit import HeadSources, verify
from service.head_checks import Outside
from service.head_signer import HeadSigner
from tests.bundle_world import KEY, KEY_ID
from tests.given import VENDOR
from tests.mutations import COLUMNS, MUTATIONS, Auditor
from tests.patience import PATIENT
from tests.soak import rounds
from tests.worlds import World, house_world

SHORT, FULL = 300, 10_000
PARTITIONS = 4


async def sign_all(store: Store) -> None:
    signer = HeadSigner(store, KEY, clock=SystemClock())
    for end in await store.log.heads():
        if end.position:
            await signer.sign(end)
    assert signer.alarms == {}


async def lived(world: World, store: Store) -> str:
    """Plays two lives, one of them to its end, signed on the way and to the last event."""
    other = await world.funded()
    await sign_all(store)
    escrow_id = await world.released()
    await sign_all(store)
    assert (await world.ask("POST", f"/api/escrows/{other}/ship", user=VENDOR))[0] == 200
    await sign_all(store)
    return escrow_id


@pytest.mark.soak
async def test_every_random_change_to_a_signed_log_is_found() -> None:
    tables = MemoryTables(partitions=PARTITIONS)
    store = memory_store(partitions=PARTITIONS, tables=tables)
    async with house_world(store=store) as world:
        await lived(world, store)
    auditor = Auditor(tables, trusted=KEY_ID)
    assert (await auditor.check(tables)).findings == ()
    unseen = []
    for number in rounds("random changes to the stored log", short=SHORT, full=FULL):
        if did := await auditor.unseen(random.Random(number)):
            unseen.append((number, did))
    assert unseen == []


async def test_each_kind_of_change_is_found_whatever_it_draws() -> None:
    tables = MemoryTables(partitions=1)
    store = memory_store(partitions=1, tables=tables)
    async with house_world(store=store) as world:
        await world.create()
        await sign_all(store)
    auditor = Auditor(tables, trusted=KEY_ID)
    for mutation in dict.fromkeys(MUTATIONS):
        for seed in range(5):
            assert await auditor.unseen(random.Random(seed), mutation) is None, mutation.__name__


# -- on Postgres ---------------------------------------------------------------------------------------------


class Superuser:
    """Changes the tables with their triggers off, and puts everything back."""

    def __init__(self, connection: asyncpg.Connection, escrow_id: str, partition: int) -> None:
        self._connection, self._values = connection, {"e": f"'{escrow_id}'", "p": str(partition)}

    async def run(self, *statements: str) -> None:
        for statement in statements:
            await self._connection.execute(statement.format(**self._values))

    @asynccontextmanager
    async def changed(self, *statements: str) -> AsyncIterator[None]:
        tables = ("events", "log_heads", "signed_heads")
        for table in tables:
            await self.run(f"create temporary table kept_{table} as select * from {table}")
        await self.run(*statements)
        try:
            yield
        finally:
            for table in tables:
                await self.run(f"truncate {table}", f"insert into {table} select * from kept_{table}")
                await self.run(f"drop table kept_{table}")


_LAST = "(select max(position) from events where partition = {p})"
_ROW = "where stream_id = {e} and version = 7"
_UPDATES = {
    "partition": "partition = (partition + 1) % 4, position = 100000",
    "position": f"position = {_LAST} + 1",
    "stream_id": "stream_id = stream_id || 'x'",
    "version": "version = 1000",
    "type": "type = type || 'x'",
    "schema_version": "schema_version = 2",
    "command_id": "command_id = 'x'",
    "occurred_at": "occurred_at = occurred_at + 1",
    "meta": "meta = set_byte(meta, 0, 33)",
    "body": "body = set_byte(body, 0, 33)",
    "salt": "salt = set_byte(salt, 0, get_byte(salt, 0) # 1)",
    "leaf": "leaf = set_byte(leaf, 0, get_byte(leaf, 0) # 1)",
    "chain": "chain = set_byte(chain, 0, get_byte(chain, 0) # 1)",
}
_CHANGES: dict[str, list[str]] = {
    **{f"{column} changed": [f"update events set {to} {_ROW}"] for column, to in _UPDATES.items()},
    "an event dropped": [f"delete from events {_ROW}"],
    "two events exchanged": [
        "update events set version = case version when 7 then 9008 else 9007 end where stream_id = {e}"
        " and version in (7, 8)",
        "update events set version = version - 9000 where version > 9000",
    ],
    "an event inserted": [
        "insert into events select partition, "
        + _LAST
        + " + 1, stream_id, 1000, type, schema_version, 'x', occurred_at, recorded_at, meta, body, salt, leaf, chain"
        f" from events {_ROW}"
    ],
    "an event inserted before the first": [
        "alter table events drop constraint if exists events_position_check",
        "insert into events select partition, -1, stream_id, 1000, type, schema_version, 'x', occurred_at, recorded_at,"
        f" meta, body, salt, leaf, chain from events {_ROW}",
    ],
    "the tail cut, heads and all": [
        f"delete from events where partition = {{p}} and position = {_LAST}",
        f"delete from signed_heads where partition = {{p}} and position > {_LAST}",
        "update log_heads h set (position, chain) = (select e.position, e.chain from events e"
        f" where e.partition = h.partition and e.position = {_LAST}) where partition = {{p}}",
    ],
    "a partition emptied": [
        "delete from events where partition = {p}",
        "delete from signed_heads where partition = {p}",
        "update log_heads set position = 0, chain = decode(repeat('00', 32), 'hex') where partition = {p}",
    ],
    "a signed head changed": ["update signed_heads set signed_at = signed_at + 1 where partition = {p}"],
    "all signed heads dropped": ["delete from signed_heads"],
}


def test_every_column_is_changed_on_postgres_too() -> None:
    assert set(_UPDATES) == set(COLUMNS)


async def test_a_superuser_with_the_triggers_off_is_found_out(postgres_dsn: str) -> None:
    store = await open_store(
        dsn=postgres_dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id="n", limits=PATIENT
    )
    connection: Any = await asyncpg.connect(postgres_dsn)
    try:
        async with house_world(store=store) as world:
            escrow_id = await lived(world, store)
            partition = store.log.partition_of(escrow_id)
            kept = [await store.heads.after(each, position=0, limit=100) for each in range(PARTITIONS)]
            sources = HeadSources(
                stored=store.heads,
                outside=Outside(name="heads.jsonl", heads=tuple(head for heads in kept for head in heads)),
                trusted=frozenset({KEY_ID}),
            )
            superuser = Superuser(connection, escrow_id, partition)
            await superuser.run(
                "alter table events disable trigger all", "alter table signed_heads disable trigger all"
            )
            for name, statements in _CHANGES.items():
                async with superuser.changed(*statements):
                    assert (await verify(store.log, heads=sources)).count, name
            await superuser.run("update events set recorded_at = recorded_at + interval '1 hour'")
            assert (await verify(store.log, heads=sources)).findings == (), "the database's own note is not hashed"
    finally:
        await connection.close()
