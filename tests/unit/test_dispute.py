"""Disputes: one case an escrow, both claims kept, one decision, and the payout it leads to."""

import pytest

from domain import commands as c
from domain import events as e
from domain.events import Purpose, Verdict
from domain.ids import CaseId, Sealed, UserId
from domain.roles import PARTIES, Role
from domain.states import Case, CaseStatus, name
from domain.steps import Step
from tests.given import (
    ARBITER,
    BUYER,
    VENDOR,
    Life,
    all_rounds,
    awaiting_funding,
    completed,
    confirm,
    created,
    delivering,
    disputed,
    event_kinds,
    funded,
    output,
    releasing,
    spend,
    steps,
    view,
    with_addresses,
)


def dispute(life: Life, by: UserId = BUYER) -> Life:
    return life.when(c.OpenDispute(at=life.now, by=by, case_id=CaseId("case-1"), claim=Sealed("claim")))


def resolve(
    life: Life,
    verdict: Verdict = Verdict.RELEASE,
    *,
    bp: int | None = None,
    reason: str = "because",
    by: UserId = ARBITER,
) -> Life:
    return life.when(c.ResolveDispute(at=life.now, by=by, verdict=verdict, buyer_share_bp=bp, reason=Sealed(reason)))


def case_of(life: Life) -> Case:
    assert life.state.core.case is not None
    return life.state.core.case


# -- opening -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [BUYER, VENDOR])
@pytest.mark.parametrize("life", [funded, delivering, releasing])
def test_either_party_opens_a_case_while_money_is_there(life, by: UserId) -> None:
    played = dispute(life(), by).then_among(e.DisputeOpened)
    assert name(played.state) == "disputed"
    case = case_of(played)
    assert (case.opened_by, case.claims, case.late) == (
        Role.BUYER if by == BUYER else Role.VENDOR,
        {case.opened_by: "claim"},
        False,
    )


def test_a_case_can_be_opened_from_the_first_deposit_seen() -> None:
    dispute(awaiting_funding()).refused("wrong_state")
    dispute(awaiting_funding().sees(view(output(height=None, unlocked=False)))).then(e.DisputeOpened)


def test_a_case_needs_no_wallet_and_no_export() -> None:
    dispute(awaiting_funding().sees(view(output()))).then(e.DisputeOpened)


def test_an_escrow_has_one_case() -> None:
    dispute(disputed(), VENDOR).refused("case_exists")


def test_a_case_drops_the_payout_that_was_prepared() -> None:
    life = dispute(delivering()).then(e.EpochAbandoned, e.PayoutDropped, e.DisputeOpened)
    assert life.money.payout is None
    assert steps(life) == {}


def test_a_disputed_escrow_is_funded_no_more_and_loses_no_case_to_a_reorg() -> None:
    life = disputed().sees(view()).sees(view(output()))
    assert name(life.state) == "disputed"


# -- claims and review ---------------------------------------------------------------------------------------


def test_the_other_side_answers_once() -> None:
    life = disputed()
    answer = c.AddClaim(at=life.now, by=VENDOR, claim=Sealed("other"))
    life.when(answer).then(e.DisputeClaimAdded)
    assert case_of(life).claims == {Role.BUYER: "claim", Role.VENDOR: "other"}
    life.when(answer).refused("already_given")


def test_the_side_that_opened_has_given_its_claim() -> None:
    life = disputed()
    life.when(c.AddClaim(at=life.now, by=BUYER, claim=Sealed("more"))).refused("already_given")


def test_no_claim_is_added_to_a_decided_case() -> None:
    life = resolve(disputed())
    life.when(c.AddClaim(at=life.now, by=VENDOR, claim=Sealed("late"))).refused("case_closed")


def test_the_arbiters_first_act_takes_the_case_up_once() -> None:
    life = disputed()
    life.when(c.ReviewDispute(at=life.now, by=ARBITER)).then(e.DisputeReviewed)
    assert case_of(life).status is CaseStatus.UNDER_REVIEW
    life.when(c.ReviewDispute(at=life.now, by=ARBITER)).then()


def test_a_decided_case_is_not_reviewed() -> None:
    life = resolve(disputed())
    life.when(c.ReviewDispute(at=life.now, by=ARBITER)).refused("case_closed")


# -- deciding ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "bp", "proposers", "state", "share"),
    [
        (Verdict.RELEASE, None, (Role.VENDOR,), "releasing", 0),
        (Verdict.REFUND, None, (Role.BUYER,), "refunding", 10_000),
        (Verdict.SPLIT, 2_500, PARTIES, "releasing", 2_500),
        (Verdict.SPLIT, 0, PARTIES, "releasing", 0),
        (Verdict.SPLIT, 10_000, PARTIES, "releasing", 10_000),
    ],
)
def test_a_decision_opens_a_payout_that_a_winner_proposes_and_the_arbiter_cosigns(
    verdict: Verdict, bp: int | None, proposers: tuple[Role, ...], state: str, share: int
) -> None:
    life = resolve(disputed(), verdict, bp=bp)
    life.then(e.DisputeReviewed, e.DisputeDecided, e.PayoutOpened, e.EpochOpened)
    payout = life.money.payout
    assert payout and (payout.purpose, payout.proposers, payout.cosigner) == (Purpose.RULING, proposers, Role.ARBITER)
    assert (payout.buyer_share_bp, payout.fee_atomic, name(life.state)) == (share, 40_000_000_000, state)
    assert steps(life) == dict.fromkeys(proposers, Step.PROPOSE)


def test_a_decision_is_final() -> None:
    resolve(resolve(disputed()), Verdict.REFUND).refused("case_closed")


@pytest.mark.parametrize(
    ("verdict", "bp"),
    [
        (Verdict.RELEASE, 1),
        (Verdict.REFUND, 10_000),
        (Verdict.SPLIT, None),
        (Verdict.SPLIT, -1),
        (Verdict.SPLIT, 10_001),
    ],
)
def test_a_share_goes_with_a_split_and_is_a_share(verdict: Verdict, bp: int | None) -> None:
    resolve(disputed(), verdict, bp=bp).refused("bp_invalid")


def test_a_decision_says_why() -> None:
    resolve(disputed(), reason="").refused("reason_required")


def test_a_fee_needs_the_arbiters_address() -> None:
    life = all_rounds(with_addresses(created(), Role.BUYER, Role.VENDOR))
    for role in Role:
        confirm(life, role)
    dispute(life.sees(view(output())))
    resolve(life).refused("payout_address_missing")
    with_addresses(life, Role.ARBITER)
    resolve(life).then_among(e.DisputeDecided)


def test_the_fee_is_of_the_amount_even_while_a_deposit_is_lost() -> None:
    life = resolve(disputed().sees(view()))
    assert case_of(life).fee_atomic == 40_000_000_000


def test_in_a_split_whichever_party_proposes_first_serves() -> None:
    life = resolve(disputed(), Verdict.SPLIT, bp=5_000).give_proposal(Role.BUYER).then(e.PayoutProposed)
    assert steps(life) == {Role.ARBITER: Step.COSIGN}
    life.give_proposal(Role.VENDOR).refused("already_given")


def test_an_absent_loser_blocks_no_ruling() -> None:
    life = dispute(awaiting_funding().sees(view(output()))).give_export(Role.ARBITER)
    resolve(life, Verdict.REFUND).give_proposal(Role.BUYER).give_signature(Role.ARBITER).broadcasts(Role.ARBITER)
    life.sees(view(output(), height=130, spends=(spend(),)))
    assert name(life.state) == "refunded"


def test_a_case_is_resolved_only_when_its_payout_is_final() -> None:
    life = resolve(disputed(), Verdict.SPLIT, bp=5_000).give_proposal(Role.BUYER).give_signature(Role.ARBITER)
    life.broadcasts(Role.ARBITER).sees(view(output(), height=121, spends=(spend(),)))
    assert (case_of(life).status, case_of(life).undecided, case_of(life).over) == (
        CaseStatus.UNDER_REVIEW,
        False,
        False,
    )
    life.sees(view(output(), height=130, spends=(spend(),)))
    case = case_of(life)
    assert (case.status, case.winner_tx_hash, case.decided_at) == (CaseStatus.RESOLVED, "payout-tx", life.now)
    assert getattr(life.state, "outcome", None) == "split"


# -- other endings -------------------------------------------------------------------------------------------


def test_money_paid_past_the_decision_closes_the_case_as_paid_otherwise() -> None:
    life = resolve(disputed()).sees(view(output(), height=130, spends=(spend(tx_hash="foreign"),)))
    assert case_of(life).status is CaseStatus.CLOSED
    closed = next(event for event in life.events if isinstance(event, e.DisputeClosed))
    assert closed.reason == "paid_otherwise"


def test_a_case_about_late_money_stays_open_until_its_own_payout_is_final() -> None:
    late = (output(), output("late"))
    life = dispute(completed().sees(view(*late, height=141, spends=(spend(),))))
    life.then(e.DisputeOpened)
    assert (case_of(life).late, case_of(life).status) == (True, CaseStatus.OPEN)
    resolve(life, Verdict.REFUND).then_among(e.PayoutOpened)
    assert name(life.state) == "completed"
    life.give_export(Role.ARBITER).give_proposal(Role.BUYER)
    life.give_signature(Role.ARBITER, tx_hash="second").broadcasts(Role.ARBITER, tx_hash="second")
    life.sees(view(*late, height=160, spends=(spend(), spend("late", tx_hash="second", height=145))))
    assert case_of(life).status is CaseStatus.RESOLVED
    assert e.LeftoverPaid in event_kinds(life)
    assert name(life.state) == "completed"


def test_without_late_money_there_is_nothing_to_dispute_after_the_end() -> None:
    dispute(completed()).refused("wrong_state")
