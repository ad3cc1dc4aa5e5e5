"""A log with events of older versions is told, judged and gone on with as if it had been written today."""

from pathlib import Path

import msgspec
import pytest

from domain.events import AnyEvent, TurnFailed
from domain.evolve import fold
from domain.roles import Role
from domain.states import Failure, name
from eventstore.api import Append, Appended, NewEvent, Recorded
from eventstore.memory import MemoryTables
from eventstore.opening import memory_store
from schemas.codec import UnknownEvent, decode, encode
from schemas.upcast import CURRENT, UPCASTERS, upcast
from service.audit import verify
from service.replay import steps, story
from tests.given import given

LOG = Path(__file__).parents[1] / "fixtures" / "logs" / "turn_failed_v1.jsonl"
"""Written by the program of version 1: six failed turns from set-up to a retried payout."""
STREAM = "esc_1"


class Row(msgspec.Struct, frozen=True):
    """One line of the stored log."""

    version: int
    type: str
    schema_version: int
    occurred_at: int
    body: str


def _rows() -> list[Row]:
    return [msgspec.json.decode(line, type=Row) for line in LOG.read_bytes().splitlines()]


def _read() -> list[AnyEvent]:
    return [decode(type=row.type, schema_version=row.schema_version, body=row.body.encode()) for row in _rows()]


def _written_today() -> list[AnyEvent]:
    """The same life as its own program would write it now: every failed turn as version 2."""
    events = []
    for event in _read():
        encoded = encode(event)
        events.append(decode(type=encoded.type, schema_version=encoded.schema_version, body=encoded.body))
    return events


async def _stored() -> tuple[MemoryTables, list[Recorded]]:
    tables = MemoryTables(partitions=4)
    store = memory_store(partitions=4, tables=tables)
    for row in _rows():
        new = NewEvent(
            type=row.type,
            schema_version=row.schema_version,
            occurred_at=row.occurred_at,
            meta=b'{"by":"seat:buyer"}',
            body=row.body.encode(),
        )
        item = Append(
            stream_id=STREAM, expected_version=row.version - 1, events=(new,), command_id=f"{row.version:064x}"
        )
        assert isinstance(await store.log.append(item), Appended)
    return tables, list(await store.log.read_stream(STREAM))


def test_the_stored_log_has_an_older_version_in_it() -> None:
    assert [row.schema_version for row in _rows() if row.type == "turn_failed"] == [1] * 6
    assert all(
        encode(event).schema_version == CURRENT["turn_failed"] for event in _read() if isinstance(event, TurnFailed)
    )


def test_a_stored_log_of_version_1_folds_to_the_state_of_the_same_life_written_today() -> None:
    state = fold(_read())
    assert state == fold(_written_today())
    assert state is not None and (name(state), state.core.version) == ("releasing", 57)
    assert state.core.failures == {Role.VENDOR: Failure(call="import_multisig_info", reason="busy")}


def test_a_life_begun_in_version_1_is_decided_as_one_written_today() -> None:
    before, after = given(*_read()), given(*_written_today())
    for life in (before, after):
        life.passes(48 * 3_600)
    assert before.answer == after.answer and before.answer


async def test_replay_tells_an_old_failed_turn_in_today_s_words() -> None:
    _, recorded = await _stored()
    told = [step.data for step in steps(recorded) if step.type == "turn_failed"]
    assert [(each.get("call"), each["reason"]) for each in told] == [
        ("open_wallet", "open_failed"),
        (None, "wallet_behind"),
        ("transfer", "other"),
        (None, "rejected_by_daemon"),
        ("transfer", "other"),
        ("import_multisig_info", "busy"),
    ]
    assert any("call open_wallet, reason open_failed" in line for line in story(recorded))


async def test_audit_takes_bodies_of_version_1_for_what_they_are() -> None:
    tables, _ = await _stored()
    assert (await verify(memory_store(partitions=4, tables=tables).log)).count == 0


@pytest.mark.parametrize(
    ("written", "changed"),
    [('"turn_id":', '"turn_id": '), ('"reason":"w', '"reason":"\\u0077')],
    ids=["a space", "another way to write a letter"],
)
async def test_audit_finds_a_body_of_version_1_that_is_not_canonical(
    written: str, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        msgspec.structs.replace(row, body=row.body.replace(written, changed)) if row.type == "turn_failed" else row
        for row in _rows()
    ]
    monkeypatch.setitem(globals(), "_rows", lambda: rows)
    tables, _ = await _stored()
    verified = await verify(memory_store(partitions=4, tables=tables).log)
    assert {finding.says for finding in verified.findings} == {"the body is not the canonical form of its event"}


def test_a_reason_without_a_call_has_none() -> None:
    assert upcast("turn_failed", 1, {"reason": "wallet_behind"}) == {"call": None, "reason": "wallet_behind"}


def test_every_older_version_has_an_upcaster_and_no_upcaster_stands_idle() -> None:
    assert set(UPCASTERS) == {(type, version) for type, newest in CURRENT.items() for version in range(1, newest)}


@pytest.mark.parametrize(
    ("type", "version", "body"),
    [
        ("turn_failed", CURRENT["turn_failed"] + 1, b"{}"),
        ("turn_failed", 0, b"{}"),
        ("turn_failed", 1, b'{"type":"turn_failed"}'),
        ("turn_failed", 1, b"[]"),
        ("parcel_tracked", 1, b'{"type":"parcel_tracked","at":1}'),
    ],
)
def test_what_cannot_be_read_is_said_with_type_and_version(type: str, version: int, body: bytes) -> None:
    with pytest.raises(UnknownEvent, match=f"{type} version {version} is no event this program can read"):
        decode(type=type, schema_version=version, body=body)
