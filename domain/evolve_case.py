"""How events tell of trouble: disputes, time that passes, and recovery."""

from msgspec.structs import replace

from domain import events as e
from domain.difference import CHAIN_DIFFERS
from domain.evolve_money import with_core, with_money, with_payout
from domain.states import (
    TERMINAL,
    Case,
    CaseMessage,
    CaseStatus,
    Core,
    Disputed,
    Escrow,
    Money,
    Payout,
    Refunding,
    RefundingRecoveryNeeded,
    Releasing,
    ReleasingRecoveryNeeded,
    money_of,
)

# -- disputes ------------------------------------------------------------------------------------------------

CaseEvent = (
    e.DisputeOpened | e.DisputeClaimAdded | e.DisputeMessageAdded | e.DisputeReviewed | e.DisputeEscalated
    | e.DisputeDecided | e.DisputeResolved | e.DisputeClosed
)  # fmt: skip
"""A dispute, from its opening to its end."""


def case_part(state: Escrow, event: CaseEvent) -> Escrow | None:
    """Applies a dispute; None where it cannot be."""
    core, case, money = state.core, state.core.case, money_of(state)
    match event:
        case e.DisputeOpened() if money is not None:
            opened = Case(
                case_id=event.case_id,
                opened_by=event.by,
                opened_at=event.at,
                touched_at=event.at,
                claims={event.by: event.claim},
                late=isinstance(state, TERMINAL),
            )
            core = replace(core, case=opened)
            return with_core(state, core) if isinstance(state, TERMINAL) else Disputed(core=core, money=money)
        case e.DisputeClaimAdded() if case:
            claims = case.claims | {event.by: event.claim}
            return _with_case(state, replace(case, claims=claims, touched_at=event.at))
        case e.DisputeMessageAdded() if case:
            return _with_case(state, replace(case, messages=(*case.messages, _message(event))))
        case e.DisputeReviewed() if case:
            return _with_case(state, replace(case, status=CaseStatus.UNDER_REVIEW, touched_at=event.at))
        case e.DisputeEscalated() if case:
            return _with_case(state, replace(case, escalated_at=event.at))
        case e.DisputeDecided() if case and money is not None:
            return _decided(_with_case(state, _with_verdict(case, event)), money, event)
        case e.DisputeResolved() if case:
            return _with_case(state, replace(case, status=CaseStatus.RESOLVED, winner_tx_hash=event.tx_hash))
        case e.DisputeClosed() if case:
            return _with_case(state, replace(case, status=CaseStatus.CLOSED))
        case _:
            return None


def _message(event: e.DisputeMessageAdded) -> CaseMessage:
    return CaseMessage(number=event.number, by=event.by, at=event.at, text=event.message, reply_to=event.reply_to)


def _with_verdict(case: Case, event: e.DisputeDecided) -> Case:
    return replace(
        case,
        status=CaseStatus.UNDER_REVIEW,
        verdict=event.verdict,
        buyer_share_bp=event.buyer_share_bp,
        fee_atomic=event.fee_atomic,
        reason=event.reason,
        reason_salt=event.reason_salt,
        signed=event.signed,
        decided_at=event.at,
        touched_at=event.at,
    )


def _decided(state: Escrow, money: Money, event: e.DisputeDecided) -> Escrow:
    if isinstance(state, TERMINAL):
        return state
    if event.verdict is e.Verdict.REFUND:
        return Refunding(core=state.core, money=money)
    return Releasing(core=state.core, money=money)


# -- time and recovery ---------------------------------------------------------------------------------------

TimeEvent = (
    e.ReminderDue | e.StuckStageReached | e.ManualRecoveryRequired | e.RecoveryItemOpened | e.RecoveryItemClosed
    | e.KeyShredded | e.RecoveryActionTaken | e.ChainCompared
)  # fmt: skip
"""What time brings, and what people do about it."""


def time_part(state: Escrow, event: TimeEvent) -> Escrow | None:
    """Applies reminders, stages and recovery; None where they cannot be."""
    core = state.core
    match state, event:
        case _, e.ReminderDue():
            return with_core(state, replace(core, reminded=core.reminded | {event.kind}))
        case _, e.StuckStageReached():
            return with_core(state, replace(core, stage=event.stage))
        case Releasing(), e.ManualRecoveryRequired():
            return ReleasingRecoveryNeeded(core=core, money=state.money)
        case Refunding(), e.ManualRecoveryRequired():
            return RefundingRecoveryNeeded(core=core, money=state.money)
        case _, e.ChainCompared():
            return with_core(state, _compared(core, event))
        case _, e.RecoveryItemOpened():
            reminded = core.reminded | {f"recovery:{event.reason}"}
            return with_core(state, replace(core, recovery=(*core.recovery, event.reason), reminded=reminded))
        case _, e.RecoveryItemClosed():
            left = tuple(reason for reason in core.recovery if reason != event.reason)
            return with_core(state, replace(core, recovery=left))
        case _, e.KeyShredded() if isinstance(state, TERMINAL):
            return with_core(state, _shredded(core, event))
        case _, e.RecoveryActionTaken():
            return _retried(state) if event.action == "retry_transaction" else state
        case _:
            return None


def _compared(core: Core, event: e.ChainCompared) -> Core:
    # Other differences than those that people have looked at are looked at again.
    core = replace(core, differences=event.differences)
    return core if CHAIN_DIFFERS in core.recovery else raised_anew(core, CHAIN_DIFFERS)


def _shredded(core: Core, event: e.KeyShredded) -> Core:
    # What nobody can open any more is left out, so that every table made of states is blanked with it.
    return replace(core, case=_blanked(core.case) if core.case else None, shredded_at=event.at)


def _blanked(case: Case) -> Case:
    messages = tuple(replace(each, text=None) for each in case.messages)
    evidence = tuple(replace(each, description=None) for each in case.evidence)
    return replace(case, claims={}, messages=messages, evidence=evidence, reason=None, reason_salt=None)


def _retried(state: Escrow) -> Escrow:
    money = money_of(state)
    if money is None or money.payout is None:
        return state
    again = with_payout(money, _sent_again(money, replace(money.payout, retries=money.payout.retries + 1)))
    core = raised_anew(state.core, "epochs_exhausted")
    match state:
        case ReleasingRecoveryNeeded():
            return Releasing(core=core, money=again)
        case RefundingRecoveryNeeded():
            return Refunding(core=core, money=again)
        case _:
            return with_money(state, again)


def _sent_again(money: Money, payout: Payout) -> Payout:
    # Handed to the network and never seen on it: the same transaction is sent once more, which pays nothing twice.
    epoch = payout.epoch
    if epoch is None or epoch.signature is None or epoch.signature.tx_hash in money.spends:
        return payout
    return replace(payout, epochs=(*payout.epochs[:-1], replace(epoch, broadcast=False)))


def raised_anew(core: Core, reason: str) -> Core:
    """Lets a recovery item of this reason be opened again."""
    return replace(core, reminded=core.reminded - {f"recovery:{reason}"})


# -- small replacements --------------------------------------------------------------------------------------


def _with_case(state: Escrow, case: Case) -> Escrow:
    return with_core(state, replace(state.core, case=case))
