"""What a decision would pay, before it is taken: the decision's own rules and the payout's own arithmetic."""

from domain import commands as c
from domain.amounts import Amounts, amounts_of
from domain.dispute import resolve
from domain.events import Verdict
from domain.ids import Micros, Sealed
from domain.refusals import Refused
from domain.states import Escrow

UNREAD = Sealed("preview")
"""Stands for the reason, which no amount depends on."""


def preview(state: Escrow, *, verdict: Verdict, buyer_share_bp: int | None, at: Micros) -> Amounts | Refused:
    """Computes what the arbiter's decision would pay; a `Refused` says why it could not be taken."""
    command = c.ResolveDispute(
        at=at, by=state.core.terms.arbiter_id, verdict=verdict, buyer_share_bp=buyer_share_bp, reason=UNREAD
    )
    decided = resolve(state, command)
    return decided if isinstance(decided, Refused) else amounts_of(state, decided)
