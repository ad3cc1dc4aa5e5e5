"""Replay and audit: a life told from the log alone, and a log that was touched found out."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from domain import commands as c
from domain.events import AnyEvent, ArbiterReady, FeeBand, FeeBandSet
from domain.evolve import fold
from domain.ids import Micros
from domain.money import ATOMIC_PER_XMR, Atomic
from domain.roles import THREE, Role
from domain.terms import Policy
from eventstore.api import NewEvent, Recorded
from eventstore.chain import leaf_of, next_chain
from eventstore.memory import MemoryTables
from eventstore.opening import memory_store, open_store
from schemas.answers import moment
from schemas.codec import decode, encode
from service.audit import Verified, verify
from service.replay import json_lines, life, steps, story, xmr
from tests.given import AMOUNT, NETWORK_FEE, awaiting_funding, delivering
from tests.model_worlds import recorded
from tests.patience import PATIENT
from tests.worlds import World, address_of, house_world


class Tampered:
    """A memory log with two lives in it, and hands that reach behind its back."""

    def __init__(self, world: World, tables: MemoryTables, escrow_id: str) -> None:
        self.world, self.tables, self.escrow_id = world, tables, escrow_id
        self.partition = world.house.store.log.partition_of(escrow_id)

    @property
    def events(self) -> list[Recorded]:
        return self.tables.events[self.partition]

    def place(self, type: str) -> int:
        """Where an event of the escrow lies in its partition."""
        found = [n for n, each in enumerate(self.events) if (each.stream_id, each.type) == (self.escrow_id, type)]
        return found[0]

    def change(self, which: str, /, **fields: Any) -> None:
        """Writes other fields into a row, as somebody with the database's password could."""
        at = self.place(which)
        self.events[at] = msgspec.structs.replace(self.events[at], **fields)

    def rewrite(self, which: str, /, **fields: Any) -> None:
        """Changes a row and computes every leaf and chain after it anew, as a careful forger would."""
        self.change(which, **fields)
        self.rechain()

    def take_out(self, which: str) -> None:
        """Takes a row out, as a careful forger would."""
        del self.events[self.place(which)]
        self.rechain()

    def rechain(self) -> None:
        chain = bytes(32)
        for at, event in enumerate(self.events):
            new = NewEvent(
                type=event.type,
                schema_version=event.schema_version,
                occurred_at=event.occurred_at,
                meta=event.meta,
                body=event.body,
            )
            leaf = leaf_of(
                new,
                partition=event.partition,
                position=event.position,
                stream_id=event.stream_id,
                version=event.version,
                command_id=event.command_id,
                salt=event.salt,
            )
            chain = next_chain(chain, leaf)
            self.events[at] = msgspec.structs.replace(event, leaf=leaf, chain=chain)

    def body(self, type: str) -> dict[str, Any]:
        decoded: dict[str, Any] = msgspec.json.decode(self.events[self.place(type)].body)
        return decoded

    async def check(self) -> Verified:
        return await verify(self.world.house.store.log)


@pytest.fixture
async def tampered() -> AsyncIterator[Tampered]:
    tables = MemoryTables(partitions=4)
    async with house_world(store=memory_store(partitions=4, tables=tables)) as world:
        escrow_id = await world.released()
        await world.create()
        yield Tampered(world, tables, escrow_id)


def _canonical(body: dict[str, Any]) -> bytes:
    return encode(msgspec.convert(body, AnyEvent)).body


# -- audit ---------------------------------------------------------------------------------------------------


async def test_an_untouched_log_is_right_to_its_last_event(tampered: Tampered) -> None:
    told: list[tuple[int, int]] = []
    verified = await verify(tampered.world.house.store.log, progress=lambda done, total: told.append((done, total)))
    total = sum(len(events) for events in tampered.tables.events)
    assert (verified.count, verified.findings, verified.events, verified.escrows) == (0, (), total, 2)
    assert told[-1] == (total, total)


_TOUCH: dict[str, tuple[Callable[[Tampered], object], str]] = {
    "a changed body": (lambda t: t.change("shipped", body=b"{}"), "leaf differs"),
    "a changed meta": (lambda t: t.change("shipped", meta=b'{"by":"mallory"}'), "leaf differs"),
    "a changed moment": (lambda t: t.change("shipped", occurred_at=1), "leaf differs"),
    "a changed type": (lambda t: t.change("shipped", type="delivery_confirmed"), "leaf differs"),
    "a changed command": (lambda t: t.change("shipped", command_id="0" * 64), "leaf differs"),
    "a changed salt": (lambda t: t.change("shipped", salt=bytes(16)), "leaf differs"),
    "a changed leaf": (lambda t: t.change("shipped", leaf=bytes(32)), "leaf differs"),
    "a changed chain": (lambda t: t.change("shipped", chain=bytes(32)), "chain differs"),
    "a row taken out": (lambda t: t.events.pop(t.place("shipped")), "is missing"),
    "two rows exchanged": (lambda t: t.events.insert(3, t.events.pop(4)), "is missing"),
    "rechained: a row taken out": (lambda t: t.take_out("shipped"), "is missing"),
    "rechained: an amount": (
        lambda t: t.rewrite("deposit_seen", body=_canonical(t.body("deposit_seen") | {"amount": 1})),
        "not the sum of its inputs",
    ),
    "rechained: a share": (
        lambda t: t.rewrite("payout_proposed", body=_canonical(t.body("payout_proposed") | {"network_fee": 1})),
        "not the sum of its inputs",
    ),
    "rechained: the inputs' sum": (
        lambda t: t.rewrite("payout_proposed", body=_canonical(t.body("payout_proposed") | {"inputs_atomic": 1})),
        "not proposed over what its inputs are worth",
    ),
    "rechained: an earlier moment": (
        lambda t: t.rewrite("shipped", occurred_at=1, body=_canonical(t.body("shipped") | {"at": 1})),
        "occurred before",
    ),
    "rechained: another moment in the body": (
        lambda t: t.rewrite("shipped", body=_canonical(t.body("shipped") | {"at": 1})),
        "moment is not the event's",
    ),
    "rechained: an unknown event": (lambda t: t.rewrite("shipped", type="teleported"), "cannot follow: UnknownEvent"),
    "rechained: an unknown field": (
        lambda t: t.rewrite("shipped", body=t.events[t.place("shipped")].body[:-1] + b',"colour":"red"}'),
        "cannot follow: UnknownEvent",
    ),
    "rechained: a body with blanks": (
        lambda t: t.rewrite("shipped", body=t.events[t.place("shipped")].body.replace(b":", b": ")),
        "canonical",
    ),
    "rechained: an event out of order": (
        lambda t: t.rewrite("shipped", type="escrow_created", body=t.events[t.place("escrow_created")].body),
        "cannot follow: ImpossibleHistory",
    ),
    "rechained: a version skipped": (lambda t: t.rewrite("shipped", version=99), "is missing"),
    "rechained: a command used twice": (
        lambda t: t.rewrite("shipped", command_id=t.events[t.place("escrow_created")].command_id),
        "command was followed before",
    ),
}


@pytest.mark.parametrize("touch", _TOUCH)
async def test_each_kind_of_tampering_is_found(tampered: Tampered, touch: str) -> None:
    do, says = _TOUCH[touch]
    do(tampered)
    verified = await tampered.check()
    assert verified.count > 0
    assert any(says in finding.says for finding in verified.findings), verified.findings


async def test_a_signature_without_the_second_consent_is_found(tampered: Tampered) -> None:
    approved = tampered.place("payout_approved")
    note = _canonical({"type": "reminder_due", "at": tampered.events[approved].occurred_at, "kind": "x", "outage_s": 0})
    tampered.rewrite("payout_approved", type="reminder_due", body=note)
    verified = await tampered.check()
    assert "a payout was signed without the consent of two of the three" in [each.says for each in verified.findings]


async def test_a_life_after_the_end_is_found(tampered: Tampered) -> None:
    last = tampered.events[-1]
    again = _canonical({"type": "cancelled", "at": last.occurred_at + 1, "by": None, "reason": "forged"})
    forged = msgspec.structs.replace(
        last,
        stream_id=tampered.escrow_id,
        position=last.position + 1,
        version=len(tampered.tables.streams[tampered.escrow_id]) + 1,
        type="cancelled",
        body=again,
        occurred_at=last.occurred_at + 1,
        command_id="f" * 64,
    )
    tampered.events.append(forged)
    tampered.rechain()
    verified = await tampered.check()
    assert [each.says for each in verified.findings] == ["cancelled cannot follow completed"]


# -- replay --------------------------------------------------------------------------------------------------


def test_the_fees_that_a_cosigner_signs_are_told_in_xmr() -> None:
    told = delivering()
    band = FeeBand(Atomic(1), Atomic(5_265_600_000))
    told.when(c.SetFeeBand(at=told.now, role=Role.BUYER, payout=1, epoch=1, band=band)).then(FeeBandSet)
    (line,) = [line for line in story(recorded(told)) if "fee_band_set" in line]
    assert line.endswith("band (least 0.000000000001 XMR, most 0.005265600000 XMR)")


def test_a_moment_is_told_as_one() -> None:
    told = awaiting_funding(policy=Policy(arbiter_ready_s=60))
    told.when(c.ReportArbiterReady(at=told.now, seen_at=told.now)).then(ArbiterReady)
    (line,) = [line for line in story(recorded(told)) if "arbiter_ready" in line]
    assert line.endswith(f"seen_at {moment(told.now)}")


async def _life(world: World) -> list[Recorded]:
    escrow_id = await world.released()
    return list(await world.house.store.log.read_stream(escrow_id))


async def test_a_replay_rebuilds_every_state_exactly() -> None:
    async with house_world() as world:
        events = await _life(world)
        decoded = [decode(type=e.type, schema_version=e.schema_version, body=e.body) for e in events]
        for version in range(1, len(events) + 1):
            state, kept = life(events, at_version=version)
            assert state == fold(decoded[:version])
            assert len(kept) == version
        assert (await world.state(events[0].stream_id)) == life(events)[0]


async def test_a_replay_stops_at_a_moment_of_the_databases_clock() -> None:
    async with house_world() as world:
        events = [
            msgspec.structs.replace(each, recorded_at=number * 10) for number, each in enumerate(await _life(world))
        ]
        _, kept = life(events, at_time=Micros(55))
        assert [each.version for each in kept] == [1, 2, 3, 4, 5, 6]


async def test_a_story_tells_each_event_with_its_state_and_keeps_what_is_sealed() -> None:
    async with house_world() as world:
        events = await _life(world)
        lines = list(story(events))
        told = "\n".join(lines)
        assert [int(line.split()[0]) for line in lines[: len(events)]] == list(range(1, len(events) + 1))
        for word in ("escrow_created", "setting_up", "awaiting_funding", "funded", "delivering", "releasing"):
            assert word in told
        assert lines[len(events)] == f"state completed at version {len(events)}"
        assert f"amount {xmr(AMOUNT)}" in told
        assert f"network_fee {xmr(NETWORK_FEE)}" in told
        assert "(sealed)" in told
        assert not any(address_of(role) in told for role in THREE)
        sealed = [text for event in events for text in _sealed_in(event)]
        assert len(sealed) > 2
        assert not any(text in told for text in sealed)
        for line in json_lines(events):
            assert not any(text in line.decode() for text in sealed)


def _sealed_in(recorded: Recorded) -> list[str]:
    body = msgspec.json.decode(recorded.body)
    return [body["address"]] if recorded.type == "payout_address_set" else []


async def test_a_story_in_json_has_one_object_for_each_event() -> None:
    async with house_world() as world:
        events = await _life(world)
        told = [json.loads(line) for line in json_lines(events)]
        assert [each["version"] for each in told] == [step.version for step in steps(events)]
        (seen,) = [each for each in told if each["type"] == "deposit_seen"]
        assert (seen["data"]["amount"], seen["state"], seen["by"]) == (AMOUNT, "awaiting_funding", "seat")
        shipped = next(each for each in told if each["type"] == "shipped")
        assert (shipped["state"], shipped["by"]) == ("delivering", "bob")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]+\.\d{6}Z", shipped["recorded_at"])


def test_an_amount_has_twelve_decimals() -> None:
    assert xmr(0) == "0.000000000000 XMR"
    assert xmr(ATOMIC_PER_XMR + 1) == "1.000000000001 XMR"


# -- the commands, on Postgres -------------------------------------------------------------------------------


async def _thirdkey(*arguments: str, dsn: str, home: Path) -> tuple[int, str, str]:
    environment = {**os.environ, "DATABASE_URL": dsn, "ENCRYPTION_KEY": "00" * 32, "THIRDKEY_HOME": str(home)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_commands_tell_and_verify_a_log_in_use_and_find_what_was_touched(
    postgres_dsn: str, tmp_path: Path
) -> None:
    store = await open_store(dsn=postgres_dsn, encryption_key=bytes(32), partitions=4, node_id="n", limits=PATIENT)
    async with house_world(store=store) as world:
        escrow_id = await world.released()
        (code, out, err), (verified, says, _), (none, _, why) = await asyncio.gather(
            _thirdkey("replay", escrow_id, dsn=postgres_dsn, home=tmp_path),
            _thirdkey("audit", "verify", dsn=postgres_dsn, home=tmp_path),
            _thirdkey("replay", "esc_unknown", dsn=postgres_dsn, home=tmp_path),
        )
        assert (code, err) == (0, "")
        assert out.splitlines()[-1].startswith("state completed at version ")
        assert (verified, "every leaf, chain, head and transition is right" in says) == (0, True)
        assert (none, "nothing of esc_unknown" in why) == (1, True)
        connection = await asyncpg.connect(postgres_dsn)
        try:
            await connection.execute("alter table events disable trigger all")
            await connection.execute(
                "update events set body = $1 where stream_id = $2 and type = 'shipped'", b"{}", escrow_id
            )
        finally:
            await connection.close()
        code, says, _ = await _thirdkey("audit", "verify", dsn=postgres_dsn, home=tmp_path)
        assert code == 1
        assert f"{escrow_id}: leaf differs" in says


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("delete from events where position = (select max(position) from events where partition = {p})", "missing"),
        ("update log_heads set chain = sha256('x') where partition = {p}", "head's chain"),
        ("update log_heads set position = position - 1 where partition = {p}", "before the last event"),
        ("update log_heads set position = position + 1 where partition = {p}", "missing at the end"),
    ],
)
async def test_a_head_that_does_not_fit_its_events_is_found(postgres_dsn: str, change: str, says: str) -> None:
    store = await open_store(dsn=postgres_dsn, encryption_key=bytes(32), partitions=4, node_id="n", limits=PATIENT)
    async with house_world(store=store) as world:
        partition = store.log.partition_of(await world.released())
        connection = await asyncpg.connect(postgres_dsn)
        try:
            await connection.execute("alter table events disable trigger all")
            await connection.execute(change.format(p=partition))
        finally:
            await connection.close()
        verified = await verify(store.log)
        assert any(says in finding.says for finding in verified.findings), verified.findings


async def test_without_a_log_the_commands_say_so(tmp_path: Path, postgres_empty_dsn: str) -> None:
    code, _, says = await _thirdkey("audit", "verify", dsn=postgres_empty_dsn, home=tmp_path)
    assert (code, says.startswith("NoLog")) == (1, True)
