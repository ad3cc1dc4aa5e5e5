"""Recovery items: when people must look, and what administrators may do. Nobody's signature is ever replaced."""

from collections.abc import Iterator

from domain import commands as c
from domain import events as e
from domain.checks import shown_faults
from domain.difference import CHAIN_DIFFERS
from domain.events import AnyEvent
from domain.ids import Micros
from domain.payout import fee_due, is_change, usable
from domain.refusals import Refused
from domain.signing import epochs_exhausted, is_on_its_way, is_seen
from domain.states import (
    PAYING,
    TERMINAL,
    AwaitingFunding,
    Delivering,
    Disputed,
    Escrow,
    Money,
    RefundingRecoveryNeeded,
    ReleasingRecoveryNeeded,
    money_of,
)

ACTIONS = ("contact_arbiter", "mark_investigated", "escalate_governance")


def retry(state: Escrow, command: c.RetryTransaction) -> list[AnyEvent] | Refused:
    """Leads a stuck payout back to its state and gives it new epochs; what is on its way is only watched.

    After the end a payout (of later money, of the arbiter's fee) is retried once its epochs are used up, or while what
    it signed is not seen on the network.
    """
    money = money_of(state)
    late = isinstance(state, TERMINAL) and (epochs_exhausted(state) or _is_unseen(money))
    if money is None or not (late or isinstance(state, ReleasingRecoveryNeeded | RefundingRecoveryNeeded)):
        return Refused("wrong_state")
    taken = e.RecoveryActionTaken(at=command.at, action="retry_transaction", by=command.by, notes=command.notes)
    return [
        *_abandon_unsent(state, money, at=command.at),
        taken,
        *_closed(state, ("stuck", "epochs_exhausted"), at=command.at),
    ]


def _is_unseen(money: Money | None) -> bool:
    epoch = money.payout.epoch if money and money.payout else None
    return money is not None and epoch is not None and epoch.signature is not None and not is_seen(money, epoch)


def _abandon_unsent(state: Escrow, money: Money, *, at: Micros) -> Iterator[AnyEvent]:
    payout = money.payout
    epoch = payout.epoch if payout else None
    if payout is None or epoch is None or is_on_its_way(state, payout):
        return
    if epoch.signature is not None and payout.cosigner not in state.core.failures:
        return  # signed, and nothing speaks against sending it
    yield e.EpochAbandoned(
        at=at, payout=payout.number, number=epoch.number, by=None, reason="retried", export_void=True
    )


def _closed(state: Escrow, reasons: tuple[str, ...], *, at: Micros) -> Iterator[AnyEvent]:
    for reason in reasons:
        if reason in state.core.recovery:
            yield e.RecoveryItemClosed(at=at, reason=reason)


def note(state: Escrow, command: c.NoteRecovery) -> list[AnyEvent] | Refused:
    """Records another action of an administrator on an item or a dispute; `mark_investigated` closes open items."""
    if command.action not in ACTIONS or not (state.core.recovery or isinstance(state, Disputed)):
        return Refused("wrong_state")
    taken = e.RecoveryActionTaken(at=command.at, action=command.action, by=command.by, notes=command.notes)
    if command.action != "mark_investigated":
        return [taken]
    return [taken, *_closed(state, tuple(state.core.recovery), at=command.at)]


def item_to_open(state: Escrow, *, at: Micros) -> AnyEvent | None:
    """Opens the first recovery item whose reason holds and was never raised before."""
    for reason in _reasons(state):
        if f"recovery:{reason}" not in state.core.reminded and reason not in state.core.recovery:
            return e.RecoveryItemOpened(at=at, reason=reason)
    return None


def item_to_close(state: Escrow, *, at: Micros) -> AnyEvent | None:
    """Closes the first recovery item whose reason is gone by itself; the others are closed by people."""
    holding = set(_reasons(state))
    gone = (reason for reason in state.core.recovery if reason not in holding and _passes(state, reason))
    return next((e.RecoveryItemClosed(at=at, reason=reason) for reason in gone), None)


def _passes(state: Escrow, reason: str) -> bool:
    match reason:
        case "underpaid":
            return not isinstance(state, AwaitingFunding)
        case "stuck":
            return not isinstance(state, ReleasingRecoveryNeeded | RefundingRecoveryNeeded)
        case "dispute_undecided":
            return state.core.case is None or not state.core.case.undecided
        case "spent_by_others" | "payout_differs":
            return False  # nobody but people can say that it is dealt with
        case _:
            return True


def _reasons(state: Escrow) -> Iterator[str]:
    money = money_of(state)
    if money is None:
        return
    if state.core.differences:
        yield CHAIN_DIFFERS
    if isinstance(state, TERMINAL):
        yield from _after_the_end(state, money)
    if isinstance(state, (Delivering, Disputed, *PAYING)) and _deposit_gone(money):
        yield "deposit_lost"
    if any(not spend.lost and not _ours(money, spend.tx_hash) for spend in money.spends.values()):
        yield "spent_by_others"
    if any(shown_faults(money, epoch) for payout in money.payouts for epoch in payout.epochs):
        yield "payout_differs"
    if epochs_exhausted(state):
        yield "epochs_exhausted"


def _deposit_gone(money: Money) -> bool:
    # Change comes and goes with the payout that made it, of which other events tell.
    return any(each.lost and not is_change(money, each) for each in money.deposits.values())


def _after_the_end(state: Escrow, money: Money) -> Iterator[str]:
    if usable(money, state.core.terms):
        yield "late_deposit"
    if fee_due(money):
        yield "fee_unpaid"
    if any(spend.lost and spend.final for spend in money.spends.values()):
        yield "reorg_after_final"


def _ours(money: Money, tx_hash: str) -> bool:
    return any(tx_hash in payout.signed for payout in money.payouts)
