"""What a decision would pay, before it is taken: the decision's own rules and the payout's own arithmetic."""

import msgspec

from domain import commands as c
from domain.dispute import resolve
from domain.events import Share, Verdict
from domain.evolve import evolve
from domain.ids import Micros, Sealed
from domain.money import Atomic
from domain.payout import kept_back, shares, usable
from domain.refusals import Refused
from domain.states import Escrow, money_of

UNREAD = Sealed("preview")
"""Stands for the reason, which no amount depends on."""


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """Who would receive what of the money that can be paid out now, before the network fee comes off."""

    inputs: Atomic
    shares: tuple[Share, ...]
    fee_after: Atomic
    """The arbiter's fee, where it is paid afterwards by a transaction of its own."""


def preview(state: Escrow, *, verdict: Verdict, buyer_share_bp: int | None, at: Micros) -> Preview | Refused:
    """Computes what the arbiter's decision would pay; a `Refused` says why it could not be taken."""
    command = c.ResolveDispute(
        at=at, by=state.core.terms.arbiter_id, verdict=verdict, buyer_share_bp=buyer_share_bp, reason=UNREAD
    )
    decided = resolve(state, command)
    if isinstance(decided, Refused):
        return decided
    after = state
    for event in decided:
        after = evolve(after, event)
    return _paid(after)


def _paid(state: Escrow) -> Preview:
    terms, money = state.core.terms, money_of(state)
    assert money is not None and money.payout is not None
    amounts = [money.deposits[key].amount for key in usable(money, terms)]
    inputs = Atomic(sum(amounts))
    if not amounts:
        return Preview(inputs=inputs, shares=(), fee_after=Atomic(0))
    # Whoever has not said yet where their money goes is paid apart.
    tags = {role: address.tag for role, address in state.core.addresses.items()}
    named = {role: tags.get(role, role.value) for role in terms.seats}
    divided = shares(money.payout, terms, inputs=inputs, smallest=min(amounts), network_fee=0, tags=named)
    after = kept_back(money.payout, terms, inputs=inputs, smallest=min(amounts), network_fee=0)
    return Preview(inputs=inputs, shares=tuple(divided), fee_after=after)
