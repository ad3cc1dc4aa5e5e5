"""`decide(state, command) -> [event] | Refused`: every rule of an escrow, in one place.

A command is answered by its own rule; what follows by itself (three confirmations make an address, unlocked deposits
fund, an unspent payout gets its next epoch, a final transaction ends the order) is added by `_follow`, one event at
a time, until nothing follows.
"""

from collections.abc import Callable
from typing import assert_never

from msgspec.structs import replace

from domain import (
    backup,
    deadlines,
    dispute,
    evidence,
    key_images,
    ledger,
    people,
    reconcile,
    recovery,
    setup,
    shredding,
    signing,
)
from domain import commands as c
from domain import events as e
from domain.commands import AnyCommand
from domain.draw import draw_holds
from domain.events import AnyEvent
from domain.evolve import evolve, fold
from domain.ids import Micros
from domain.money import ATOMIC_MAX
from domain.payout import outcome, unlocked_sum
from domain.refusals import Refused
from domain.states import (
    TERMINAL,
    AwaitingFunding,
    Escrow,
    Failure,
    Funded,
    Money,
    Payout,
    Pending,
    SettingUp,
    Spend,
    money_of,
)
from domain.turns import turn_of

FOLLOW_MAX = 64

Decision = tuple[AnyEvent, ...] | Refused


def decide(state: Escrow | None, command: AnyCommand) -> Decision:
    """Answers a command with what happens (nothing at all is possible), or refuses it and changes nothing."""
    if isinstance(command, c.CreateEscrow):
        return _create(command) if state is None else Refused("escrow_exists")
    if state is None:
        return Refused("no_such_escrow")
    if state.core.shredded_at is not None and not isinstance(command, c.ShredKey):
        return Refused("secrets_shredded")
    later = replace(command, at=max(command.at, state.core.last_at))
    decided = _rule(state, later)
    if isinstance(decided, Refused):
        return decided
    return _with_what_follows(state, decided, at=later.at)


def _create(command: c.CreateEscrow) -> Decision:
    terms = command.terms
    if len({terms.buyer_id, terms.vendor_id, terms.arbiter_id}) < 3:
        return Refused("three_must_differ")
    if not 0 < terms.amount <= ATOMIC_MAX:
        return Refused("amount_invalid")
    assert command.draw is None or draw_holds(terms, command.draw), "the arbiter is not the one that was drawn"
    created = e.EscrowCreated(at=command.at, terms=terms, created_by=command.by, draw=command.draw)
    return _with_what_follows(None, [created], at=command.at)


def _rule(state: Escrow, command: AnyCommand) -> list[AnyEvent] | Refused:
    match command:
        case c.CreateEscrow():
            return Refused("escrow_exists")
        case c.SetPayoutAddress():
            return people.set_address(state, command)
        case c.ConsentAddress():
            return people.consent_address(state, command)
        case c.CancelEscrow():
            return people.cancel(state, command)
        case c.Ship():
            return people.ship(state, command)
        case c.ConfirmDelivery():
            return people.confirm_delivery(state, command)
        case c.GrantRefund():
            return people.grant_refund(state, command)
        case c.ProposeAgreement():
            return people.propose_agreement(state, command)
        case c.AcceptAgreement():
            return people.accept_agreement(state, command)
        case c.WithdrawAgreement():
            return people.withdraw_agreement(state, command)
        case c.OpenDispute():
            return dispute.open_dispute(state, command)
        case c.AddClaim():
            return dispute.add_claim(state, command)
        case c.AddMessage():
            return dispute.add_message(state, command)
        case c.ReviewDispute():
            return dispute.review(state, command)
        case c.ResolveDispute():
            return dispute.resolve(state, command)
        case c.AddEvidence():
            return evidence.add(state, command)
        case c.ShowEvidence():
            return evidence.show(state, command)
        case c.ObserveChain():
            return ledger.observe(state, command)
        case c.ReportArbiterReady():
            return setup.report_ready(state, command)
        case c.ReportComparison():
            return reconcile.compared(state, command)
        case c.PassTime():
            return deadlines.pass_time(state, command)
        case c.RetryTransaction():
            return recovery.retry(state, command)
        case c.NoteRecovery():
            return recovery.note(state, command)
        case c.ShredKey():
            return shredding.shred(state, command)
        case _:
            return _seat_rule(state, command)


SeatCommand = (
    c.JoinSeat
    | c.ClaimWallet
    | c.IntendCall
    | c.FailTurn
    | c.GiveSetupMessage
    | c.BackUpWallet
    | c.ConfirmAddress
    | c.RestoreWallet
    | c.GiveExport
    | c.TellKeyImages
    | c.GiveProposal
    | c.SetFeeBand
    | c.GiveSignature
    | c.ReportBroadcast
    | c.AbandonEpoch
)


def _seat_rule(state: Escrow, command: SeatCommand) -> list[AnyEvent] | Refused:
    match command:
        case c.JoinSeat():
            return setup.join(state, command)
        case c.ClaimWallet():
            return setup.claim_wallet(state, command)
        case c.IntendCall():
            return _intend(state, command)
        case c.FailTurn():
            return _fail(state, command)
        case c.GiveSetupMessage():
            return setup.give_message(state, command)
        case c.BackUpWallet():
            return backup.back_up(state, command)
        case c.RestoreWallet():
            return backup.restore(state, command)
        case c.ConfirmAddress():
            return setup.confirm_address(state, command)
        case c.GiveExport():
            return signing.give_export(state, command)
        case c.TellKeyImages():
            return key_images.tell(state, command)
        case c.GiveProposal():
            return signing.give_proposal(state, command)
        case c.SetFeeBand():
            return signing.set_fee_band(state, command)
        case c.GiveSignature():
            return signing.give_signature(state, command)
        case c.ReportBroadcast():
            return signing.report_broadcast(state, command)
        case c.AbandonEpoch():
            return signing.abandon_epoch(state, command)
        case _:
            assert_never(command)


def _intend(state: Escrow, command: c.IntendCall) -> list[AnyEvent] | Refused:
    turn = turn_of(state, command.role)
    if turn is None or turn.turn_id != command.turn_id or turn.step is not command.step:
        return Refused("not_awaited")
    seat = state.core.seats.get(command.role)
    if seat is None:
        return Refused("not_awaited")  # to join or to be given a wallet is no wallet call
    if seat.wallet_id != command.wallet_id:
        return Refused("wallet_other")
    intended = e.CallIntended(
        at=command.at,
        role=command.role,
        step=command.step,
        turn_id=command.turn_id,
        wallet_id=command.wallet_id,
    )
    return [intended]


def _fail(state: Escrow, command: c.FailTurn) -> list[AnyEvent] | Refused:
    intent, turn = state.core.intents.get(command.role), turn_of(state, command.role)
    announced = intent is not None and intent.turn_id == command.turn_id
    if not announced and (turn is None or turn.turn_id != command.turn_id):
        return Refused("not_awaited")  # a failure told late says nothing about the call that is under way now
    failure = Failure(call=command.call, reason=command.reason)
    if state.core.failures.get(command.role) == failure and not announced:
        return []  # said already; a turn that fails the same way again is not news
    return [
        e.TurnFailed(
            at=command.at,
            role=command.role,
            step=command.step,
            turn_id=command.turn_id,
            call=command.call,
            reason=command.reason,
        )
    ]


# -- what follows by itself ----------------------------------------------------------------------------------


def _with_what_follows(state: Escrow | None, decided: list[AnyEvent], *, at: Micros) -> tuple[AnyEvent, ...]:
    events = list(decided)
    now = fold(events, start=state)
    while now is not None and events:
        following = _follow(now, at=at)
        if following is None:
            return tuple(events)
        assert len(events) < FOLLOW_MAX + len(decided), "what follows never ends"
        events.append(following)
        now = evolve(now, following)
    return tuple(events)


def _follow(state: Escrow, *, at: Micros) -> AnyEvent | None:
    rules: tuple[Callable[..., AnyEvent | None], ...] = (
        _setup_follows,
        _funding_follows,
        _payment_follows,
        _case_follows,
        dispute.open_fee,
        signing.worthless_epoch,
        dispute.drop_overtaken,
        signing.next_epoch,
        recovery.item_to_close,
        recovery.item_to_open,
    )
    return next((event for event in (rule(state, at=at) for rule in rules) if event is not None), None)


def _setup_follows(state: Escrow, *, at: Micros) -> AnyEvent | None:
    match state:
        case Pending() if setup.seats_present(state):
            return e.SetupStarted(at=at)
        case SettingUp():
            return setup.conclude(state, at=at)
        case _:
            return None


def _funding_follows(state: Escrow, *, at: Micros) -> AnyEvent | None:
    match state:
        case AwaitingFunding() if (there := unlocked_sum(state.money, state.core.terms)) >= state.core.terms.amount:
            return e.Funded(at=at, amount=there)
        case Funded() if (there := unlocked_sum(state.money, state.core.terms)) < state.core.terms.amount:
            return e.FundingLost(at=at, amount=there)
        case _:
            return None


def _payment_follows(state: Escrow, *, at: Micros) -> AnyEvent | None:
    money = money_of(state)
    final = _unrecorded_payment(state, money) if money else None
    if money is None or final is None:
        return None
    payout = paid_by(money, final)
    if isinstance(state, TERMINAL):
        fee = payout is not None and payout.purpose is e.Purpose.FEE
        return (e.ArbiterFeePaid if fee else e.LeftoverPaid)(at=at, tx_hash=final.tx_hash)
    ended = outcome(payout)
    if ended == "refunded":
        return e.EscrowRefunded(at=at, tx_hash=final.tx_hash)
    return e.EscrowCompleted(at=at, outcome=ended, tx_hash=final.tx_hash)


def _unrecorded_payment(state: Escrow, money: Money) -> Spend | None:
    final = next((spend for spend in money.spends.values() if spend.final and not spend.lost), None)
    if not isinstance(state, TERMINAL):
        return final
    # Of any epoch: one given up during a reorg may be mined all the same.
    return _final_of(money, money.payout) if money.payout else None


def paid_by(money: Money, spend: Spend) -> Payout | None:
    """Finds the payout whose signed transaction this is; None when others made it."""
    return next((payout for payout in money.payouts if spend.tx_hash in payout.signed), None)


def _case_follows(state: Escrow, *, at: Micros) -> AnyEvent | None:
    case, money = state.core.case, money_of(state)
    if case is None or money is None or case.over:
        return None
    ruling = next((each for each in money.payouts if each.purpose is e.Purpose.RULING), None)
    if ruling and ruling.ended == "final" and (paid := _final_of(money, ruling)):
        return e.DisputeResolved(at=at, tx_hash=paid.tx_hash)
    over = isinstance(state, TERMINAL) and any(
        spend.final and not spend.lost and spend.height is not None for spend in money.spends.values()
    )
    # A case about money that came after the end stays open until its own payout is over.
    waits = case.late and not (ruling and ruling.ended == dispute.OVERTAKEN)
    return e.DisputeClosed(at=at, reason="paid_otherwise") if over and not waits else None


def _final_of(money: Money, payout: Payout) -> Spend | None:
    return next(
        (
            spend
            for spend in money.spends.values()
            if spend.final and not spend.lost and paid_by(money, spend) is payout
        ),
        None,
    )
