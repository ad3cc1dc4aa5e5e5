"""The conversation in a case: who may speak, until when, how much, and what the arbiter's first word does."""

import pytest

from domain import commands as c
from domain import events as e
from domain.dispute import MESSAGES_MAX
from domain.events import Verdict
from domain.ids import CaseId, Sealed, UserId
from domain.roles import Role
from domain.states import Case, CaseStatus
from projections.models import disputes, messages
from tests.given import (
    ARBITER,
    BUYER,
    USERS,
    VENDOR,
    Life,
    awaiting_funding,
    completed,
    disputed,
    funded,
    output,
    spend,
    view,
)
from tests.model_worlds import standing_of, talked


def say(life: Life, by: UserId, text: str = "said", *, reply_to: int | None = None) -> Life:
    return life.when(c.AddMessage(at=life.now, by=by, message=Sealed(text), reply_to=reply_to))


def decide(life: Life) -> Life:
    ruling = c.ResolveDispute(
        at=life.now, by=ARBITER, verdict=Verdict.REFUND, buyer_share_bp=None, reason=Sealed("reason")
    )
    return life.when(ruling)


def case_of(life: Life) -> Case:
    assert life.state.core.case is not None
    return life.state.core.case


def test_each_of_the_three_may_speak_and_what_they_say_is_counted() -> None:
    assert [(each.number, each.by, each.reply_to) for each in case_of(talked()).messages] == [
        (1, Role.BUYER, None),
        (2, Role.ARBITER, 1),
        (3, Role.VENDOR, 2),
    ]


def test_the_arbiters_first_word_takes_the_case_up() -> None:
    life = disputed()
    say(life, BUYER).then(e.DisputeMessageAdded)
    assert case_of(life).status is CaseStatus.OPEN
    say(life, ARBITER).then(e.DisputeReviewed, e.DisputeMessageAdded)
    assert case_of(life).status is CaseStatus.UNDER_REVIEW
    say(life, ARBITER).then(e.DisputeMessageAdded)


def test_a_stranger_says_nothing() -> None:
    say(disputed(), UserId("eve")).refused("not_of_the_case")


def test_without_a_case_there_is_nothing_to_say() -> None:
    say(funded(), BUYER).refused("no_case")


@pytest.mark.parametrize("number", [0, -1, 2, 1_000])
def test_a_message_answers_one_that_is_there(number: int) -> None:
    say(say(disputed(), BUYER), VENDOR, reply_to=number).refused("message_unknown")


def test_nobody_uses_up_the_room_of_the_others() -> None:
    life = disputed()
    for _ in range(MESSAGES_MAX):
        say(life, BUYER).then(e.DisputeMessageAdded)
    say(life, BUYER).refused("messages_full")
    for other in (VENDOR, ARBITER):
        say(life, other).then_among(e.DisputeMessageAdded)


def test_the_three_may_speak_until_the_decision_is_paid() -> None:
    life = decide(disputed())
    assert not case_of(life).undecided
    for by in (BUYER, VENDOR, ARBITER):
        say(life, by).then(e.DisputeMessageAdded)
    life.give_proposal(Role.BUYER).give_signature(Role.ARBITER).broadcasts(Role.ARBITER)
    say(life, BUYER).then(e.DisputeMessageAdded)
    life.sees(view(output(), height=130, spends=(spend(),)))
    assert case_of(life).status is CaseStatus.RESOLVED
    for by in USERS.values():
        say(life, by).refused("case_closed")


def test_a_case_that_both_settled_is_closed_to_words() -> None:
    life = disputed()
    life.when(c.ProposeAgreement(at=life.now, by=BUYER, buyer_share_bp=5_000))
    life.when(c.AcceptAgreement(at=life.now, by=VENDOR, number=1)).then_among(e.DisputeClosed)
    say(life, BUYER).refused("case_closed")


def test_a_case_about_late_money_has_its_conversation_too() -> None:
    life = completed().sees(view(output(), output("late", amount=5 * 10**11), height=130, spends=(spend(),)))
    opened = c.OpenDispute(at=life.now, by=BUYER, case_id=CaseId("case-1"), claim=Sealed("claim"))
    life.when(opened).then_among(e.DisputeOpened)
    say(life, VENDOR).then(e.DisputeMessageAdded)


def test_a_claim_touches_the_case() -> None:
    life = disputed()
    life.later(60).when(c.AddClaim(at=life.now, by=VENDOR, claim=Sealed("other")))
    assert case_of(life).touched_at == life.now


def test_words_need_no_wallet_and_leave_every_turn_as_it_was() -> None:
    life = awaiting_funding().sees(view(output()))
    opened = c.OpenDispute(at=life.now, by=BUYER, case_id=CaseId("case-1"), claim=Sealed("claim"))
    life.when(opened).then(e.DisputeOpened)
    say(life, ARBITER).then(e.DisputeReviewed, e.DisputeMessageAdded)
    assert life.state.core.intents == {}


# -- in the read model -----------------------------------------------------------------------------------------


def test_a_message_is_a_row() -> None:
    rows = messages(standing_of(talked()))
    assert [(row.number, row.by, row.message, row.reply_to) for row in rows] == [
        (1, Role.BUYER, f"by {BUYER}", None),
        (2, Role.ARBITER, f"by {ARBITER}", 1),
        (3, Role.VENDOR, f"by {VENDOR}", 2),
    ]


def test_a_message_writes_a_row_of_its_own_and_leaves_the_cases_row_alone() -> None:
    life = say(disputed(), ARBITER)  # the first one takes the case up
    before = disputes(standing_of(life))
    assert disputes(standing_of(say(life.later(60), BUYER))) == before


def test_without_a_case_there_are_no_rows_of_messages() -> None:
    assert messages(standing_of(funded())) == ()


def test_shredding_blanks_what_was_said_and_keeps_who_said_it() -> None:
    life = decide(talked()).give_proposal(Role.BUYER).give_signature(Role.ARBITER).broadcasts(Role.ARBITER)
    life.sees(view(output(), height=130, spends=(spend(),))).later(86_400 * 400)
    life.when(c.ShredKey(at=life.now, by=UserId("root"), retention_days=365)).then_among(e.KeyShredded)
    assert [(row.by, row.message) for row in messages(standing_of(life))] == [
        (Role.BUYER, None),
        (Role.ARBITER, None),
        (Role.VENDOR, None),
    ]
