"""What the store of evidence beside the log promises besides: several nodes, and nothing kept that nobody names."""

import asyncpg
import msgspec
import pytest

from domain.ids import Cid, EscrowId
from eventstore.api import Append, EventLog, NewEvent
from eventstore.cid import CHUNK_BYTES
from eventstore.evidence import EvidenceUnavailable
from tests.store_worlds import PostgresWorld, StoreWorld

ESCROW = EscrowId("esc_1")
FILES = {name: name.encode() * CHUNK_BYTES for name in ("named", "orphan", "late")}


async def _happened(log: EventLog, type: str, *, version: int, cid: Cid | None = None) -> None:
    body = msgspec.json.encode({"cid": cid} if cid else {})
    event = NewEvent(type=type, schema_version=1, occurred_at=1, meta=b"{}", body=body)
    item = Append(stream_id=ESCROW, expected_version=version, events=(event,), command_id=f"{version:064x}")
    await log.append(item)


async def test_what_one_node_adds_another_finds(store_world: StoreWorld) -> None:
    one, other = await store_world.open(), await store_world.open(node_id="other")
    cid = await one.evidence.add(ESCROW, FILES["named"])
    assert await other.evidence.get(ESCROW, cid) == FILES["named"]


async def test_what_no_event_names_is_swept_away_when_it_is_old_and_nothing_else(store_world: StoreWorld) -> None:
    store = await store_world.open()
    names = {name: await store.evidence.add(ESCROW, data) for name, data in FILES.items()}
    await _happened(store.log, "evidence_added", version=0, cid=names["named"])
    assert await store.evidence.sweep(older_than_s=3_600) == []
    assert sorted(await store.evidence.sweep(older_than_s=0)) == sorted([names["orphan"], names["late"]])
    assert await store.evidence.get(ESCROW, names["named"]) == FILES["named"]
    with pytest.raises(EvidenceUnavailable):
        await store.evidence.get(ESCROW, names["orphan"])
    assert await store.evidence.sweep(older_than_s=0) == []


async def test_what_nobody_can_open_any_more_is_swept_away(store_world: StoreWorld) -> None:
    store = await store_world.open()
    cid = await store.evidence.add(ESCROW, FILES["named"])
    await _happened(store.log, "evidence_added", version=0, cid=cid)
    await _happened(store.log, "key_shredded", version=1)
    assert await store.evidence.sweep(older_than_s=0) == [cid]


@pytest.mark.parametrize("role", ["thirdkey_app", "thirdkey_owner", "a superuser"])
async def test_the_database_lets_nobody_change_or_remove_evidence_that_the_log_names(
    postgres_dsn: str, role: str
) -> None:
    world = PostgresWorld(postgres_dsn, partitions=1)
    store = await world.open()
    cid = await store.evidence.add(ESCROW, FILES["named"])
    await _happened(store.log, "evidence_added", version=0, cid=cid)
    await world.aclose()
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("set session_replication_role = replica" if " " in role else f"set role {role}")
    changes = ["delete from evidence_blocks"]
    changes += [] if role == "thirdkey_app" else ["update evidence_blocks set data = ''", "truncate evidence_blocks"]
    for change in changes:
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute(change)
    assert await connection.fetchval("select count(distinct cid) from evidence_blocks") == 1
    await connection.close()


async def test_a_block_that_was_changed_all_the_same_is_noticed(postgres_dsn: str) -> None:
    world = PostgresWorld(postgres_dsn, partitions=1)
    store = await world.open()
    cid = await store.evidence.add(ESCROW, FILES["named"])
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("alter table evidence_blocks disable trigger all")
    await connection.execute("update evidence_blocks set data = overlay(data placing 'x' from 9) where number = 1")
    with pytest.raises(Exception, match="other bytes"):
        await store.evidence.get(ESCROW, cid)
    await connection.execute("delete from evidence_blocks where number = 0")
    with pytest.raises(Exception, match="other bytes"):
        await store.evidence.get(ESCROW, cid)
    await connection.close()
    await world.aclose()
