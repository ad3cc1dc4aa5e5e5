"""Turns and waits: who is asked for what, one step a seat, and never nobody before the end."""

import pytest

from domain import commands as c
from domain.ids import Sealed
from domain.roles import THREE, Role, SeatKind
from domain.states import TERMINAL
from domain.steps import ONCE, Step
from domain.turns import Awaited, awaited, turn_of, turns
from tests.given import (
    AMOUNT,
    BUYER,
    HOUR,
    VENDOR,
    Life,
    all_rounds,
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
    with_addresses,
)
from tests.unit.test_refusals import LIVES


def waits(life: Life) -> set[tuple[str, str]]:
    return {(str(wait.who), wait.what) for wait in awaited(life.state)}


@pytest.mark.parametrize("state", LIVES)
def test_before_its_end_every_escrow_waits_for_somebody(state: str) -> None:
    life = LIVES[state]()
    assert bool(awaited(life.state)) is not isinstance(life.state, TERMINAL)


@pytest.mark.parametrize("state", LIVES)
def test_a_seat_is_asked_for_one_step_at_most(state: str) -> None:
    asked = [turn.role for turn in turns(LIVES[state]().state)]
    assert len(asked) == len(set(asked))
    assert asked == [role for role in THREE if role in asked]


def test_a_turn_says_since_when_and_a_wait_until_when() -> None:
    life = releasing().later(60)
    turn = turn_of(life.state, Role.BUYER)
    assert turn and turn.since == life.now - 60 * 1_000_000
    assert [wait.until for wait in awaited(life.state)] == [life.state.core.active_at + 6 * HOUR]


def test_addresses_and_payment_are_awaited_of_the_people() -> None:
    life = all_rounds(created())
    assert {("buyer", "set_payout_address"), ("vendor", "set_payout_address")} <= waits(life)
    assert waits(awaiting_funding()) == {("buyer", "pay_in")}
    assert ("vendor", "set_payout_address") in waits(with_addresses(created(), Role.BUYER))


def test_a_payment_on_its_way_is_awaited_of_the_chain() -> None:
    life = awaiting_funding().sees(view(output(height=None, unlocked=False)))
    assert waits(life) == {(Awaited.CHAIN, "confirmations")}


@pytest.mark.parametrize("height", [None, 101])
def test_too_small_a_payment_leaves_the_buyer_awaited(height: int | None) -> None:
    life = awaiting_funding().sees(view(output(amount=AMOUNT - 1, height=height, unlocked=False)))
    assert ("buyer", "pay_in") in waits(life)


def test_exports_are_asked_for_from_one_confirmation_on() -> None:
    life = awaiting_funding().sees(view(output(height=None, unlocked=False)))
    assert steps(life) == {}
    life.sees(view(output(unlocked=False), height=102))
    assert steps(life) == dict.fromkeys(THREE, Step.EXPORT)


def test_a_cosigner_with_an_open_set_is_not_asked_for_another_export() -> None:
    life = delivering().sees(view(output(), output("late")))
    assert steps(life) == {Role.VENDOR: Step.EXPORT, Role.ARBITER: Step.EXPORT}


def test_the_next_choice_is_named() -> None:
    assert waits(funded()) == {("vendor", "ship")}
    assert waits(delivering()) == {("buyer", "confirm_delivery")}
    assert waits(disputed()) == {("arbiter", "decide")}


def test_after_the_broadcast_only_the_chain_is_awaited() -> None:
    life = releasing().give_signature(Role.BUYER).broadcasts(Role.BUYER)
    life.sees(view(output(), spends=(spend(height=None),)))
    assert waits(life) == {(Awaited.CHAIN, "confirmations")}


def test_an_offer_waits_for_the_other_party_and_a_change_for_the_others() -> None:
    life = funded()
    life.when(c.ProposeAgreement(at=life.now, by=VENDOR, buyer_share_bp=1_000))
    assert ("buyer", "accept_agreement") in waits(life)
    life.when(c.SetPayoutAddress(at=life.now, by=BUYER, tag="new", address=Sealed("new")))
    assert {("vendor", "consent_address"), ("arbiter", "consent_address")} <= waits(life)


def test_an_open_offer_does_not_hide_that_the_chain_is_awaited() -> None:
    life = releasing()
    life.when(c.ProposeAgreement(at=life.now, by=VENDOR, buyer_share_bp=1_000))
    life.give_signature(Role.BUYER).broadcasts(Role.BUYER)
    assert {("buyer", "accept_agreement"), (Awaited.CHAIN, "confirmations")} <= waits(life)


def test_an_item_waits_for_the_administrators() -> None:
    assert (Awaited.ADMIN, "recovery") in waits(releasing().passes(48 * 3_600))


def test_nobody_joins_a_hosted_seat() -> None:
    assert set(steps(created(seats=SeatKind.RELAY)).values()) == {Step.JOIN}
    assert set(steps(created()).values()) == {Step.CLAIM_WALLET}


def test_after_the_end_late_money_asks_for_no_exports_by_itself() -> None:
    life = completed().sees(view(output(), output("late"), height=141, spends=(spend(),)))
    assert steps(life) == {}
    assert waits(life) == {(Awaited.ADMIN, "recovery")}


def test_what_must_never_be_repeated_blind_is_announced() -> None:
    assert {Step.MAKE, Step.EXCHANGE_1, Step.EXCHANGE_2, Step.EXPORT, Step.COSIGN} <= ONCE
    assert not {Step.PREPARE, Step.PROPOSE, Step.CONFIRM_ADDRESS} & ONCE
