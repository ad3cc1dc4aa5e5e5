"""Who receives what: the arithmetic of a payout, to the atomic unit, and which money it moves."""

from collections.abc import Mapping

from domain.events import Purpose, Share
from domain.ids import OneTimeKey, TxHash
from domain.money import Atomic
from domain.roles import PARTIES, Role, other_party
from domain.states import Core, Deposit, Epoch, Export, Money, Payout
from domain.terms import Terms

BP_ALL = 10_000


def shares(
    payout: Payout, terms: Terms, *, inputs: int, smallest: int, network_fee: int, tags: Mapping[Role, str]
) -> list[Share]:
    """Divides the inputs' sum, less the network fee, among the three; the shares add up to it exactly.

    Where the arbiter's fee is kept back, they add up to that much less. Amounts in atomic units; `smallest` is that of
    the smallest input. `tags` name each role's payout address: equal addresses become one share.
    Returns an empty list when nothing is left after the network fee.
    """
    rest = inputs - network_fee
    if rest <= 0:
        return []
    if payout.purpose is Purpose.FEE:
        return [Share(roles=(Role.ARBITER,), amount=Atomic(rest))]
    fee = min(payout.fee_atomic, rest)
    parts = _parties_parts(payout, terms, rest=rest - fee, inputs=inputs)
    if not kept_back(payout, terms, inputs=inputs, smallest=smallest, network_fee=network_fee):
        parts |= {Role.ARBITER: fee}
    return _merged(_without_dust(parts, dust=terms.policy.dust_atomic), tags=tags)


def kept_back(payout: Payout, terms: Terms, *, inputs: int, smallest: int, network_fee: int) -> Atomic:
    """Computes the change: the arbiter's fee, where it is swept afterwards and is worth a transaction of its own."""
    policy, fee = terms.policy, payout.fee_atomic
    worth_it = fee - network_fee > policy.dust_atomic and inputs - network_fee - fee > policy.dust_atomic
    # A wallet left with change leaves out what it can do without: anybody's small deposits would spoil every set.
    all_needed = smallest == inputs or smallest > fee + network_fee
    swept = payout.purpose is Purpose.RULING and policy.sweeps
    return fee if swept and worth_it and all_needed else Atomic(0)


def _parties_parts(payout: Payout, terms: Terms, *, rest: int, inputs: int) -> dict[Role, int]:
    surplus = inputs - terms.amount
    if payout.surplus_to_buyer and surplus > terms.policy.dust_atomic:
        back = min(surplus, rest)
        return {Role.BUYER: back, Role.VENDOR: rest - back}
    buyer = rest * payout.buyer_share_bp // BP_ALL
    return {Role.BUYER: buyer, Role.VENDOR: rest - buyer}


def _without_dust(parts: dict[Role, int], *, dust: int) -> dict[Role, int]:
    # The wallet answers -46 to an amount of 0, and dust can never be spent again. A party's dust goes to the other
    # party, so that the arbiter gets its fee and no more; only if both together are dust, to the arbiter.
    larger = max(PARTIES, key=lambda role: parts[role])
    smaller = other_party(larger)
    for role, into in ((smaller, larger), (Role.ARBITER, larger), (larger, Role.ARBITER)):
        if parts.get(role, 0) <= dust and role in parts and into in parts:
            parts = {each: part for each, part in parts.items() if each is not role} | {into: parts[into] + parts[role]}
    return parts


def _merged(parts: dict[Role, int], *, tags: Mapping[Role, str]) -> list[Share]:
    # Left to itself the wallet merges equal addresses, which changes the network fee and makes change appear.
    by_tag: dict[str, list[Role]] = {}
    for role in (role for role in Role if role in parts):
        by_tag.setdefault(tags[role], []).append(role)
    return [Share(roles=tuple(roles), amount=Atomic(sum(parts[role] for role in roles))) for roles in by_tag.values()]


def usable(money: Money, terms: Terms) -> tuple[OneTimeKey, ...]:
    """Names the deposits of the parties that a payout spends: there, unlocked, unspent, and worth more than dust.

    In a fixed order. What was kept back for the arbiter is not theirs.
    """
    arbiters = kept_outputs(money)
    return tuple(sorted(key for key, each in money.deposits.items() if key not in arbiters and _spendable(each, terms)))


def _spendable(deposit: Deposit, terms: Terms) -> bool:
    return deposit.unlocked and counts(deposit, terms) and deposit.spent_by is None


def kept_outputs(money: Money) -> frozenset[OneTimeKey]:
    """Names the outputs in which signed payouts kept the arbiter's fee back."""
    keeping = {
        epoch.signature.tx_hash
        for payout in money.payouts
        for epoch in payout.epochs
        if epoch.signature and change_of(money, epoch)
    }
    return frozenset(key for key, deposit in money.deposits.items() if deposit.tx_hash in keeping)


def fee_inputs(money: Money, terms: Terms) -> tuple[OneTimeKey, ...]:
    """Names the outputs from which the arbiter can be paid now."""
    return tuple(sorted(key for key in kept_outputs(money) if _spendable(money.deposits[key], terms)))


def fee_due(money: Money) -> bool:
    """Says whether an arbiter's fee was kept back and is not paid for good yet."""
    return fee_paid_by(money) is None and any(not money.deposits[key].lost for key in kept_outputs(money))


def fee_paid_by(money: Money) -> TxHash | None:
    """Names the transaction that paid for good what was kept back."""
    # The chain says it, not how the payout ended: a reorganisation may take it back.
    signed = {tx_hash for each in money.payouts if each.purpose is Purpose.FEE for tx_hash in each.signed}
    final = (each for each in money.spends.values() if each.final and not each.lost)
    return next((each.tx_hash for each in final if each.tx_hash in signed), None)


def all_gone(money: Money, payout: Payout, terms: Terms) -> bool:
    """Says whether everything that a payout could ever pay out is spent for good, by whomever."""
    arbiters, fee = kept_outputs(money), payout.purpose is Purpose.FEE
    dust = terms.policy.dust_atomic
    worth = [each for key, each in money.deposits.items() if (key in arbiters) is fee and each.amount > dust]
    # What a reorganisation took from the parties may return; the arbiter's payout is then opened anew by itself.
    there = [each for each in worth if not (fee and each.lost)]
    return bool(there) and all(each.spent_by and money.spends[each.spent_by].final for each in there)


def change_of(money: Money, epoch: Epoch) -> Atomic:
    """Computes what a proposed transaction leaves at the escrow's address."""
    proposal = epoch.proposal
    assert proposal is not None
    paid = sum(share.amount for share in proposal.shares) + proposal.network_fee
    return Atomic(proposed_sum(money, epoch) - paid)


def is_change(money: Money, deposit: Deposit) -> bool:
    """Says whether a deposit was not paid in but left over by a transaction that spends others of this escrow."""
    return deposit.tx_hash in money.spends


def unspent(money: Money) -> tuple[Deposit, ...]:
    """Lists what the parties may decide about: deposits that are there and not spent, whatever their worth."""
    arbiters = kept_outputs(money)
    return tuple(
        each for key, each in money.deposits.items() if key not in arbiters and not each.lost and each.spent_by is None
    )


def counts(deposit: Deposit, terms: Terms) -> bool:
    """Says whether a deposit is there and worth more than dust."""
    return not deposit.lost and deposit.amount > terms.policy.dust_atomic


def on_its_way(money: Money, terms: Terms) -> bool:
    """Says whether deposits worth the whole amount are there, unlocked or not; dust adds nothing."""
    return sum(each.amount for each in money.deposits.values() if counts(each, terms)) >= terms.amount


def unlocked_sum(money: Money, terms: Terms) -> Atomic:
    """Adds the unlocked deposits worth more than dust, spent ones included; change was counted where it came from."""
    there = (each for each in money.deposits.values() if each.unlocked and counts(each, terms))
    return Atomic(sum(each.amount for each in there if not is_change(money, each)))


def inputs_sum(money: Money, epoch: Epoch) -> Atomic:
    """Adds what an epoch's inputs are worth now."""
    return Atomic(sum(money.deposits[key].amount for key in epoch.inputs))


def proposed_sum(money: Money, epoch: Epoch) -> Atomic:
    """Adds what an epoch's inputs were worth when its set was made; what they are worth now where none was."""
    told = epoch.proposal.inputs_atomic if epoch.proposal else None
    return inputs_sum(money, epoch) if told is None else told


def smallest_input(money: Money, epoch: Epoch) -> Atomic:
    """Names the amount of an epoch's smallest input."""
    return min(money.deposits[key].amount for key in epoch.inputs)


def inputs_ready(money: Money, payout: Payout, terms: Terms, *, patient: bool = True) -> tuple[OneTimeKey, ...]:
    """Names the inputs a new epoch would spend, or nothing while it should rather wait for deposits on their way.

    Once the amount is there, later deposits are not waited for: nobody can hold a payout up by sending more. Nor is
    one waited for without patience: locked for years, or followed by another and another, it would hold up for ever
    what is paid back of too little money.
    """
    if payout.purpose is Purpose.FEE:
        return fee_inputs(money, terms)
    ready = usable(money, terms)
    if not patient:
        return ready
    waiting = any(counts(deposit, terms) and not deposit.unlocked for deposit in unspent(money))
    return () if waiting and unlocked_sum(money, terms) < terms.amount else ready


def receivers(payout: Payout) -> tuple[Role, ...]:
    """Names those whose payout address a payout may need."""
    if payout.purpose is Purpose.FEE:
        return (Role.ARBITER,)
    return (*PARTIES, Role.ARBITER) if payout.fee_atomic else PARTIES


def addresses_missing(core: Core, payout: Payout) -> tuple[Role, ...]:
    """Names the receivers who have not said where their money goes."""
    return tuple(role for role in receivers(payout) if role not in core.addresses)


def export_serves(export: Export | None, epoch: Epoch) -> bool:
    """Says whether a cosigner's export can carry an epoch: not void, and covering every input."""
    return export is not None and not export.void and export.covers >= set(epoch.inputs)


def signable(money: Money, terms: Terms) -> bool:
    """Says whether two seats' current exports cover every usable deposit."""
    wanted = set(usable(money, terms))
    serving = [export for export in money.exports.values() if not export.void and export.covers >= wanted]
    return bool(wanted) and len(serving) >= 2


def outcome(payout: Payout | None) -> str:
    """Names how an escrow ends when this payout is final; a payout that others made without us is `agreed`."""
    if payout is None:
        return "agreed"
    if payout.purpose is Purpose.AGREEMENT:
        return "agreed"
    if payout.buyer_share_bp == BP_ALL:
        return "refunded"
    return "released" if payout.buyer_share_bp == 0 else "split"
