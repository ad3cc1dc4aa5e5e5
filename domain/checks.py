"""The whole-transaction check before a signature: what the cosigner's wallet describes against what was decided."""

from collections.abc import Mapping, Sequence

import msgspec

from domain.events import Share
from domain.ids import Address
from domain.money import Atomic
from domain.payout import inputs_sum
from domain.roles import Role
from domain.states import Epoch, Money


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction as a wallet describes it; amounts in atomic units."""

    amount_in: Atomic
    amount_out: Atomic
    recipients: tuple[tuple[Address, Atomic], ...]
    change_amount: Atomic
    fee: Atomic
    unlock_time: int
    payment_id: str


def faults(
    described: Sequence[Described],
    *,
    money: Money,
    epoch: Epoch,
    addresses: Mapping[Role, Address],
    network_fee_max: Atomic,
) -> tuple[str, ...]:
    """Names everything that is wrong with a transaction set; it is signed only when this is empty.

    `addresses` are the opened payout addresses of the three. Inputs cannot be read before broadcast: only their sum.
    """
    if epoch.proposal is None or len(described) != 1:
        return ("not_one_transaction",)
    one, proposal = described[0], epoch.proposal
    wanted = sorted(_destination(share, addresses) for share in proposal.shares)
    checks = {
        "recipients": sorted(one.recipients) == wanted,
        "amount_in": one.amount_in == inputs_sum(money, epoch),
        "fee": one.fee == proposal.network_fee and 0 < one.fee <= network_fee_max,
        "balance": one.amount_in == sum(amount for _, amount in one.recipients) + one.fee,
        "change": one.change_amount == 0,
        "unlock_time": one.unlock_time == 0,
        "payment_id": one.payment_id.strip("0") == "",
    }
    return tuple(name for name, right in checks.items() if not right)


def _destination(share: Share, addresses: Mapping[Role, Address]) -> tuple[Address, Atomic]:
    return addresses[share.roles[0]], share.amount
