"""Logs with lives in them, for tests of the read models."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from domain import commands as c
from domain.events import AnyEvent
from domain.ids import EscrowId, PhotoId, Sealed
from eventstore.api import Append, Appended, EventLog, NewEvent, Recorded
from projections.api import Batch, Generation, ModelTables
from projections.feeder import Change, Feeder, write_of
from projections.folds import Standing, advance
from projections.models import MODELS
from schemas.codec import encode
from tests.given import (
    ARBITER,
    BUYER,
    VENDOR,
    Life,
    add_evidence,
    awaiting_funding,
    completed,
    created,
    delivering,
    disputed,
    funded,
    releasing,
)


def talked() -> Life:
    """A disputed escrow whose three have said something in the case, one in answer to another."""
    life = disputed()
    for by, reply_to in ((BUYER, None), (ARBITER, 1), (VENDOR, 2)):
        life.when(c.AddMessage(at=life.later(60).now, by=by, message=Sealed(f"by {by}"), reply_to=reply_to))
    return life


def shown() -> Life:
    """A disputed escrow whose parties have laid two pictures before the arbiter, who was shown one of them."""
    life = disputed()
    for by in (BUYER, VENDOR):
        life.when(add_evidence(at=life.later(60).now, by=by))
    photo_id = PhotoId(f"photo-{VENDOR}-1")
    return life.when(c.ShowEvidence(at=life.later(60).now, by=ARBITER, photo_id=photo_id))


LIVES: Mapping[str, Life] = {
    "created": created(),
    "awaiting_funding": awaiting_funding(),
    "funded": funded(),
    "delivering": delivering(),
    "releasing": releasing(),
    "disputed": disputed(),
    "completed": completed(),
}
"""One life to each of several states."""


def new_events(events: Iterable[AnyEvent]) -> tuple[NewEvent, ...]:
    """Events ready for the log."""
    return tuple(
        NewEvent(type=made.type, schema_version=made.schema_version, occurred_at=event.at, meta=b"{}", body=made.body)
        for event in events
        for made in (encode(event),)
    )


async def append(log: EventLog, escrow_id: str, events: Sequence[NewEvent], *, after: int = 0) -> Appended:
    """Appends to one escrow's stream."""
    command_id = hashlib.sha256(f"{escrow_id} {after}".encode()).hexdigest()
    outcome = await log.append(
        Append(stream_id=escrow_id, expected_version=after, events=tuple(events), command_id=command_id)
    )
    assert isinstance(outcome, Appended), outcome
    return outcome


async def append_lives(log: EventLog, lives: Mapping[str, Life] = LIVES, *, prefix: str = "esc_") -> None:
    """Appends whole lives, one append a life, each to an escrow of its name."""
    for name, life in lives.items():
        await append(log, f"{prefix}{name}", new_events(life.events))


def unreadable() -> NewEvent:
    """An event that no version of this program wrote."""
    return NewEvent(type="from_the_future", schema_version=1, occurred_at=0, meta=b"{}", body=b"{}")


def recorded(life: Life, *, escrow_id: str = "esc_1") -> list[Recorded]:
    """A life as a log of its own holds it."""
    return [
        Recorded(
            partition=0,
            position=number,
            stream_id=escrow_id,
            version=number,
            type=event.type,
            schema_version=event.schema_version,
            command_id="",
            occurred_at=event.occurred_at,
            recorded_at=event.occurred_at,
            meta=event.meta,
            body=event.body,
            salt=b"",
            leaf=b"",
            chain=b"",
        )
        for number, event in enumerate(new_events(life.events), start=1)
    ]


def standing_of(life: Life, *, escrow_id: str = "esc_1") -> Standing:
    """Where an escrow stands at the end of a life."""
    return through(recorded(life, escrow_id=escrow_id), escrow_id=escrow_id)


def through(events: Iterable[Recorded], *, escrow_id: str = "esc_1") -> Standing:
    """Where an escrow stands after these events."""
    standing = Standing(escrow_id=EscrowId(escrow_id))
    for each in events:
        standing = advance(standing, each)
    return standing


async def feed_all(log: EventLog, tables: ModelTables, *, page_max: int = 1_000, kept_max: int = 2_000) -> None:
    """Feeds all live generations to the log's end."""
    await tables.begin(MODELS)
    positions = {each.generation: each.positions for each in (await tables.progress()).values()}
    feeder = Feeder(log, tables, positions=positions, page_max=page_max, kept_max=kept_max)
    try:
        while await feeder.step():
            pass
        assert feeder.failed == {}
    finally:
        feeder.close()


def batch_of(life: Life, *, model: str, number: int = 1, before: int = 0, partition: int = 0) -> Batch:
    """What one life at once does to one generation."""
    standing = standing_of(life)
    write = write_of(Generation(model, number), [Change(Standing(escrow_id=standing.escrow_id), standing)])
    return Batch(partition=partition, before=before, after=before + len(life.events), writes=(write,))
