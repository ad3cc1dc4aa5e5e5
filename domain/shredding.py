"""Shredding: when the secrets of an escrow may be made unreadable for good."""

from domain import commands as c
from domain import events as e
from domain.events import AnyEvent
from domain.refusals import Refused
from domain.states import TERMINAL, Deposit, Escrow, Money, money_of
from domain.terms import Policy

DAY = 24 * 3_600 * 1_000_000


def shred(state: Escrow, command: c.ShredKey) -> list[AnyEvent] | Refused:
    """Decides that the escrow's key goes: only of an ended order, all of its money settled, its retention over.

    The retention runs from the end or from what a person, a wallet or the chain did last, whichever is later.
    """
    core = state.core
    if core.shredded_at is not None:
        return []
    if not isinstance(state, TERMINAL):
        return Refused("not_closed")
    unsettled = unsettled_of(state)
    if unsettled is not None:
        return Refused("unsettled", {"by": unsettled})
    left = max(core.since, core.active_at) + command.retention_days * DAY - command.at
    if left > 0:
        return Refused("retention_runs", {"days_left": -(-left // DAY)})
    return [e.KeyShredded(at=command.at, by=command.by, retention_days=command.retention_days)]


def unsettled_of(state: Escrow) -> str | None:
    """Names what of an ended escrow still waits for somebody; None when nothing does."""
    core, money = state.core, money_of(state)
    if core.recovery:
        return "recovery_item"
    if core.case is not None and not core.case.over:
        return "case"
    if money is None:
        return None
    if money.payout is not None:
        return "payout"
    owed = any(_is_owed(deposit, money, core.terms.policy) for deposit in money.deposits.values())
    return "deposit" if owed else None


def _is_owed(deposit: Deposit, money: Money, policy: Policy) -> bool:
    """Says whether a deposit belongs to somebody still: there, above dust, and not spent for good."""
    if deposit.lost or deposit.amount <= policy.dust_atomic:
        return False
    spend = money.spends.get(deposit.spent_by) if deposit.spent_by else None
    return spend is None or spend.lost or not spend.final
