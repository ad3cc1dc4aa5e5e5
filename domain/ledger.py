"""From what the chain shows to what has happened: the difference between a view and the ledger, as events."""

from collections.abc import Iterator

from domain import commands as c
from domain import events as e
from domain.chain import UNLOCKED_AT, ChainView, SeenOutput, SeenSpend
from domain.events import AnyEvent
from domain.ids import Micros, TxHash
from domain.refusals import Refused
from domain.states import Deposit, Escrow, Money, Spend, money_of


def observe(state: Escrow, command: c.ObserveChain) -> list[AnyEvent] | Refused:
    """Records every difference between the view and what is known; the same view twice adds nothing.

    A view from before the escrow's last event is refused: brought late, by a node that stood still or was overtaken,
    it would take back what the chain has shown to others since, as if blocks had been replaced.
    """
    money = money_of(state)
    if money is None:
        return Refused("not_awaited")
    if command.version != state.core.version:
        return Refused("view_outdated")
    final = state.core.terms.policy.final_confirmations
    return [
        *_deposits(money, command.view, at=command.at),
        *_spends(money, command.view, final=final, at=command.at),
    ]


def _deposits(money: Money, view: ChainView, *, at: Micros) -> Iterator[AnyEvent]:
    shown = {output.one_time_key: output for output in view.outputs}
    for key, output in shown.items():
        known = money.deposits.get(key)
        yield from _new(output, at=at) if known is None else _changed(known, output, height=view.height, at=at)
    for key, deposit in money.deposits.items():
        if key not in shown and not deposit.lost:
            yield e.DepositLost(at=at, one_time_key=key, was_confirmed=deposit.height is not None)


def _new(output: SeenOutput, *, at: Micros) -> Iterator[AnyEvent]:
    key = output.one_time_key
    yield e.DepositSeen(at=at, one_time_key=key, tx_hash=output.tx_hash, amount=output.amount)
    yield from _progress(None, output, at=at)


def _changed(known: Deposit, output: SeenOutput, *, height: int, at: Micros) -> Iterator[AnyEvent]:
    if known.amount != output.amount:
        # Paid again at the same one-time key: only one of the two can ever be spent, and the larger one counts. Once
        # one is spent the other is worth nothing.
        if known.spent_by is None:
            yield from _new(output, at=at)
    elif known.lost:
        yield e.DepositReturned(at=at, one_time_key=known.one_time_key)
        yield from _progress(None, output, at=at)
    elif _cut(known, output, height=height):
        # Mined again elsewhere, back in the pool, or less deep than before: confirmations count anew.
        yield e.DepositLost(at=at, one_time_key=known.one_time_key, was_confirmed=True)
        yield e.DepositReturned(at=at, one_time_key=known.one_time_key)
        yield from _progress(None, output, at=at)
    else:
        yield from _progress(known, output, at=at)


def _cut(known: Deposit, output: SeenOutput, *, height: int) -> bool:
    if known.height is None or output.height is None or known.height != output.height:
        return known.height is not None
    # Deeper than that only a lock of its own is left. One that is a time closes again where a clock was put back, or
    # is behind that of another node.
    return known.unlocked and not output.unlocked and height - output.height < UNLOCKED_AT


def _progress(known: Deposit | None, output: SeenOutput, *, at: Micros) -> Iterator[AnyEvent]:
    confirmed = known is not None and known.height is not None
    if output.height is not None and not confirmed:
        yield e.DepositConfirmed(at=at, one_time_key=output.one_time_key, height=output.height)
    if output.unlocked and output.height is not None and not (known and known.unlocked):
        yield e.DepositUnlocked(at=at, one_time_key=output.one_time_key)


def _spends(money: Money, view: ChainView, *, final: int, at: Micros) -> Iterator[AnyEvent]:
    ours = {*money.deposits, *(output.one_time_key for output in view.outputs)}
    shown: dict[TxHash, list[SeenSpend]] = {}
    for spend in (each for each in view.spends if each.one_time_key in ours):
        shown.setdefault(spend.tx_hash, []).append(spend)
    for tx_hash, known in money.spends.items():
        if not known.lost and (tx_hash not in shown or _moved(known, shown[tx_hash][0].height)):
            yield e.SpendLost(at=at, tx_hash=tx_hash)
    for tx_hash, spends in shown.items():
        yield from _spend(money.spends.get(tx_hash), spends, depth=(view.height, final), at=at)


def _moved(known: Spend, height: int | None) -> bool:
    return known.height is not None and known.height != height


def _spend(known: Spend | None, spends: list[SeenSpend], *, depth: tuple[int, int], at: Micros) -> Iterator[AnyEvent]:
    tx_hash, height, facts = spends[0].tx_hash, spends[0].height, spends[0].facts
    keys = {each.one_time_key for each in spends}
    # Inputs whose key image became known later were not told of the first time.
    there = known is not None and not known.lost and not _moved(known, height) and keys <= set(known.inputs)
    if not there:
        yield e.SpendSeen(at=at, tx_hash=tx_hash, inputs=tuple(sorted(keys)), facts=facts)
    if height is None:
        return
    if not there or (known and known.height is None):
        yield e.SpendConfirmed(at=at, tx_hash=tx_hash, height=height)
    chain_height, final = depth
    if chain_height - height >= final and not (there and known and known.final):
        yield e.SpendFinal(at=at, tx_hash=tx_hash)
