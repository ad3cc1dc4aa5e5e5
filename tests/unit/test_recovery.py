"""Recovery: when people must look, and what administrators may do; nobody's signature is ever replaced."""

import pytest

from domain import commands as c
from domain import events as e
from domain.ids import Sealed, UserId
from domain.roles import Role
from domain.states import name
from domain.steps import Step
from domain.terms import Policy
from domain.turns import turn_of
from tests.given import (
    Life,
    delivering,
    disputed,
    funded,
    output,
    releasing,
    spend,
    steps,
    view,
)

DAYS_2 = 48 * 3_600
ADMIN = UserId("admin")


def retry(life: Life) -> Life:
    return life.when(c.RetryTransaction(at=life.now, by=ADMIN, notes=Sealed("notes")))


def note(life: Life, action: str) -> Life:
    return life.when(c.NoteRecovery(at=life.now, by=ADMIN, action=action, notes=Sealed("notes")))


def abandon(life: Life, epoch: int) -> Life:
    return life.when(c.AbandonEpoch(at=life.now, role=Role.BUYER, payout=1, epoch=epoch, reason="x"))


def cannot_send(life: Life) -> Life:
    turn = turn_of(life.state, Role.BUYER)
    assert turn and turn.step is Step.BROADCAST
    return life.when(
        c.FailTurn(at=life.now, role=Role.BUYER, step=turn.step, turn_id=turn.turn_id, reason="rejected_by_daemon")
    )


# -- retry ---------------------------------------------------------------------------------------------------


def test_a_retry_leads_back_and_gives_up_what_was_not_signed() -> None:
    life = releasing().passes(DAYS_2)
    retry(life).then(e.EpochAbandoned, e.RecoveryActionTaken, e.RecoveryItemClosed, e.EpochOpened)
    assert name(life.state) == "releasing"
    assert not life.state.core.recovery
    assert steps(life)[Role.BUYER] is Step.EXPORT


def test_a_retried_payout_is_stuck_again_after_as_long() -> None:
    life = retry(releasing().passes(DAYS_2))
    life.passes(DAYS_2 - 1)
    assert name(life.state) == "releasing"
    life.passes(1)
    assert name(life.state) == "releasing_recovery_needed"
    assert life.state.core.recovery == ("stuck",)


def test_what_is_signed_is_not_signed_again_by_a_retry() -> None:
    life = retry(releasing().give_signature(Role.BUYER).passes(DAYS_2))
    assert [epoch.number for epoch in life.money.payouts[-1].epochs] == [1]
    assert steps(life)[Role.BUYER] is Step.BROADCAST


def test_what_is_signed_and_rejected_is_given_up_by_a_retry() -> None:
    life = cannot_send(releasing().give_signature(Role.BUYER)).passes(DAYS_2)
    retry(life).then_among(e.EpochOpened)
    assert Step.BROADCAST not in steps(life).values()


def test_what_was_sent_and_never_seen_is_sent_again_unchanged() -> None:
    life = releasing().give_signature(Role.BUYER)
    first = turn_of(life.state, Role.BUYER)
    retry(life.broadcasts(Role.BUYER).passes(DAYS_2)).then(e.RecoveryActionTaken, e.RecoveryItemClosed)
    again = turn_of(life.state, Role.BUYER)
    assert first and again and (again.step, len(life.money.payouts[-1].epochs)) == (Step.BROADCAST, 1)
    assert again.turn_id != first.turn_id


def test_what_was_sent_lost_and_rejected_is_given_up_by_the_next_retry() -> None:
    life = retry(releasing().give_signature(Role.BUYER).broadcasts(Role.BUYER).passes(DAYS_2))
    retry(cannot_send(life).passes(DAYS_2)).then_among(e.EpochOpened)


def test_what_is_seen_is_only_watched_by_a_retry() -> None:
    life = releasing().give_signature(Role.BUYER).broadcasts(Role.BUYER)
    life.sees(view(output(), spends=(spend(height=None),))).passes(DAYS_2)
    retry(life).then(e.RecoveryActionTaken, e.RecoveryItemClosed)
    assert Step.BROADCAST not in steps(life).values()
    life.sees(view(output(), height=130, spends=(spend(),)))
    assert name(life.state) == "completed"


def test_a_stuck_payout_that_becomes_final_by_itself_ends_the_escrow_and_the_item() -> None:
    life = releasing().give_signature(Role.BUYER).broadcasts(Role.BUYER).passes(DAYS_2)
    life.sees(view(output(), height=130, spends=(spend(),)))
    assert name(life.state) == "completed"
    assert not life.state.core.recovery


def test_a_retry_gives_another_round_of_epochs_and_another_item_when_they_are_used_up() -> None:
    life = releasing(policy=Policy(epochs_max=1))
    abandon(life, 1)
    assert life.state.core.recovery == ("epochs_exhausted",)
    retry(life.passes(DAYS_2))
    assert not life.state.core.recovery
    abandon(life, 2).then(e.EpochAbandoned, e.RecoveryItemOpened)


# -- other actions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["contact_arbiter", "escalate_governance"])
def test_an_action_is_noted_and_closes_nothing(action: str) -> None:
    life = note(releasing().passes(DAYS_2), action).then(e.RecoveryActionTaken)
    assert life.state.core.recovery == ("stuck",)


def test_investigated_items_are_closed_and_not_opened_again_for_the_same_reason() -> None:
    life = note(delivering().sees(view()), "mark_investigated").then(e.RecoveryActionTaken, e.RecoveryItemClosed)
    life.passes(1).refused("nothing_due")
    assert not life.state.core.recovery


def test_an_unknown_action_and_an_escrow_without_items_are_refused() -> None:
    note(releasing().passes(DAYS_2), "pay_me").refused("wrong_state")
    note(funded(), "contact_arbiter").refused("wrong_state")


def test_an_action_on_a_dispute_needs_no_item() -> None:
    note(disputed(), "contact_arbiter").then(e.RecoveryActionTaken)


def test_money_moved_by_others_stays_an_item_until_people_close_it() -> None:
    life = funded().sees(view(output(), spends=(spend(tx_hash="foreign", height=None),))).sees(view(output()))
    assert life.state.core.recovery == ("spent_by_others",)
    note(life, "mark_investigated")
    assert not life.state.core.recovery
