"""Agreements: the two parties settle by themselves, without arbiter and without fee."""

import pytest

from domain import commands as c
from domain import events as e
from domain.events import Purpose
from domain.ids import Micros, Sealed, UserId
from domain.roles import Role
from domain.states import CaseStatus, name
from domain.steps import Step
from domain.turns import awaited
from tests.given import (
    ARBITER,
    BUYER,
    HOUR,
    VENDOR,
    Life,
    awaiting_funding,
    completed,
    delivering,
    disputed,
    funded,
    output,
    releasing,
    spend,
    steps,
    view,
)


def offer(life: Life, bp: int | None = 5_000, *, by: UserId = BUYER, until: int | None = None) -> Life:
    moment = None if until is None else Micros(until)
    return life.when(c.ProposeAgreement(at=life.now, by=by, buyer_share_bp=bp, ship_until=moment))


def accept(life: Life, by: UserId = VENDOR, *, number: int = 1) -> Life:
    return life.when(c.AcceptAgreement(at=life.now, by=by, number=number))


# -- shares --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bp", "proposer", "cosigner"),
    [
        (0, Role.VENDOR, Role.BUYER),
        (5_000, Role.VENDOR, Role.BUYER),
        (5_001, Role.BUYER, Role.VENDOR),
        (10_000, Role.BUYER, Role.VENDOR),
    ],
)
def test_the_one_who_receives_more_proposes_and_no_fee_is_taken(bp: int, proposer: Role, cosigner: Role) -> None:
    life = accept(offer(funded(), bp)).then(e.AgreementAccepted, e.PayoutOpened, e.EpochOpened)
    payout = life.money.payout
    assert payout and (payout.purpose, payout.proposers, payout.cosigner) == (Purpose.AGREEMENT, (proposer,), cosigner)
    assert (payout.fee_atomic, payout.consents, name(life.state)) == (
        0,
        frozenset({Role.BUYER, Role.VENDOR}),
        "releasing",
    )


@pytest.mark.parametrize("bp", [-1, 10_001, None])
def test_an_offer_is_a_share_or_a_date(bp: int | None) -> None:
    offer(funded(), bp).refused("bp_invalid")
    offer(funded(), 5_000, until=funded().now + 60 * HOUR).refused("bp_invalid")


@pytest.mark.parametrize("life", [funded, delivering, releasing, disputed])
def test_the_parties_settle_whenever_there_is_money_not_on_its_way(life) -> None:
    played = accept(offer(life()))
    assert name(played.state) == "releasing"
    assert played.money.payout and played.money.payout.purpose is Purpose.AGREEMENT


def test_what_is_under_paid_is_settled_too() -> None:
    accept(offer(awaiting_funding().sees(view(output(amount=10**11))))).then_among(e.EpochOpened)


def test_an_agreement_ends_completed_as_agreed() -> None:
    life = accept(offer(funded())).give_proposal(Role.VENDOR).give_signature(Role.BUYER).broadcasts(Role.BUYER)
    life.sees(view(output(), height=130, spends=(spend(),)))
    assert (name(life.state), getattr(life.state, "outcome", None)) == ("completed", "agreed")


def test_an_open_case_closes_by_itself() -> None:
    life = accept(offer(disputed())).then_among(e.DisputeClosed)
    assert life.state.core.case and life.state.core.case.status is CaseStatus.CLOSED


def test_after_a_decision_there_is_nothing_to_settle() -> None:
    life = offer(disputed())
    life.when(
        c.ResolveDispute(
            at=life.now, by=ARBITER, verdict=e.Verdict.RELEASE, buyer_share_bp=None, reason=Sealed("because")
        )
    )
    accept(life).refused("case_closed")
    offer(life).refused("case_closed")


def test_after_a_broadcast_there_is_nothing_to_settle() -> None:
    life = offer(releasing().give_signature(Role.BUYER)).broadcasts(Role.BUYER)
    accept(life).refused("already_broadcast")
    offer(life).refused("already_broadcast")


def test_a_signed_release_that_was_not_sent_gives_way_to_an_agreement() -> None:
    life = accept(offer(releasing().give_signature(Role.BUYER)))
    assert steps(life)[Role.BUYER] is Step.EXPORT


# -- whose offer ---------------------------------------------------------------------------------------------


def test_nobody_accepts_their_own_offer() -> None:
    accept(offer(funded()), BUYER).refused("agreement_own")


@pytest.mark.parametrize("number", [0, 2])
def test_only_an_open_offer_is_accepted(number: int) -> None:
    accept(offer(funded()), number=number).refused("agreement_none")


def test_an_offer_is_withdrawn_by_its_maker_alone() -> None:
    life = offer(funded())
    life.when(c.WithdrawAgreement(at=life.now, by=VENDOR, number=1)).refused("agreement_none")
    life.when(c.WithdrawAgreement(at=life.now, by=BUYER, number=1)).then(e.AgreementWithdrawn)
    accept(life).refused("agreement_none")


def test_numbers_are_not_used_twice() -> None:
    life = offer(funded())
    life.when(c.WithdrawAgreement(at=life.now, by=BUYER, number=1))
    offer(life, 7_000)
    assert life.state.core.offers[0].number == 2


def test_one_acceptance_ends_all_other_offers() -> None:
    life = accept(offer(offer(funded()), 9_000, by=VENDOR))
    assert life.state.core.offers == ()


def test_an_offer_dies_with_the_order() -> None:
    life = offer(releasing()).give_signature(Role.BUYER).broadcasts(Role.BUYER)
    life.sees(view(output(), output("late"), height=150, spends=(spend(),)))
    assert name(life.state) == "completed"
    accept(life).refused("agreement_none")


def test_after_the_end_only_money_that_came_late_is_settled() -> None:
    offer(completed()).refused("nothing_to_pay")
    late = completed().sees(view(output(), output("late"), height=141, spends=(spend(),)))
    accept(offer(late)).then(e.AgreementAccepted, e.PayoutOpened, e.EpochOpened)
    assert late.money.payout and late.money.payout.epoch and late.money.payout.epoch.inputs == ("late",)


# -- a later deadline ----------------------------------------------------------------------------------------


def test_a_later_deadline_to_ship_is_agreed_and_the_reminder_comes_then() -> None:
    life = funded()
    until = Micros(life.now + 100 * HOUR)
    accept(offer(life, None, by=VENDOR, until=until), BUYER).then(e.AgreementAccepted)
    assert life.state.core.ship_until == until
    life.passes(99 * 3_600).refused("nothing_due")
    life.passes(3_600).then(e.ReminderDue)


def test_a_new_deadline_is_reminded_of_again() -> None:
    life = funded().passes(48 * 3_600).then(e.ReminderDue)
    accept(offer(life, None, by=VENDOR, until=life.now + 10 * HOUR), BUYER)
    life.passes(10 * 3_600).then(e.ReminderDue)


@pytest.mark.parametrize("hours", [1, 48, 90 * 24 + 1])
def test_a_later_deadline_is_later_and_within_ninety_days(hours: int) -> None:
    offer(funded(), None, by=VENDOR, until=funded().now + hours * HOUR).refused("deadline_invalid")


def test_a_deadline_that_has_passed_is_not_accepted() -> None:
    life = offer(funded(), None, by=VENDOR, until=funded().now + 50 * HOUR).later(51 * 3_600)
    accept(life, BUYER).refused("deadline_invalid")


def test_once_shipped_a_later_deadline_is_no_question_any_more() -> None:
    life = offer(funded(), None, by=VENDOR, until=funded().now + 50 * HOUR)
    life.when(c.Ship(at=life.now, by=VENDOR))
    accept(life, BUYER).refused("wrong_state")
    assert "accept_agreement" not in [wait.what for wait in awaited(life.state)]
