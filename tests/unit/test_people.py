"""What the three decide about the order: addresses, cancelling, shipping, delivery, refund."""

import pytest

from domain import commands as c
from domain import events as e
from domain.ids import Micros, Sealed, UserId
from domain.roles import Role
from domain.states import Cancelled, Refunding, name
from domain.steps import Step
from tests.given import (
    ARBITER,
    BUYER,
    VENDOR,
    Life,
    all_rounds,
    awaiting_funding,
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


def set_address(life: Life, by: UserId, tag: str, *, own: bool = False) -> Life:
    return life.when(
        c.SetPayoutAddress(at=life.now, by=by, tag=tag, address=Sealed(f"sealed-{tag}"), is_escrow_address=own)
    )


def consent(life: Life, by: UserId, role: Role, tag: str | None = None) -> Life:
    return life.when(c.ConsentAddress(at=life.now, by=by, role=role, tag=tag))


def tag_of(life: Life, role: Role) -> str:
    return life.state.core.addresses[role].tag


# -- payout addresses ----------------------------------------------------------------------------------------


def test_before_the_pay_in_address_is_shown_an_address_changes_freely() -> None:
    life = with_addresses(created())
    set_address(life, BUYER, "new").then(e.PayoutAddressSet)
    assert tag_of(life, Role.BUYER) == "new"


def test_the_same_address_sealed_anew_is_no_change() -> None:
    life = with_addresses(created())
    life.when(c.SetPayoutAddress(at=life.now, by=BUYER, tag="tag-buyer", address=Sealed("another nonce"))).then()
    shown = awaiting_funding()
    shown.when(c.SetPayoutAddress(at=shown.now, by=BUYER, tag="tag-buyer", address=Sealed("another nonce"))).then()


@pytest.mark.parametrize(("by", "role"), [(VENDOR, Role.BUYER), (ARBITER, Role.BUYER), (BUYER, Role.VENDOR)])
def test_after_it_is_shown_a_change_takes_somebody_elses_consent(by: UserId, role: Role) -> None:
    life = awaiting_funding()
    set_address(life, {Role.BUYER: BUYER, Role.VENDOR: VENDOR}[role], "new").then(e.AddressChangeProposed)
    assert tag_of(life, role) == f"tag-{role}"
    consent(life, by, role).then(e.AddressChangeAgreed)
    assert tag_of(life, role) == "new"
    consent(life, by, role).refused("not_awaited")


def test_nobody_consents_to_their_own_address() -> None:
    consent(set_address(awaiting_funding(), BUYER, "new"), BUYER, Role.BUYER).refused("not_awaited")


def test_consent_goes_to_the_address_that_was_read() -> None:
    life = set_address(awaiting_funding(), BUYER, "new")
    consent(life, VENDOR, Role.BUYER, "other").refused("not_awaited")
    consent(life, VENDOR, Role.BUYER, "new").then(e.AddressChangeAgreed)


def test_a_change_that_waits_for_consent_does_not_change_itself() -> None:
    life = set_address(awaiting_funding(), BUYER, "new")
    set_address(life, BUYER, "new").then()
    set_address(life, BUYER, "newer").refused("address_change_pending")


def test_asking_for_the_present_address_takes_the_request_back() -> None:
    life = set_address(set_address(awaiting_funding(), BUYER, "new"), BUYER, "tag-buyer")
    assert life.state.core.address_changes == {}
    consent(life, VENDOR, Role.BUYER).refused("not_awaited")
    set_address(life, BUYER, "newer").then(e.AddressChangeProposed)


def test_an_address_never_changes_while_a_payout_is_signed() -> None:
    life = set_address(funded(), VENDOR, "new")
    life.when(c.Ship(at=life.now, by=VENDOR))
    set_address(life, BUYER, "new").refused("epoch_in_progress")
    consent(life, BUYER, Role.VENDOR).refused("epoch_in_progress")


def test_the_arbiters_address_may_come_late() -> None:
    life = all_rounds(with_addresses(created(), Role.BUYER, Role.VENDOR))
    set_address(life, ARBITER, "mine").then(e.PayoutAddressSet)


def test_nobody_is_paid_to_the_escrow_itself() -> None:
    set_address(created(), BUYER, "own", own=True).refused("payout_address_is_escrow")


# -- cancelling ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [BUYER, VENDOR])
def test_either_party_cancels_before_a_deposit(by: UserId) -> None:
    life = awaiting_funding()
    life.when(c.CancelEscrow(at=life.now, by=by)).then(e.Cancelled)
    assert isinstance(life.state, Cancelled)
    assert life.state.reason == "by_party"


def test_a_deposit_in_the_pool_ends_cancelling() -> None:
    life = awaiting_funding().sees(view(output(height=None, unlocked=False)))
    life.when(c.CancelEscrow(at=life.now, by=BUYER)).refused("deposit_seen")


def test_a_deposit_that_was_seen_and_lost_still_ends_cancelling() -> None:
    life = awaiting_funding().sees(view(output(height=None, unlocked=False))).sees(view())
    life.when(c.CancelEscrow(at=life.now, by=BUYER)).refused("deposit_seen")


# -- shipping, delivery, refund ------------------------------------------------------------------------------


def test_shipping_opens_the_release_that_the_vendor_proposes() -> None:
    life = funded()
    life.when(c.Ship(at=life.now, by=VENDOR)).then(e.Shipped, e.PayoutOpened, e.EpochOpened)
    payout = life.money.payout
    assert payout and (payout.proposers, payout.cosigner, payout.consents) == (
        (Role.VENDOR,),
        Role.BUYER,
        frozenset({Role.VENDOR}),
    )


def test_goods_are_shipped_once() -> None:
    life = delivering()
    life.when(c.Ship(at=life.now, by=VENDOR)).refused("wrong_state")


def test_the_buyers_confirmation_is_its_consent() -> None:
    life = delivering()
    life.when(c.ConfirmDelivery(at=life.now, by=BUYER)).then(e.DeliveryConfirmed, e.PayoutApproved)
    assert life.money.payout and life.money.payout.consents == {Role.BUYER, Role.VENDOR}


def test_delivery_is_confirmed_once() -> None:
    life = releasing()
    life.when(c.ConfirmDelivery(at=life.now, by=BUYER)).refused("wrong_state")


def test_delivery_confirmed_before_the_proposal_lets_the_vendor_go_on() -> None:
    life = funded()
    life.when(c.Ship(at=life.now, by=VENDOR)).when(c.ConfirmDelivery(at=life.now, by=BUYER))
    assert steps(life) == {Role.VENDOR: Step.PROPOSE}
    life.give_proposal(Role.VENDOR)
    assert steps(life) == {Role.BUYER: Step.COSIGN}


def test_a_refund_drops_the_release_and_asks_the_buyer_to_propose() -> None:
    life = delivering()
    life.when(c.GrantRefund(at=life.now, by=VENDOR)).then(
        e.EpochAbandoned, e.PayoutDropped, e.RefundGranted, e.PayoutOpened, e.EpochOpened
    )
    assert isinstance(life.state, Refunding)
    assert steps(life) == {Role.BUYER: Step.PROPOSE}
    life.give_proposal(Role.BUYER)
    assert steps(life) == {Role.VENDOR: Step.COSIGN}


def test_a_refund_ends_an_open_case() -> None:
    life = disputed()
    life.when(c.GrantRefund(at=life.now, by=VENDOR)).then_among(e.DisputeClosed)
    assert name(life.state) == "refunding"


def test_what_is_under_paid_can_be_given_back() -> None:
    life = awaiting_funding().sees(view(output(amount=10**11)))
    life.when(c.GrantRefund(at=life.now, by=VENDOR)).then(e.RefundGranted, e.PayoutOpened, e.EpochOpened)


def test_what_others_have_spent_cannot_be_given_back() -> None:
    life = funded().sees(view(output(), spends=(spend(height=None),)))
    life.when(c.GrantRefund(at=life.now, by=VENDOR)).refused("nothing_to_pay")


def test_a_command_of_an_earlier_clock_happens_at_the_latest_time_known() -> None:
    life = funded()
    life.when(c.Ship(at=Micros(life.now - 10), by=VENDOR)).then_among(e.Shipped)
    assert {event.at for event in life.events[-3:]} == {life.now}
    assert life.state.core.last_at == life.now
