"""Disputes: one case an escrow, both claims, one final decision, and the payout it leads to."""

from domain import commands as c
from domain import events as e
from domain.amounts import Amounts, amounts_of
from domain.events import AnyEvent, Purpose, Verdict
from domain.ids import Micros, TxHash
from domain.payout import BP_ALL, all_gone, fee_due, fee_inputs, fee_paid_by, kept_outputs, unspent
from domain.refusals import Refused
from domain.roles import PARTIES, Role
from domain.signing import drop_payout, may_be_broadcast, open_payout
from domain.states import (
    PAYING,
    TERMINAL,
    AwaitingFunding,
    Case,
    CaseStatus,
    Delivering,
    Disputed,
    Escrow,
    Funded,
    Money,
    money_of,
)
from domain.terms import arbiter_fee

MESSAGES_MAX = 100
"""Messages of one of the three in one case: nobody takes the others' room."""
OVERTAKEN = "spent_otherwise"
"""Why a payout after the end is dropped by itself."""


def open_dispute(state: Escrow, command: c.OpenDispute) -> list[AnyEvent] | Refused:
    """Opens the case; from the first deposit seen until a payout may be on its way. It needs no wallet and no peer."""
    role = state.core.terms.role_of(command.by)
    if role not in PARTIES:
        return Refused("not_a_party")
    if state.core.case is not None:
        return Refused("case_exists")
    money = money_of(state)
    refused = _cannot_open(state, money)
    if refused:
        return refused
    opened = e.DisputeOpened(at=command.at, case_id=command.case_id, by=role, claim=command.claim)
    return [*drop_payout(state, at=command.at, reason="disputed"), opened]


def _cannot_open(state: Escrow, money: Money | None) -> Refused | None:
    there = money is not None and bool(unspent(money))
    if money is not None and may_be_broadcast(state, money.payout):
        return Refused("already_broadcast")
    if isinstance(state, (Funded, Delivering, *PAYING)):
        return None
    if isinstance(state, (AwaitingFunding, *TERMINAL)) and there:
        return None
    return Refused("wrong_state")


def add_claim(state: Escrow, command: c.AddClaim) -> list[AnyEvent] | Refused:
    """Takes the claim of the side that did not open the case, once."""
    role, case = state.core.terms.role_of(command.by), state.core.case
    if role not in PARTIES:
        return Refused("not_a_party")
    if case is None:
        return Refused("no_case")
    if not case.undecided:
        return Refused("case_closed")
    if role in case.claims:
        return Refused("already_given")
    return [e.DisputeClaimAdded(at=command.at, by=role, claim=command.claim)]


def add_message(state: Escrow, command: c.AddMessage) -> list[AnyEvent] | Refused:
    """Takes what one of the three says, until the case is over; the arbiter's first word takes the case up."""
    role, case = state.core.terms.role_of(command.by), state.core.case
    if role is None:
        return Refused("not_of_the_case")
    if case is None:
        return Refused("no_case")
    if case.over:
        return Refused("case_closed")
    if command.reply_to is not None and not 1 <= command.reply_to <= len(case.messages):
        return Refused("message_unknown")
    if sum(each.by is role for each in case.messages) >= MESSAGES_MAX:
        return Refused("messages_full", {"messages_max": MESSAGES_MAX})
    said = e.DisputeMessageAdded(
        at=command.at,
        number=len(case.messages) + 1,
        by=role,
        message=command.message,
        reply_to=command.reply_to,
    )
    return [*_taken_up(case, role, at=command.at), said]


def _taken_up(case: Case, role: Role, *, at: Micros) -> list[AnyEvent]:
    first = role is Role.ARBITER and case.status is CaseStatus.OPEN
    return [e.DisputeReviewed(at=at)] if first else []


def review(state: Escrow, command: c.ReviewDispute) -> list[AnyEvent] | Refused:
    """Takes a case up."""
    if state.core.terms.role_of(command.by) is not Role.ARBITER:
        return Refused("not_the_arbiter")
    case = state.core.case
    if case is None:
        return Refused("no_case")
    return _taken_up(case, Role.ARBITER, at=command.at) if case.undecided else Refused("case_closed")


def resolve(state: Escrow, command: c.ResolveDispute) -> list[AnyEvent] | Refused:
    """Decides a case, for good; a party proposes the payout, the arbiter cosigns it."""
    if state.core.terms.role_of(command.by) is not Role.ARBITER:
        return Refused("not_the_arbiter")
    case, money = state.core.case, money_of(state)
    if case is None or money is None:
        return Refused("no_case")
    if not case.undecided:
        return Refused("case_closed")
    if not isinstance(state, (Disputed, *TERMINAL)):
        return Refused("wrong_state")
    if not command.reason:
        return Refused("reason_required")
    bp = _buyer_share(command)
    if bp is None:
        return Refused("bp_invalid")
    decided = _decision(state, money, case, command, buyer_share_bp=bp)
    return decided if isinstance(decided, Refused) else _as_confirmed(state, decided, confirmed=command.confirmed)


def _buyer_share(command: c.ResolveDispute) -> int | None:
    given = command.buyer_share_bp
    match command.verdict:
        case Verdict.RELEASE:
            return 0 if given is None else None
        case Verdict.REFUND:
            return BP_ALL if given is None else None
        case Verdict.SPLIT:
            return given if given is not None and 0 <= given <= BP_ALL else None


def _decision(
    state: Escrow, money: Money, case: Case, command: c.ResolveDispute, *, buyer_share_bp: int
) -> list[AnyEvent] | Refused:
    # From the amount and not from what is there now: a deposit lost to a reorg may return. The payout caps it.
    fee = arbiter_fee(state.core.terms)
    if fee and Role.ARBITER not in state.core.addresses:
        return Refused("payout_address_missing", {"role": Role.ARBITER.value})
    decided = e.DisputeDecided(
        at=command.at,
        verdict=command.verdict,
        buyer_share_bp=command.buyer_share_bp,
        fee_atomic=fee,
        reason=command.reason,
        reason_salt=command.reason_salt,
        signed=command.signed,
    )
    payout = open_payout(
        money,
        at=command.at,
        purpose=Purpose.RULING,
        proposers=_proposers(command.verdict),
        cosigner=Role.ARBITER,
        consents=(Role.ARBITER,),
        buyer_share_bp=buyer_share_bp,
        surplus_to_buyer=command.verdict is Verdict.RELEASE,
        fee_atomic=fee,
    )
    return [*_taken_up(case, Role.ARBITER, at=command.at), decided, payout]


def _as_confirmed(state: Escrow, decided: list[AnyEvent], *, confirmed: Amounts | None) -> list[AnyEvent] | Refused:
    # Here and not before the command: deposits come and go until the very append.
    as_told = confirmed is None or confirmed == amounts_of(state, decided)
    return decided if as_told else Refused("amounts_changed")


def open_fee(state: Escrow, *, at: Micros) -> e.PayoutOpened | None:
    """Begins the arbiter's own payout once what was kept back can be spent: either party proposes, it cosigns."""
    money = money_of(state)
    if not isinstance(state, TERMINAL) or money is None or money.payout is not None:
        return None
    if not fee_due(money) or not fee_inputs(money, state.core.terms):
        return None
    return open_payout(
        money,
        at=at,
        purpose=Purpose.FEE,
        proposers=PARTIES,
        cosigner=Role.ARBITER,
        consents=(Role.ARBITER,),
        buyer_share_bp=0,
        fee_atomic=arbiter_fee(state.core.terms),
    )


def drop_overtaken(state: Escrow, *, at: Micros) -> e.PayoutDropped | None:
    """Ends a payout after the end when others, or an earlier one, took for good what it was to pay out."""
    money = money_of(state)
    payout = money.payout if money else None
    if money is None or payout is None or payout.epoch is not None or not isinstance(state, TERMINAL):
        return None
    gone = all_gone(money, payout, state.core.terms)
    return e.PayoutDropped(at=at, number=payout.number, reason=OVERTAKEN) if gone else None


def fee_tx_hash(state: Escrow) -> TxHash | None:
    """Names the transaction that paid the arbiter of a resolved case; None without a fee, or before it is final."""
    case, money = state.core.case, money_of(state)
    if case is None or money is None or not case.fee_atomic or case.winner_tx_hash is None:
        return None
    return fee_paid_by(money) if kept_outputs(money) else case.winner_tx_hash


def _proposers(verdict: Verdict) -> tuple[Role, ...]:
    match verdict:
        case Verdict.RELEASE:
            return (Role.VENDOR,)
        case Verdict.REFUND:
            return (Role.BUYER,)
        case Verdict.SPLIT:
            return PARTIES
