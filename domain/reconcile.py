"""Whether the log tells of an escrow's money what a fresh look at the chain shows, and what becomes of it if not.

What the chain shows may be newer than the log: it counts from `SETTLED_BLOCKS` deep on, and until then is left to the
next comparison. What the log says was seen before, so it counts at once. A caller that compares with a log that is
being written to looks twice, some time apart, and believes what stands both times.
"""

from collections.abc import Iterator, Mapping

import msgspec
from msgspec.structs import replace

from domain import commands as c
from domain import events as e
from domain.chain import UNLOCKED_AT, ChainView, SeenOutput, SeenSpend
from domain.difference import Difference
from domain.difference import DifferenceCode as Code
from domain.events import AnyEvent
from domain.ids import KeyImage, OneTimeKey, TxHash
from domain.money import Atomic
from domain.refusals import Refused
from domain.signing import is_seen
from domain.states import Completed, Deposit, Epoch, Escrow, Money, Payout, Refunded, Spend, money_of

SETTLED_BLOCKS = 10
"""Confirmations from which on the log must know what the chain shows; 20 minutes, and few reorgs reach as deep."""
LOGGED_MAX = 20
"""Differences that one event names; the command that compares prints all of them."""


class SeenTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction as the daemon holds it."""

    height: int | None
    """Of its block; None while in the pool."""
    fee: Atomic | None
    """The network fee it pays; None where it cannot be read."""
    key_images: frozenset[KeyImage]
    relayed: bool = True
    """False for one that waits in the daemon's pool without anybody having been told of it."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What the chain says of one escrow, asked without the service's own watcher."""

    view: ChainView
    since: int = 0
    """The height that the view was read from: what the log knows from below it is looked up by its transaction."""
    spent: frozenset[OneTimeKey] = frozenset()
    """Outputs whose key image the daemon knows from a block."""
    transactions: Mapping[TxHash, SeenTransaction] = {}
    """Those of `hashes_to_ask` that the daemon has."""


def hashes_to_ask(money: Money, *, since: int = 0) -> tuple[TxHash, ...]:
    """Names the transactions of which a comparison has to know what the daemon holds, for a view from a height on."""
    signed = (tx_hash for payout in money.payouts for tx_hash in payout.signed)
    known: list[Deposit | Spend] = [*money.deposits.values(), *money.spends.values()]
    return tuple(dict.fromkeys((*signed, *(each.tx_hash for each in known if _below(each, since)))))


def differences(state: Escrow, evidence: Evidence) -> tuple[Difference, ...]:
    """Compares what the log says of an escrow's money with the chain; in the order of codes, then of what they name."""
    money = money_of(state)
    if money is None:
        return ()
    final = state.core.terms.policy.final_confirmations
    view = _completed(money, evidence)
    found = [
        *_deposits(money, view),
        *_spends(money, view, final=final),
        *_spent(money, view, evidence.spent),
        *_payouts(money, evidence),
        *_ending(state, view, final=final),
    ]
    return tuple(sorted(found, key=lambda each: (each.code, each.about)))


def as_logged(found: tuple[Difference, ...]) -> tuple[Difference, ...]:
    """Cuts differences to as many as one event names."""
    return found[:LOGGED_MAX]


def compared(state: Escrow, command: c.ReportComparison) -> list[AnyEvent] | Refused:
    """Records what a comparison came to, where it is another thing than the last time."""
    if command.version != state.core.version:
        return Refused("view_outdated")
    found = as_logged(command.differences)
    if found == state.core.differences:
        return []
    return [e.ChainCompared(at=command.at, height=command.height, differences=found)]


# -- what a view does not reach ------------------------------------------------------------------------------


def _completed(money: Money, evidence: Evidence) -> ChainView:
    """Adds to a view what the daemon holds of the logged deposits and spends below it."""
    view, since, held = evidence.view, evidence.since, evidence.transactions
    shown = {output.one_time_key for output in view.outputs}
    deposits = [each for each in money.deposits.values() if _below(each, since) and each.one_time_key not in shown]
    outputs = [_output(each, held[each.tx_hash]) for each in deposits if each.tx_hash in held]
    seen = {spend.tx_hash for spend in view.spends}
    hashes = [each.tx_hash for each in money.spends.values() if _below(each, since) and each.tx_hash not in seen]
    spends = [
        SeenSpend(one_time_key=key, tx_hash=tx_hash, height=held[tx_hash].height)
        for tx_hash in hashes
        for key, image in money.key_images.items()
        if tx_hash in held and image in held[tx_hash].key_images
    ]
    return replace(view, outputs=(*view.outputs, *outputs), spends=(*view.spends, *spends))


def _below(known: Deposit | Spend, since: int) -> bool:
    return not known.lost and known.height is not None and known.height < since


def _output(known: Deposit, seen: SeenTransaction) -> SeenOutput:
    return SeenOutput(
        one_time_key=known.one_time_key,
        tx_hash=known.tx_hash,
        amount=known.amount,
        height=seen.height,
        unlocked=known.unlocked,
    )


# -- deposits ------------------------------------------------------------------------------------------------


def _deposits(money: Money, view: ChainView) -> Iterator[Difference]:
    shown = {output.one_time_key: output for output in view.outputs}
    for key, output in shown.items():
        known = money.deposits.get(key)
        if known is not None and not known.lost:
            yield from _deposit(known, output, view)
        elif _settled(output.height, view):
            yield Difference(code=Code.DEPOSIT_NOT_LOGGED, about=key, shown=output.height)
    for key, deposit in money.deposits.items():
        if key not in shown and not deposit.lost:
            yield Difference(code=Code.DEPOSIT_NOT_ON_CHAIN, about=key, logged=deposit.height)


def _deposit(known: Deposit, output: SeenOutput, view: ChainView) -> Iterator[Difference]:
    key = known.one_time_key
    if known.amount != output.amount:
        yield Difference(code=Code.DEPOSIT_AMOUNT, about=key, logged=known.amount, shown=output.amount)
    if known.tx_hash != output.tx_hash:
        yield Difference(code=Code.DEPOSIT_TRANSACTION, about=key)
    if known.height != output.height:
        if known.height is not None or _settled(output.height, view):
            yield Difference(code=Code.DEPOSIT_HEIGHT, about=key, logged=known.height, shown=output.height)
    elif known.unlocked != output.unlocked and (known.unlocked or _settled(output.height, view, since=UNLOCKED_AT)):
        yield Difference(code=Code.DEPOSIT_LOCK, about=key)


def _settled(height: int | None, view: ChainView, *, since: int = 0) -> bool:
    """Says whether the log must know of a fact that came about so many blocks above a height."""
    return height is not None and view.height - height >= SETTLED_BLOCKS + since


# -- spends --------------------------------------------------------------------------------------------------


class _Shown(msgspec.Struct, frozen=True):
    height: int | None
    keys: frozenset[OneTimeKey]


def _spends(money: Money, view: ChainView, *, final: int) -> Iterator[Difference]:
    shown = _shown(money, view)
    for tx_hash, seen in shown.items():
        known = money.spends.get(tx_hash)
        if known is not None and not known.lost:
            yield from _spend(known, seen, view, final=final)
        elif _settled(seen.height, view):
            yield Difference(code=Code.SPEND_NOT_LOGGED, about=tx_hash, shown=seen.height)
    for tx_hash, known in money.spends.items():
        if tx_hash not in shown and not known.lost:
            yield Difference(code=Code.SPEND_NOT_ON_CHAIN, about=tx_hash, logged=known.height)


def _shown(money: Money, view: ChainView) -> dict[TxHash, _Shown]:
    ours = {*money.deposits, *(output.one_time_key for output in view.outputs)}
    shown: dict[TxHash, _Shown] = {}
    for spend in (each for each in view.spends if each.one_time_key in ours):
        before = shown.get(spend.tx_hash)
        keys = before.keys if before else frozenset()
        shown[spend.tx_hash] = _Shown(spend.height, keys | {spend.one_time_key})
    return shown


def _spend(known: Spend, seen: _Shown, view: ChainView, *, final: int) -> Iterator[Difference]:
    about = known.tx_hash
    if known.height != seen.height:
        if known.height is not None or _settled(seen.height, view):
            yield Difference(code=Code.SPEND_HEIGHT, about=about, logged=known.height, shown=seen.height)
        return
    if set(known.inputs) != seen.keys and _settled(seen.height, view):
        yield Difference(code=Code.SPEND_INPUTS, about=about, logged=len(known.inputs), shown=len(seen.keys))
    if not known.final and _settled(seen.height, view, since=final):
        yield Difference(code=Code.SPEND_FINAL, about=about, shown=seen.height)


def _spent(money: Money, view: ChainView, spent: frozenset[OneTimeKey]) -> Iterator[Difference]:
    found = {spend.one_time_key for spend in view.spends}
    logged = {key for spend in money.spends.values() if not spend.lost for key in spend.inputs}
    for key in spent - found - logged:
        yield Difference(code=Code.SPEND_NOT_FOUND, about=key)


# -- payouts -------------------------------------------------------------------------------------------------


def _payouts(money: Money, evidence: Evidence) -> Iterator[Difference]:
    for payout, epoch in _epochs(money):
        if epoch.signature is None:
            continue
        seen = evidence.transactions.get(epoch.signature.tx_hash)
        if seen is not None and _settled(seen.height, evidence.view):
            yield from _mined(money, epoch, seen, about=epoch.signature.tx_hash)
        under_way = payout.ended is None and epoch.ended is None
        if under_way and epoch.broadcast and not is_seen(money, epoch) and (seen is None or not seen.relayed):
            yield Difference(code=Code.PAYOUT_NOT_SENT, about=epoch.signature.tx_hash)


def _mined(money: Money, epoch: Epoch, seen: SeenTransaction, *, about: TxHash) -> Iterator[Difference]:
    if seen.key_images != {money.key_images.get(key) for key in epoch.inputs}:
        named, spends = len(epoch.inputs), len(seen.key_images)
        yield Difference(code=Code.PAYOUT_INPUTS, about=about, logged=named, shown=spends)
    if epoch.proposal is not None and seen.fee != epoch.proposal.network_fee:
        yield Difference(code=Code.PAYOUT_FEE, about=about, logged=epoch.proposal.network_fee, shown=seen.fee)


def _epochs(money: Money) -> Iterator[tuple[Payout, Epoch]]:
    for payout in money.payouts:
        for epoch in payout.epochs:
            yield payout, epoch


def _ending(state: Escrow, view: ChainView, *, final: int) -> Iterator[Difference]:
    if not isinstance(state, Completed | Refunded):
        return
    heights = [spend.height for spend in view.spends if spend.tx_hash == state.tx_hash]
    height = heights[0] if heights else None
    if height is None or view.height - height < final:
        yield Difference(code=Code.PAYOUT_NOT_FINAL, about=state.tx_hash, shown=height)
