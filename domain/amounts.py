"""What a decision gives each of the three, to the atomic unit: computed by the rules that pay it."""

from collections.abc import Iterable, Sequence

import msgspec

from domain.events import AnyEvent
from domain.evolve import fold
from domain.money import Atomic
from domain.payout import kept_back, shares, usable
from domain.roles import THREE, Role
from domain.states import Escrow, Payout, money_of
from domain.terms import Terms


class Amounts(msgspec.Struct, frozen=True, kw_only=True):
    """Who gets what of the money that can be paid out now, before the network fee comes off; all zero without any."""

    buyer: Atomic
    vendor: Atomic
    arbiter: Atomic
    """The fee, also where it is paid afterwards by a transaction of its own."""

    @property
    def parts(self) -> tuple[Atomic, Atomic, Atomic]:
        """The same, in the order of the three."""
        return self.buyer, self.vendor, self.arbiter


def amounts_of(state: Escrow, decided: Iterable[AnyEvent]) -> Amounts:
    """Computes what the payout that a decision opens would divide."""
    after = fold(decided, start=state)
    assert after is not None
    terms, money = after.core.terms, money_of(after)
    assert money is not None and money.payout is not None
    return _divided(money.payout, terms, inputs=[money.deposits[key].amount for key in usable(money, terms)])


def _divided(payout: Payout, terms: Terms, *, inputs: Sequence[Atomic]) -> Amounts:
    if not inputs:
        return Amounts(buyer=Atomic(0), vendor=Atomic(0), arbiter=Atomic(0))
    total, smallest = sum(inputs), min(inputs)
    # Those who share an address get a part each all the same: what is confirmed hangs on no address.
    apart = {role: role.value for role in THREE}
    divided = shares(payout, terms, inputs=total, smallest=smallest, network_fee=0, tags=apart)
    parts = {role: share.amount for share in divided for role in share.roles}
    later = kept_back(payout, terms, inputs=total, smallest=smallest, network_fee=0)
    return Amounts(
        buyer=parts.get(Role.BUYER, Atomic(0)),
        vendor=parts.get(Role.VENDOR, Atomic(0)),
        arbiter=Atomic(parts.get(Role.ARBITER, 0) + later),
    )
