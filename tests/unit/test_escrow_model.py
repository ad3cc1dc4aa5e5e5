"""The read model of escrows: what is wrong with one escrow stops that one alone."""

import msgspec

from domain import commands as c
from domain.ids import EscrowId, Micros
from eventstore.api import Recorded
from projections.escrows import Escrows
from schemas.codec import encode
from tests.given import BUYER, Life, created, terms

EMPTY = b""


def recorded(life: Life, *, escrow_id: str) -> list[Recorded]:
    """A life as the log holds it."""
    return [
        Recorded(
            partition=0,
            position=number,
            stream_id=escrow_id,
            version=number,
            type=encode(event).type,
            schema_version=1,
            command_id="",
            occurred_at=event.at,
            recorded_at=event.at,
            meta=EMPTY,
            body=encode(event).body,
            salt=EMPTY,
            leaf=EMPTY,
            chain=EMPTY,
        )
        for number, event in enumerate(life.events, start=1)
    ]


def test_an_escrow_with_an_unknown_event_stops_alone_and_keeps_its_last_state():
    model = Escrows()
    first, *rest = recorded(created(), escrow_id="esc_1")
    model.apply([first, *(msgspec.structs.replace(each, schema_version=99) for each in rest)])
    model.apply(recorded(created(), escrow_id="esc_2"))
    assert set(model.stopped) == {"esc_1"}
    state = model.get(EscrowId("esc_1"))
    assert state is not None and state.core.version == 1
    assert model.get(EscrowId("esc_2")) is not None


def test_an_escrow_with_an_impossible_history_stops_alone():
    model = Escrows()
    first, second, *_ = recorded(created(), escrow_id="esc_1")
    again = msgspec.structs.replace(first, version=3, position=3)
    model.apply([first, second, again])
    other = Life().when(c.CreateEscrow(at=Micros(first.occurred_at), terms=terms(), by=BUYER))
    model.apply(recorded(other, escrow_id="esc_2"))
    assert set(model.stopped) == {"esc_1"}
    assert model.get(EscrowId("esc_2")) is not None
