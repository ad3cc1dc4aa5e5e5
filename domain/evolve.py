"""`evolve(state, event) -> state`: the only way a state comes about."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from msgspec.structs import replace

from domain import events as e
from domain.events import AnyEvent
from domain.evolve_backup import BackupEvent, backup_part
from domain.evolve_case import CaseEvent, TimeEvent, case_part, raised_anew, time_part
from domain.evolve_evidence import EvidenceEvent, evidence_part
from domain.evolve_money import ChainEvent, SigningEvent, chain_part, signing_part
from domain.evolve_order import (
    OrderEvent,
    PeopleEvent,
    SeatEvent,
    SetupEvent,
    order_part,
    people_part,
    seat_part,
    setup_part,
)  # fmt: skip
from domain.states import TERMINAL, Core, Escrow, Pending

_NO_ACTIVITY = frozenset(e.NO_ACTIVITY)
_DEPOSIT_FACTS = frozenset({e.DepositReturned, e.DepositLost, e.DepositSeen})


class ImpossibleHistory(Exception):
    """An event cannot follow the events before it: the log of this escrow is not to be trusted."""


def fold(events: Iterable[AnyEvent], *, start: Escrow | None = None) -> Escrow | None:
    """Replays events into a state; None for a stream without events."""
    state = start
    for event in events:
        state = evolve(state, event)
    return state


def evolve(state: Escrow | None, event: AnyEvent) -> Escrow:
    """Applies one event. Raises `ImpossibleHistory` when it cannot follow."""
    if isinstance(event, e.EscrowCreated):
        if state is not None:
            raise ImpossibleHistory("escrow_created twice")
        return Pending(core=_first_core(event))
    if state is None:
        raise ImpossibleHistory(f"{type(event).__name__} before escrow_created")
    try:
        after = _PART_OF[type(event)](state, event)
    except (KeyError, StopIteration) as dangling:
        raise ImpossibleHistory(f"{type(event).__name__} names what is not there") from dangling
    if after is None:
        raise ImpossibleHistory(f"{type(event).__name__} in {type(state).__name__}")
    return replace(after, core=_stamped(after, event, entered=type(after) is not type(state)))


def _first_core(event: e.EscrowCreated) -> Core:
    at = event.at
    return Core(terms=event.terms, created_at=at, since=at, active_at=at, last_at=at, version=1)


def _stamped(after: Escrow, event: AnyEvent, *, entered: bool) -> Core:
    kind, core = type(event), after.core
    active = kind not in _NO_ACTIVITY
    ended = entered and isinstance(after, TERMINAL)
    return replace(
        _with_facts(core, event) if kind in _DEPOSIT_FACTS else core,
        version=core.version + 1,
        last_at=event.at,
        since=event.at if entered else core.since,
        active_at=event.at if active else core.active_at,
        stage=0 if active else core.stage,
        offers=() if ended else core.offers,  # an offer about the order says nothing about later money
    )


def _with_facts(core: Core, event: AnyEvent) -> Core:
    # What was looked at once is looked at again when it happens again.
    match event:
        case e.DepositReturned() | e.DepositLost():
            return raised_anew(core, "deposit_lost") if "deposit_lost" not in core.recovery else core
        case e.DepositSeen():
            return raised_anew(core, "late_deposit")
        case _:
            return core


# -- which part applies which events -------------------------------------------------------------------------

Part = Callable[[Escrow, Any], Escrow | None]

PARTS: tuple[tuple[Part, Any], ...] = (
    (order_part, OrderEvent),
    (seat_part, SeatEvent),
    (setup_part, SetupEvent),
    (backup_part, BackupEvent),
    (chain_part, ChainEvent),
    (people_part, PeopleEvent),
    (case_part, CaseEvent),
    (evidence_part, EvidenceEvent),
    (signing_part, SigningEvent),
    (time_part, TimeEvent),
)
"""Who applies what: together all events but the first, each of them once."""

_PART_OF: Mapping[type[e.Event], Part] = {event: part for part, events in PARTS for event in get_args(events)}
