"""Who receives what: the arithmetic of a payout, to the atomic unit, and which money it moves."""

from collections.abc import Mapping

from domain.events import Purpose, Share
from domain.ids import OneTimeKey
from domain.money import Atomic
from domain.roles import PARTIES, Role, other_party
from domain.states import Core, Deposit, Epoch, Export, Money, Payout
from domain.terms import Terms

BP_ALL = 10_000


def shares(payout: Payout, terms: Terms, *, inputs: int, network_fee: int, tags: Mapping[Role, str]) -> list[Share]:
    """Divides the inputs' sum, less the network fee, among the three; the shares add up to it exactly.

    Amounts in atomic units. `tags` name each role's payout address: equal addresses become one share.
    Returns an empty list when nothing is left after the network fee.
    """
    rest = inputs - network_fee
    if rest <= 0:
        return []
    fee = min(payout.fee_atomic, rest)
    parts = _parties_parts(payout, terms, rest=rest - fee, inputs=inputs) | {Role.ARBITER: fee}
    return _merged(_without_dust(parts, dust=terms.policy.dust_atomic), tags=tags)


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
    """Names the deposits a payout spends: there, unlocked, unspent, and worth more than dust; in a fixed order."""
    return tuple(sorted(key for key, deposit in money.deposits.items() if _spendable(deposit, terms)))


def _spendable(deposit: Deposit, terms: Terms) -> bool:
    return deposit.unlocked and counts(deposit, terms) and deposit.spent_by is None


def counts(deposit: Deposit, terms: Terms) -> bool:
    """Says whether a deposit is there and worth more than dust."""
    return not deposit.lost and deposit.amount > terms.policy.dust_atomic


def unlocked_sum(money: Money, terms: Terms) -> Atomic:
    """Adds the unlocked deposits worth more than dust, spent ones included."""
    return Atomic(sum(each.amount for each in money.deposits.values() if each.unlocked and counts(each, terms)))


def inputs_sum(money: Money, epoch: Epoch) -> Atomic:
    """Adds an epoch's inputs."""
    return Atomic(sum(money.deposits[key].amount for key in epoch.inputs))


def inputs_ready(money: Money, terms: Terms, *, patient: bool = True) -> tuple[OneTimeKey, ...]:
    """Names the inputs a new epoch would spend, or nothing while it should rather wait for deposits on their way.

    Once the amount is there, later deposits are not waited for: nobody can hold a payout up by sending more. Nor is
    one waited for without patience: locked for years, or followed by another and another, it would hold up for ever
    what is paid back of too little money.
    """
    ready = usable(money, terms)
    if not patient:
        return ready
    waiting = any(
        counts(deposit, terms) and not deposit.unlocked and deposit.spent_by is None
        for deposit in money.deposits.values()
    )
    return () if waiting and unlocked_sum(money, terms) < terms.amount else ready


def receivers(payout: Payout) -> tuple[Role, ...]:
    """Names those whose payout address a payout may need."""
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
