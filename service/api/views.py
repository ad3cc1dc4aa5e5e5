"""States as answers: pure functions, so that what is shown can be tested without a server."""

from collections.abc import Iterable, Iterator, Mapping

from domain.deadlines import deadlines
from domain.dispute import fee_tx_hash
from domain.ids import Micros
from domain.payout import change_of, proposed_sum, signable, unlocked_sum
from domain.roles import Role
from domain.setup import payin_address
from domain.states import (
    NAMES,
    TERMINAL,
    Cancelled,
    Case,
    CaseStatus,
    Epoch,
    Escrow,
    Money,
    Offer,
    Payout,
    Pending,
    SettingUp,
    SetupFailed,
    money_of,
    name,
)
from domain.terms import Terms
from domain.turns import Turn, awaited, turns
from eventstore.api import Recorded
from projections.models import outcome_of
from projections.rows import DisputeRow, EscrowRow, MessageRow, RecoveryRow
from schemas import answers as a
from schemas import case_answers as k
from schemas import orders as o
from schemas.answers import moment
from schemas.problems import Problem
from service.problems import problem

HOUR_US = 3_600_000_000
SETUP_STATES = frozenset({NAMES[Pending], NAMES[SettingUp]})
"""Before there is an address."""


class OpenedCase(a.Answer, frozen=True, kw_only=True):
    """The sealed texts of a case, opened."""

    claims: Mapping[Role, str | None]
    reason: str | None
    reason_salt: str | None = None


def summary(row: EscrowRow) -> a.EscrowSummary:
    """Shows one line of a list."""
    return a.EscrowSummary(
        escrow_id=row.escrow_id,
        order_id=row.order_id,
        buyer_id=row.buyer_id,
        vendor_id=row.vendor_id,
        arbiter_id=row.arbiter_id,
        amount=row.amount,
        state=row.state,
        outcome=row.outcome,
        created_at=moment(row.created_at),
        version=row.version,
    )


def dispute_line(row: DisputeRow) -> k.DisputeLine:
    """Shows one line of an arbiter's list."""
    return k.DisputeLine(
        case_id=row.case_id,
        escrow_id=row.escrow_id,
        order_id=row.order_id,
        buyer_id=row.buyer_id,
        vendor_id=row.vendor_id,
        amount=row.amount,
        state=row.state,
        status=row.status.value,
        opened_by=row.opened_by.value,
        opened_at=moment(row.opened_at),
        touched_at=moment(row.touched_at),
        escalated_at=_maybe(row.escalated_at),
        decided_at=_maybe(row.decided_at),
    )


def dispute(row: DisputeRow, opened: OpenedCase) -> k.DisputeCase:
    """Shows a case with its texts."""
    return k.DisputeCase(
        case_id=row.case_id,
        escrow_id=row.escrow_id,
        order_id=row.order_id,
        buyer_id=row.buyer_id,
        vendor_id=row.vendor_id,
        arbiter_id=row.arbiter_id,
        amount=row.amount,
        state=row.state,
        status=row.status.value,
        opened_by=row.opened_by.value,
        opened_at=moment(row.opened_at),
        touched_at=moment(row.touched_at),
        escalated_at=_maybe(row.escalated_at),
        buyer_claim=opened.claims.get(Role.BUYER),
        vendor_claim=opened.claims.get(Role.VENDOR),
        decision=row.decision,
        buyer_share_bp=row.buyer_share_bp,
        reason=opened.reason,
        fee_atomic=row.fee_atomic,
        decided_at=_maybe(row.decided_at),
        signed=_signed(row, opened),
        winner_tx_hash=row.winner_tx_hash,
        arbiter_fee_tx_hash=row.arbiter_fee_tx_hash,
    )


def _signed(row: DisputeRow, opened: OpenedCase) -> k.SignedDecision | None:
    if row.statement is None or row.signing_key is None or row.signature is None:
        return None
    return k.SignedDecision(
        statement=row.statement, key=row.signing_key, signature=row.signature, reason_salt=opened.reason_salt
    )


def message(row: MessageRow, text: str | None) -> k.CaseMessage:
    """Shows one message of a case."""
    return k.CaseMessage(
        number=row.number,
        sender_role=row.by.value,
        at=moment(row.at),
        message=text,
        reply_to=row.reply_to,
    )


def recovery_case(row: RecoveryRow, *, now: Micros) -> a.RecoveryCase:
    """Shows one escrow that people must look at."""
    return a.RecoveryCase(
        escrow_id=row.escrow_id,
        order_id=row.order_id,
        status=row.state,
        reasons=row.reasons,
        case_id=row.case_id,
        hours_stuck=max(0, now - row.active_at) // HOUR_US,
        active_at=moment(row.active_at),
        amount=row.amount,
    )


def escrow(state: Escrow, *, cursor: str, history: Iterable[Recorded], opened: OpenedCase | None) -> a.EscrowFacts:
    """Shows everything the three may know."""
    core, terms, money = state.core, state.core.terms, money_of(state)
    return a.EscrowFacts(
        escrow_id=terms.escrow_id,
        order_id=terms.order_id,
        buyer_id=terms.buyer_id,
        vendor_id=terms.vendor_id,
        arbiter_id=terms.arbiter_id,
        amount=terms.amount,
        network=terms.network,
        seats={role.value: kind.value for role, kind in terms.seats.items()},
        state=name(state),
        outcome=outcome_of(state),
        reason=state.reason if isinstance(state, Cancelled | SetupFailed) else None,
        created_at=moment(core.created_at),
        since=moment(core.since),
        secrets_shredded_at=_maybe(core.shredded_at),
        version=core.version,
        cursor=cursor,
        payin_address=_payin(state),
        payout_addresses_set=_roles(core.addresses),
        address_changes=_roles(core.address_changes),
        chain=_chain(money, terms) if money else None,
        awaited=_awaited(state),
        deadlines=tuple(a.DeadlineAt(kind=each.kind, due=moment(each.due)) for each in deadlines(state)),
        offers=tuple(_offer(each) for each in core.offers),
        case=_case(state, core.case, opened) if core.case and opened else None,
        exports=tuple(_exports(money)) if money else (),
        payouts=tuple(_payout(each, money) for each in money.payouts) if money else (),
        recovery=core.recovery,
        history=tuple(
            a.HistoryEntry(version=each.version, type=each.type, at=moment(Micros(each.occurred_at)))
            for each in history
        ),
    )


def order(state: Escrow) -> o.OrderAnswer:
    """Shows an order's escrow to whoever had it set up."""
    error: Problem | None = None
    match state:
        case SetupFailed() | Cancelled(money=None):
            error = problem("setup_ended", facts={"reason": state.reason})
        case _:
            pass
    return o.OrderAnswer(
        order_id=state.core.terms.order_id,
        status=name(state),
        escrow_id=state.core.terms.escrow_id,
        multisig_address=_payin(state),
        error=error,
    )


def _payin(state: Escrow) -> str | None:
    # Nobody is sent to pay an order that has ended, though its address could be paid for ever.
    return None if isinstance(state, TERMINAL) else payin_address(state)


def turn_list(state: Escrow) -> a.TurnList:
    """Shows what is asked of which seat now."""
    asked = tuple(_turn(state, each) for each in turns(state))
    return a.TurnList(escrow_id=state.core.terms.escrow_id, version=state.core.version, turns=asked)


def _turn(state: Escrow, turn: Turn) -> a.TurnFacts:
    failure = state.core.failures.get(turn.role)
    return a.TurnFacts(
        turn_id=turn.turn_id,
        role=turn.role.value,
        step=turn.step.value,
        since=moment(turn.since),
        failed_call=failure.call if failure else None,
        failed_reason=failure.reason if failure else None,
    )


def _roles(by_role: Iterable[Role]) -> tuple[str, ...]:
    there = set(by_role)
    return tuple(role.value for role in Role if role in there)


def _awaited(state: Escrow) -> tuple[a.WaitingFor, ...]:
    return tuple(
        a.WaitingFor(who=each.who.value, what=each.what, since=moment(each.since), until=_maybe(each.until))
        for each in awaited(state)
    )


def _maybe(at: Micros | None) -> str | None:
    return None if at is None else moment(at)


def _chain(money: Money, terms: Terms) -> a.ChainFacts:
    unlocked = unlocked_sum(money, terms)
    deposits = tuple(
        a.DepositFacts(
            tx_hash=each.tx_hash,
            amount=each.amount,
            height=each.height,
            unlocked=each.unlocked,
            lost=each.lost,
            spent_by=each.spent_by,
        )
        for each in money.deposits.values()
    )
    spends = tuple(
        a.SpendFacts(tx_hash=each.tx_hash, height=each.height, final=each.final, lost=each.lost)
        for each in money.spends.values()
    )
    return a.ChainFacts(
        unlocked_atomic=unlocked,
        funded=unlocked >= terms.amount,
        signable=signable(money, terms),
        deposits=deposits,
        spends=spends,
    )


def _offer(offer: Offer) -> a.OfferFacts:
    return a.OfferFacts(
        number=offer.number,
        by=offer.by.value,
        buyer_share_bp=offer.buyer_share_bp,
        ship_until=_maybe(offer.ship_until),
    )


def _case(state: Escrow, case: Case, opened: OpenedCase) -> a.CaseFacts:
    paid = case.winner_tx_hash if case.status is CaseStatus.RESOLVED else None
    return a.CaseFacts(
        case_id=case.case_id,
        status=case.status.value,
        opened_by=case.opened_by.value,
        opened_at=moment(case.opened_at),
        buyer_claim=opened.claims.get(Role.BUYER),
        vendor_claim=opened.claims.get(Role.VENDOR),
        decision=case.verdict.value if case.verdict else None,
        buyer_share_bp=case.buyer_share_bp,
        reason=opened.reason,
        fee_atomic=case.fee_atomic,
        decided_at=_maybe(case.decided_at),
        winner_tx_hash=paid,
        arbiter_fee_tx_hash=fee_tx_hash(state),
    )


def _exports(money: Money) -> Iterator[a.ExportFacts]:
    for role, each in sorted(money.exports.items()):
        yield a.ExportFacts(role=role.value, number=each.number, state=each.state.value, covers=len(each.covers))


def _payout(payout: Payout, money: Money) -> a.PayoutFacts:
    return a.PayoutFacts(
        number=payout.number,
        purpose=payout.purpose.value,
        proposers=tuple(role.value for role in payout.proposers),
        cosigner=payout.cosigner.value,
        buyer_share_bp=payout.buyer_share_bp,
        fee_atomic=payout.fee_atomic,
        consents=_roles(payout.consents),
        ended=payout.ended,
        epochs=tuple(_epoch(each, money) for each in payout.epochs),
    )


def _epoch(epoch: Epoch, money: Money) -> a.EpochFacts:
    proposal, band = epoch.proposal, epoch.fee_band
    shares = proposal.shares if proposal else ()
    return a.EpochFacts(
        number=epoch.number,
        inputs_atomic=proposed_sum(money, epoch),
        since=moment(epoch.since),
        proposer=proposal.proposer.value if proposal else None,
        network_fee_atomic=proposal.network_fee if proposal else None,
        fee_band=a.FeeBandFacts(least=band.least, most=band.most) if band else None,
        change_atomic=change_of(money, epoch) if proposal else None,
        shares=tuple(a.ShareFacts(roles=_roles(share.roles), amount=share.amount) for share in shares),
        tx_hash=epoch.signature.tx_hash if epoch.signature else None,
        broadcast=epoch.broadcast,
        ended=epoch.ended,
    )
