"""Deadlines: what is due when in each state, and what happens then. Outages of our own daemon do not count."""

from typing import assert_never

import msgspec

from domain import commands as c
from domain import events as e
from domain.events import AnyEvent
from domain.ids import MICROS, Micros
from domain.refusals import Refused
from domain.roles import SeatKind
from domain.setup import awaited_seats
from domain.states import (
    AwaitingFunding,
    Cancelled,
    CaseStatus,
    Completed,
    Delivering,
    Disputed,
    Escrow,
    Funded,
    Pending,
    Refunded,
    Refunding,
    RefundingRecoveryNeeded,
    Releasing,
    ReleasingRecoveryNeeded,
    SettingUp,
    SetupFailed,
    name,
)

Outages = tuple[tuple[Micros, Micros], ...]


class Deadline(msgspec.Struct, frozen=True, kw_only=True):
    """A moment at which something happens by itself unless something else happened before."""

    kind: str
    start: Micros
    due: Micros


def deadlines(state: Escrow) -> tuple[Deadline, ...]:
    """Lists the deadlines of a state, soonest first; outages are not yet counted in."""
    return tuple(sorted(_of_state(state), key=lambda deadline: deadline.due))


def _of_state(state: Escrow) -> list[Deadline]:
    core = state.core
    policy = core.terms.policy
    match state:
        case Pending():
            return [_after("pending", core.since, policy.pending_s)]
        case SettingUp():
            return _setup(state)
        case AwaitingFunding():
            # From when there was an address to pay to: waiting for the arbiter takes nothing of the buyer's time.
            start = max(core.since, core.arbiter_ready_at or core.since)
            return [
                *_once(state, "funding_reminder", start, policy.funding_remind_s),
                *_once(state, "funding", start, policy.funding_s),
            ]
        case Funded():
            return _shipping(state)
        case Disputed() | Completed() | Refunded() | Cancelled() | SetupFailed():
            return _dispute(state)  # after the end there can be one about money that came late
        case Releasing() | Refunding():
            return [
                _after(f"stuck_{stage}", core.active_at, seconds)
                for stage, seconds in enumerate(policy.stuck_s, start=1)
                if stage > core.stage
            ]
        case Delivering() | ReleasingRecoveryNeeded() | RefundingRecoveryNeeded():
            return []
        case _:
            assert_never(state)


def _after(kind: str, start: Micros, seconds: int) -> Deadline:
    return Deadline(kind=kind, start=start, due=Micros(start + seconds * MICROS))


def _once(state: Escrow, kind: str, start: Micros, seconds: int) -> list[Deadline]:
    return [] if kind in state.core.reminded else [_after(kind, start, seconds)]


def _setup(state: SettingUp) -> list[Deadline]:
    terms = state.core.terms
    relay = SeatKind.RELAY in terms.seats.values()
    seconds = terms.policy.setup_relay_s if relay else terms.policy.setup_s
    # The time runs from when every hosted seat has its wallet: waiting for a slot does not count.
    start = state.setup.complete_at
    if start is None and SeatKind.POOL not in terms.seats.values():
        start = state.core.since
    return [] if start is None else [_after("setup", start, seconds)]


def _shipping(state: Funded) -> list[Deadline]:
    if "ship" in state.core.reminded:
        return []
    since, until = state.core.since, state.core.ship_until
    if until is not None:
        return [Deadline(kind="ship", start=since, due=until)]
    return [_after("ship", since, state.core.terms.policy.ship_s)]


def _dispute(state: Escrow) -> list[Deadline]:
    case, policy = state.core.case, state.core.terms.policy
    if case is None or not case.undecided:
        return []
    untouched = case.status is CaseStatus.OPEN
    return [
        *(_once(state, "dispute_untouched", case.opened_at, policy.dispute_untouched_s) if untouched else []),
        *_once(state, "dispute_undecided", case.opened_at, policy.dispute_undecided_s),
    ]


# -- when time passes ----------------------------------------------------------------------------------------


def pass_time(state: Escrow, command: c.PassTime) -> list[AnyEvent] | Refused:
    """Does what is due by now; each deadline once, missed ones made up for."""
    due = [deadline for deadline in deadlines(state) if _is_due(deadline, command)]
    if not due:
        return Refused("nothing_due")
    stuck = [deadline for deadline in due if deadline.kind.startswith("stuck_")]
    if stuck:
        return _stuck(state, stuck, command)
    return [event for deadline in due for event in _fire(state, deadline, command)]


def overlap_s(outages: Outages, *, start: Micros, end: Micros) -> int:
    """Adds the seconds of outages between two moments; what two outages share counts once."""
    counted, reached = 0, int(start)
    for since, to in sorted(outages):
        counted += max(0, min(end, to) - max(reached, since))
        reached = max(reached, to)
    return counted // MICROS


def _is_due(deadline: Deadline, command: c.PassTime) -> bool:
    return command.at >= deadline.due + _outage_s(deadline, command) * MICROS


def _outage_s(deadline: Deadline, command: c.PassTime) -> int:
    return overlap_s(command.outages, start=deadline.start, end=command.at)


def _fire(state: Escrow, deadline: Deadline, command: c.PassTime) -> list[AnyEvent]:
    at = command.at
    reminder = e.ReminderDue(at=at, kind=deadline.kind, outage_s=_outage_s(deadline, command))
    match state, deadline.kind:
        case Pending(), _:
            return [e.Cancelled(at=at, by=None, reason="pending_timeout")]
        case SettingUp(), _:
            return [e.SetupFailed(at=at, reason="timeout", awaited=awaited_seats(state))]
        case AwaitingFunding(), "funding" if not state.money.deposits:
            return [e.Cancelled(at=at, by=None, reason="not_funded")]
        case AwaitingFunding(), "funding":
            return [reminder, *_item(state, "underpaid", at=at)]
        case _, "dispute_undecided":
            return [reminder, _escalated(deadline, command), *_item(state, "dispute_undecided", at=at)]
        case _:
            return [reminder]


def _escalated(deadline: Deadline, command: c.PassTime) -> e.DisputeEscalated:
    open_s = (command.at - deadline.start) // MICROS - _outage_s(deadline, command)
    return e.DisputeEscalated(at=command.at, hours_open=open_s // 3_600)


def _item(state: Escrow, reason: str, *, at: Micros) -> list[AnyEvent]:
    return [] if reason in state.core.recovery else [e.RecoveryItemOpened(at=at, reason=reason)]


def _stuck(state: Escrow, due: list[Deadline], command: c.PassTime) -> list[AnyEvent]:
    idle_s = (command.at - state.core.active_at) // MICROS - _outage_s(due[-1], command)
    hours = idle_s // 3_600
    highest = len(due) - 1
    stages: list[AnyEvent] = [
        e.StuckStageReached(
            at=command.at,
            stage=int(deadline.kind.removeprefix("stuck_")),
            hours_stuck=hours,
            announce=index == highest,
            outage_s=_outage_s(deadline, command),
        )
        for index, deadline in enumerate(due)
    ]
    if due[-1].kind != "stuck_4":
        return stages
    required = e.ManualRecoveryRequired(at=command.at, original_status=name(state), hours_stuck=hours)
    return [*stages, required, *_item(state, "stuck", at=command.at)]
