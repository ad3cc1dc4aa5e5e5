"""The whole-transaction check before a signature: what the cosigner's wallet describes against what was decided."""

from collections.abc import Mapping, Sequence

import msgspec

from domain.events import FeeBand, Share
from domain.ids import Address
from domain.money import Atomic
from domain.payout import change_of, inputs_sum, proposed_sum
from domain.roles import Role
from domain.states import Epoch, Money

BAND_FACTOR = 2
"""How far a fee may be from the estimate either way: what a byte costs moves between a proposal and its signature."""
BYTES_ALWAYS, BYTES_PER_INPUT, BYTES_PER_OUTPUT = 1_000, 700, 200
"""Weights of 1,507 (one input, two outputs) to 3,512 (three and three) were recorded; these give 1.0 to 1.4 of them."""


def fee_band(*, per_byte: int, inputs: int, destinations: int, most: Atomic) -> FeeBand:
    """Computes the band from the cosigner's own estimate, never above `most`; the wallet prices one output more."""
    estimate = per_byte * (BYTES_ALWAYS + BYTES_PER_INPUT * inputs + BYTES_PER_OUTPUT * (destinations + 1))
    return FeeBand(Atomic(max(1, estimate // BAND_FACTOR)), Atomic(min(estimate * BAND_FACTOR, most)))


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction as a wallet describes it; amounts in atomic units."""

    amount_in: Atomic
    amount_out: Atomic
    recipients: tuple[tuple[Address, Atomic], ...]
    change_amount: Atomic
    change_address: str
    fee: Atomic
    unlock_time: int
    payment_id: str


def faults(
    described: Sequence[Described],
    *,
    money: Money,
    epoch: Epoch,
    addresses: Mapping[Role, Address],
    fee_band: FeeBand,
) -> tuple[str, ...]:
    """Names everything that is wrong with a transaction set; it is signed only when this is empty.

    `addresses` are the opened payout addresses of the three. Inputs cannot be read before broadcast: only their sum.
    """
    if epoch.proposal is None or len(described) != 1:
        return ("not_one_transaction",)
    one, proposal = described[0], epoch.proposal
    wanted = sorted(_destination(share, addresses) for share in proposal.shares)
    change = change_of(money, epoch)
    checks = {
        "recipients": sorted(one.recipients) == wanted,
        "amount_in": one.amount_in == inputs_sum(money, epoch) == proposed_sum(money, epoch),
        "fee": one.fee == proposal.network_fee and fee_band.least <= one.fee <= fee_band.most,
        "balance": one.amount_in == sum(amount for _, amount in one.recipients) + change + one.fee,
        "change": one.change_amount == change and (not change or one.change_address == money.address),
        "unlock_time": one.unlock_time == 0,
        "payment_id": one.payment_id.strip("0") == "",
    }
    return tuple(name for name, right in checks.items() if not right)


def shown_faults(money: Money, epoch: Epoch) -> tuple[str, ...]:
    """Names what the chain shows of a signed payout otherwise than it was signed; empty while nothing is shown.

    Inputs can be compared only here: by key images, in the pool or in a block.
    """
    spend = money.spends.get(epoch.signature.tx_hash) if epoch.signature else None
    if spend is None or spend.lost or epoch.proposal is None:
        return ()
    change, facts = change_of(money, epoch), spend.facts
    left_over = (each for each in money.deposits.values() if each.tx_hash == spend.tx_hash and not each.lost)
    checks = {
        "inputs": set(spend.inputs) == set(epoch.inputs),
        "change": sum(each.amount for each in left_over) == change,
    }
    if facts is not None:
        # A transaction has two outputs at least: one that pays nobody is added where one would do.
        outputs = max(2, len(epoch.proposal.shares) + bool(change))
        checks |= {
            "fee": facts.network_fee == epoch.proposal.network_fee,
            "unlock_time": facts.unlock_time == 0,
            "outputs": facts.outputs == outputs,
        }
    return tuple(name for name, right in checks.items() if not right)


def _destination(share: Share, addresses: Mapping[Role, Address]) -> tuple[Address, Atomic]:
    return addresses[share.roles[0]], share.amount
