"""Maintenance mode: kept in a stream of its own, so that it holds on every node and survives every restart."""

import msgspec

from actors.escrow import KeyReused
from actors.limit_events import event_of, new_limit_event, read_on
from domain import limits
from domain.ids import Micros
from domain.limits import MAINTENANCE_STREAM, AnyLimitEvent, MaintenanceSet, SetMaintenance
from domain.refusals import Refused
from eventstore.api import (
    AlreadyDone,
    Append,
    Appended,
    EventLog,
    LogBusy,
    LogUnavailable,
    OutcomeUnknown,
    Recorded,
)
from schemas.answers import MaintenanceState, moment

CONFLICTS_MAX = 20


async def maintenance_state(event_log: EventLog) -> MaintenanceState:
    """Returns whether new escrows are refused, whichever node was told last; raises `LogUnavailable`."""
    return _shown([event_of(each) for each in await read_on(event_log, MAINTENANCE_STREAM, [])])


async def set_maintenance(
    event_log: EventLog, command: SetMaintenance, *, command_id: str, body_hash: str
) -> MaintenanceState:
    """Begins or ends maintenance and returns how it stands then; the same again adds no event.

    A command with a body hash happens once. Raises `KeyReused`, `LogBusy`, `LogUnavailable`.
    """
    for _ in range(CONFLICTS_MAX):
        recorded = await read_on(event_log, MAINTENANCE_STREAM, [])
        item, state = _item(recorded, command, command_id=command_id, body_hash=body_hash)
        if not item.events and not body_hash:
            return state
        try:
            outcome = await event_log.append(item)
        except OutcomeUnknown:
            raise LogUnavailable(MAINTENANCE_STREAM) from None
        if isinstance(outcome, Appended):
            return state
        if isinstance(outcome, AlreadyDone):
            if outcome.receipt.body_hash != body_hash:
                raise KeyReused
            return msgspec.json.decode(outcome.receipt.outcome, type=MaintenanceState)
    raise LogBusy(MAINTENANCE_STREAM)


def _item(
    recorded: list[Recorded], command: SetMaintenance, *, command_id: str, body_hash: str
) -> tuple[Append, MaintenanceState]:
    before = [event_of(each) for each in recorded]
    command = msgspec.structs.replace(command, at=Micros(max(command.at, before[-1].at if before else 0)))
    decided = limits.decide_maintenance(limits.maintenance_of(before), command)
    assert not isinstance(decided, Refused)  # the rules know no reason to refuse an administrator this
    state = _shown([*before, *decided])
    item = Append(
        stream_id=MAINTENANCE_STREAM,
        expected_version=len(recorded),
        events=tuple(new_limit_event(event, meta={"by": command.by}) for event in decided),
        command_id=command_id,
        body_hash=body_hash,
        outcome=msgspec.json.encode(state),
    )
    return item, state


def _shown(events: list[AnyLimitEvent]) -> MaintenanceState:
    state = limits.maintenance_of(events)
    last = events[-1] if events else None
    assert last is None or isinstance(last, MaintenanceSet)
    return MaintenanceState(
        enabled=state.enabled,
        reason=state.reason,
        since=moment(last.at) if last else None,
        by=last.by if last else None,
    )
