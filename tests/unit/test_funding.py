"""Deposits: what the chain shows becomes what has happened, whatever is paid, and when."""

import pytest

from domain import commands as c
from domain import events as e
from domain.ids import OneTimeKey, Sealed, UserId
from domain.payout import signable
from domain.roles import THREE, Role
from domain.states import name
from domain.steps import Step
from domain.turns import awaited
from tests.given import (
    AMOUNT,
    BUYER,
    VENDOR,
    Life,
    awaiting_funding,
    completed,
    created,
    delivering,
    disputed,
    funded,
    output,
    releasing,
    spend,
    steps,
    view,
)

DUST = 1_000_000_000


def seen_in_pool() -> Life:
    return awaiting_funding().sees(view(output(height=None, unlocked=False)))


# -- from the pool to funded ---------------------------------------------------------------------------------


def test_a_deposit_is_seen_confirmed_unlocked_and_only_then_funds() -> None:
    life = awaiting_funding()
    life.sees(view(output(height=None, unlocked=False))).then(e.DepositSeen)
    life.sees(view(output(unlocked=False), height=102)).then(e.DepositConfirmed)
    life.sees(view(output(unlocked=False), height=110)).then()
    assert name(life.state) == "awaiting_funding"
    life.sees(view(output(), height=111)).then(e.DepositUnlocked, e.Funded)
    assert name(life.state) == "funded"


def test_the_same_view_twice_adds_nothing() -> None:
    life = awaiting_funding()
    life.sees(view(output())).then(e.DepositSeen, e.DepositConfirmed, e.DepositUnlocked, e.Funded)
    life.sees(view(output())).then()


def test_a_view_before_there_is_an_address_is_not_awaited() -> None:
    created().sees(view(output())).refused("not_awaited")


def test_funding_needs_no_exports() -> None:
    life = awaiting_funding().sees(view(output()))
    assert name(life.state) == "funded"
    assert steps(life) == dict.fromkeys(THREE, Step.EXPORT)
    assert not signable(life.money, life.state.core.terms)


def test_two_exports_that_cover_everything_make_it_signable() -> None:
    life = awaiting_funding().sees(view(output())).give_export(Role.BUYER)
    assert not signable(life.money, life.state.core.terms)
    life.give_export(Role.ARBITER)
    assert signable(life.money, life.state.core.terms)
    life.sees(view(output(), output("late")))
    assert not signable(life.money, life.state.core.terms)


# -- too little, too much, in parts --------------------------------------------------------------------------


def test_one_atomic_unit_too_little_does_not_fund() -> None:
    life = awaiting_funding().sees(view(output(amount=AMOUNT - 1)))
    assert name(life.state) == "awaiting_funding"
    assert (Role.BUYER, "pay_in") in [(wait.who, wait.what) for wait in awaited(life.state)]


def test_several_deposits_fund_together_when_the_last_is_unlocked() -> None:
    half = AMOUNT // 2
    life = awaiting_funding().sees(view(output("a", amount=half), output("b", amount=half, unlocked=False)))
    assert name(life.state) == "awaiting_funding"
    life.sees(view(output("a", amount=half), output("b", amount=half)))
    assert name(life.state) == "funded"


def test_what_is_paid_above_the_amount_funds_too() -> None:
    life = awaiting_funding().sees(view(output(amount=3 * AMOUNT)))
    assert [event.amount for event in life.events if isinstance(event, e.Funded)] == [3 * AMOUNT]


@pytest.mark.parametrize(("amount", "counted"), [(DUST - 1, False), (DUST, False), (DUST + 1, True)])
def test_dust_is_seen_and_left(amount: int, *, counted: bool) -> None:
    life = awaiting_funding(amount=DUST).sees(view(output(amount=amount)))
    assert len(life.money.deposits) == 1
    assert (name(life.state) == "funded") is counted


def test_dust_blocks_no_payout() -> None:
    life = funded(output(), output("dust", amount=DUST))
    life.when(c.Ship(at=life.now, by=VENDOR))
    payout = life.money.payout
    assert payout and payout.epoch and payout.epoch.inputs == ("out-1",)


def test_nobody_is_asked_to_export_dust() -> None:
    life = funded().sees(view(output(), output("dust", amount=DUST)))
    assert steps(life) == {}


# -- late ----------------------------------------------------------------------------------------------------


def test_a_deposit_during_delivery_is_left_out_of_the_payout_under_way() -> None:
    life = delivering().sees(view(output(), output("late", amount=5 * DUST)))
    assert name(life.state) == "delivering"
    payout = life.money.payout
    assert payout and payout.epoch and payout.epoch.inputs == ("out-1",)


def test_nobody_can_hold_a_payout_up_by_sending_more() -> None:
    life = funded().sees(view(output(), output("late", unlocked=False)))
    life.when(c.Ship(at=life.now, by=VENDOR)).then_among(e.EpochOpened)


def test_what_is_under_paid_waits_for_the_deposit_on_its_way() -> None:
    life = awaiting_funding().sees(view(output(amount=5 * DUST), output("b", amount=5 * DUST, unlocked=False)))
    life.when(c.GrantRefund(at=life.now, by=VENDOR)).then(e.RefundGranted, e.PayoutOpened)
    life.sees(view(output(amount=5 * DUST), output("b", amount=5 * DUST))).then(e.DepositUnlocked, e.EpochOpened)


def test_a_deposit_after_the_end_is_an_item_for_people_and_reopens_nothing() -> None:
    life = completed()
    life.sees(view(output(), output("late"), height=141, spends=(spend(),)))
    assert life.state.core.recovery == ("late_deposit",)
    assert name(life.state) == "completed"


def test_what_is_under_paid_waits_no_longer_than_two_hours_whatever_is_sent() -> None:
    paid, locked = output(amount=AMOUNT // 2), output("locked-for-years", amount=DUST * 2, height=105, unlocked=False)
    life = awaiting_funding().sees(view(paid)).sees(view(paid, locked))
    life.when(c.GrantRefund(at=life.now, by=VENDOR))
    life.later(7_199).sees(view(paid, locked, output("one-more", height=None, unlocked=False)))
    assert life.money.payout is not None and life.money.payout.epoch is None
    life.later(1).sees(view(paid, locked, output("another", height=None, unlocked=False)))
    assert life.money.payout.epoch is not None
    assert life.money.payout.epoch.inputs == (paid.one_time_key,)


def test_a_second_late_deposit_is_an_item_again() -> None:
    life = completed()
    life.sees(view(output(), output("late"), height=141, spends=(spend(),)))
    life.when(c.NoteRecovery(at=life.now, by=UserId("admin"), action="mark_investigated", notes=Sealed("known")))
    assert not life.state.core.recovery
    life.sees(view(output(), output("late"), output("later"), height=151, spends=(spend(),)))
    assert life.state.core.recovery == ("late_deposit",)


def test_a_payment_after_cancellation_is_settled_by_agreement_with_its_own_payout() -> None:
    life = awaiting_funding()
    life.when(c.CancelEscrow(at=life.now, by=BUYER))
    life.sees(view(output())).then_among(e.RecoveryItemOpened)
    life.when(c.ProposeAgreement(at=life.now, by=VENDOR, buyer_share_bp=10_000))
    life.when(c.AcceptAgreement(at=life.now, by=BUYER, number=1)).then(
        e.AgreementAccepted, e.PayoutOpened, e.EpochOpened
    )
    assert steps(life) == {Role.VENDOR: Step.EXPORT}
    life.give_export(Role.VENDOR).give_proposal(Role.BUYER).give_signature(Role.VENDOR).broadcasts(Role.VENDOR)
    life.sees(view(output(), height=130, spends=(spend(),))).then_among(e.LeftoverPaid)
    assert name(life.state) == "cancelled"
    assert not life.state.core.recovery


# -- reorganisations -----------------------------------------------------------------------------------------


def test_a_deposit_that_leaves_the_pool_is_lost_and_may_return() -> None:
    life = seen_in_pool()
    life.sees(view()).then(e.DepositLost)
    life.sees(view(output(height=None, unlocked=False))).then(e.DepositReturned)


def test_a_deposit_mined_again_elsewhere_counts_its_confirmations_anew() -> None:
    life = awaiting_funding().sees(view(output(height=101)))
    life.sees(view(output(height=105, unlocked=False))).then(
        e.DepositLost, e.DepositReturned, e.DepositConfirmed, e.FundingLost
    )
    assert name(life.state) == "awaiting_funding"
    life.sees(view(output(height=105))).then(e.DepositUnlocked, e.Funded)


def test_a_deposit_back_in_the_pool_is_not_confirmed() -> None:
    life = awaiting_funding().sees(view(output(unlocked=False), height=103))
    life.sees(view(output(height=None, unlocked=False), height=101)).then(e.DepositLost, e.DepositReturned)
    assert life.money.deposits[OneTimeKey("out-1")].height is None


def test_an_unlocked_deposit_on_a_shorter_chain_is_locked_again() -> None:
    life = awaiting_funding().sees(view(output()))
    life.sees(view(output(unlocked=False), height=105)).then_among(e.FundingLost)
    assert name(life.state) == "awaiting_funding"


def test_a_lock_of_its_own_that_was_seen_open_is_not_closed_by_a_clock_put_back() -> None:
    funded().sees(view(output(unlocked=False), height=200)).then()


def test_a_reorg_voids_the_exports_that_cover_what_it_took() -> None:
    life = funded().sees(view(output(height=105, unlocked=False)))
    assert all(export.void for export in life.money.exports.values())
    assert steps(life) == dict.fromkeys(THREE, Step.EXPORT)


def test_a_deposit_that_only_leaves_the_pool_voids_nothing() -> None:
    life = funded().sees(view(output(), output("b", height=None, unlocked=False)))
    life.give_export(Role.BUYER).sees(view(output()))
    assert not life.money.exports[Role.BUYER].void


@pytest.mark.parametrize("life", [delivering, disputed])
def test_a_deposit_lost_after_shipping_is_an_item_until_it_returns(life) -> None:
    played = life().sees(view())
    assert played.state.core.recovery == ("deposit_lost",)
    played.sees(view(output()))
    assert played.state.core.recovery == ()
    played.sees(view())
    assert played.state.core.recovery == ("deposit_lost",)


# -- spends --------------------------------------------------------------------------------------------------


def test_a_spend_of_what_is_not_ours_says_nothing() -> None:
    funded().sees(view(output(), spends=(spend("foreign"),))).then()


def test_money_moved_without_us_is_an_item_and_ends_the_escrow_when_final() -> None:
    life = funded().sees(view(output(), spends=(spend(tx_hash="foreign", height=None),)))
    assert life.state.core.recovery == ("spent_by_others",)
    assert name(life.state) == "funded"
    life.sees(view(output(), height=130, spends=(spend(tx_hash="foreign"),)))
    assert getattr(life.state, "outcome", None) == "agreed"


def test_a_reorg_after_the_end_is_an_item_and_reopens_nothing() -> None:
    life = completed().sees(view(output(), height=125))
    assert "reorg_after_final" in life.state.core.recovery
    assert name(life.state) == "completed"


# -- views that come late ------------------------------------------------------------------------------------


def test_a_view_from_before_the_last_event_is_refused_and_takes_nothing_back() -> None:
    life = awaiting_funding().sees(view(output(unlocked=False), height=102))
    before = life.state.core.version
    life.sees(view(output(), height=111)).then(e.DepositUnlocked, e.Funded)
    late = c.ObserveChain(at=life.now, view=view(output(unlocked=False), height=102), version=before)
    life.when(late).refused("view_outdated")
    assert name(life.state) == "funded"


def test_the_same_one_time_key_paid_again_counts_once_and_with_the_larger_amount() -> None:
    life = awaiting_funding().sees(view(output(amount=AMOUNT - 1)))
    life.sees(view(output(height=105)))
    assert [deposit.amount for deposit in life.money.deposits.values()] == [AMOUNT]
    assert name(life.state) == "funded"
    life.sees(view(output(height=105))).then()


def test_a_deposit_that_returns_with_another_amount_counts_as_what_it_is_now() -> None:
    life = awaiting_funding().sees(view(output(height=None, unlocked=False)))
    life.sees(view())
    life.sees(view(output(amount=AMOUNT // 1_000)))
    assert [deposit.amount for deposit in life.money.deposits.values()] == [AMOUNT // 1_000]
    assert name(life.state) == "awaiting_funding"


def test_the_same_one_time_key_paid_again_after_it_was_spent_changes_nothing() -> None:
    life = releasing().give_signature(Role.BUYER).broadcasts(Role.BUYER)
    life.sees(view(output(), height=121, spends=(spend(),)))
    again = output(amount=AMOUNT + 1, height=121, unlocked=False)
    life.sees(view(again, height=122, spends=(spend(),))).then()
    life.sees(view(again, height=130, spends=(spend(),)))
    assert name(life.state) == "completed"
    assert life.state.core.recovery == ()
