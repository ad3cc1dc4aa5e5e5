"""Signing epochs: who does which step when, what makes an attempt worthless, and that nothing is paid twice."""

import pytest

from domain import commands as c
from domain import events as e
from domain.events import FeeBand
from domain.ids import CaseId, KeyImage, OneTimeKey, Sealed, TxHash
from domain.money import Atomic
from domain.payout import change_of, inputs_sum, proposed_sum
from domain.refusals import Refused
from domain.roles import Role
from domain.states import Epoch, name
from domain.steps import Step
from domain.terms import Policy
from domain.turns import turn_of
from tests.given import (
    AMOUNT,
    BUYER,
    NETWORK_FEE,
    USERS,
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
)


def ship(life: Life) -> Life:
    return life.when(c.Ship(at=life.now, by=VENDOR))


def signed() -> Life:
    return releasing().give_signature(Role.BUYER)


def sent() -> Life:
    return signed().broadcasts(Role.BUYER)


def abandon(life: Life, role: Role, reason: str, *, epoch: int = 1) -> Life:
    return life.when(c.AbandonEpoch(at=life.now, role=role, payout=1, epoch=epoch, reason=reason))


def latest(life: Life) -> Epoch:
    return life.money.payouts[-1].epochs[-1]


def late_signature(life: Life) -> Life:
    return life.when(
        c.GiveSignature(
            at=life.now, role=Role.BUYER, payout=1, epoch=1, tx_hash=TxHash("late-tx"), signed=Sealed("s"), digest="d"
        )
    )


def open_dispute(life: Life) -> Life:
    return life.when(c.OpenDispute(at=life.now, by=BUYER, case_id=CaseId("case"), claim=Sealed("claim")))


# -- propose -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.BUYER, Role.ARBITER])
def test_a_release_is_proposed_by_the_vendor_alone(role: Role) -> None:
    ship(funded()).give_proposal(role).refused("not_awaited")


def test_a_payout_is_proposed_once_an_epoch() -> None:
    delivering().give_proposal(Role.VENDOR).refused("already_given")


def proposal(life: Life, *, key_images: dict[OneTimeKey, KeyImage]) -> c.GiveProposal:
    return c.GiveProposal(
        at=life.now,
        role=Role.VENDOR,
        payout=1,
        epoch=1,
        tx_set=Sealed("set"),
        digest="d",
        network_fee=NETWORK_FEE,
        export_digest=life.money.exports[Role.BUYER].digest,
        key_images=key_images,
    )


TOLD = {OneTimeKey("out-1"): KeyImage("image-out-1")}


def test_a_proposal_names_the_key_image_of_each_input() -> None:
    life = ship(funded())
    assert life.when(proposal(life, key_images={})).answer == Refused("proposal_invalid", {"why": "inputs"})
    life.when(proposal(life, key_images=TOLD)).then(e.PayoutProposed)
    assert life.money.key_images == TOLD


def test_a_proposal_over_another_key_image_than_a_seat_told_is_refused() -> None:
    """By a wrong one the payout would be broadcast and never seen."""
    life = ship(funded())
    other = proposal(life, key_images={OneTimeKey("out-1"): KeyImage("other")})
    assert life.when(other).answer == Refused("proposal_invalid", {"why": "key_images"})
    assert life.money.key_images == TOLD


def test_an_output_paid_again_after_the_signature_changes_nothing_of_what_was_signed() -> None:
    life = signed().sees(view(output(amount=AMOUNT + 1, height=None, unlocked=False)))
    assert inputs_sum(life.money, latest(life)) == AMOUNT + 1
    assert proposed_sum(life.money, latest(life)) == AMOUNT
    assert change_of(life.money, latest(life)) == 0
    life.sees(view(output(amount=AMOUNT + 1), spends=(spend(),)))
    assert life.state.core.recovery == ()


# -- the fee band --------------------------------------------------------------------------------------------

BAND = FeeBand(Atomic(1), Atomic(NETWORK_FEE * 2))


def set_fee_band(life: Life, role: Role) -> Life:
    return life.when(c.SetFeeBand(at=life.now, role=role, payout=1, epoch=1, band=BAND))


def test_the_cosigner_says_once_an_epoch_which_network_fees_it_will_sign() -> None:
    life = set_fee_band(delivering(), Role.BUYER).then(e.FeeBandSet)
    assert life.money.payouts[-1].epochs[-1].fee_band == BAND
    set_fee_band(life, Role.BUYER).refused("already_given")


@pytest.mark.parametrize("role", [Role.VENDOR, Role.ARBITER])
def test_nobody_else_says_which_network_fees_are_signed(role: Role) -> None:
    set_fee_band(delivering(), role).refused("not_awaited")


def test_no_fee_band_is_set_before_a_set_is_there() -> None:
    set_fee_band(ship(funded()), Role.BUYER).refused("not_awaited")


def test_nothing_is_proposed_when_the_network_fee_eats_everything() -> None:
    life = awaiting_funding().sees(view(output(amount=2_000_000_000)))
    life.give_export(Role.VENDOR).when(c.GrantRefund(at=life.now, by=VENDOR))
    life.give_proposal(Role.BUYER, network_fee=2_000_000_000).refused("nothing_to_pay")


def test_nothing_is_proposed_without_an_epoch() -> None:
    life = funded()
    no_epoch = c.GiveProposal(
        at=life.now,
        role=Role.VENDOR,
        payout=1,
        epoch=1,
        tx_set=Sealed("s"),
        digest="d",
        network_fee=Atomic(1),
        export_digest="d",
        key_images={},
    )
    life.when(no_epoch).refused("not_awaited")


# -- cosign --------------------------------------------------------------------------------------------------


def test_the_cosigner_signs_nothing_before_it_decided() -> None:
    life = delivering()
    assert steps(life) == {}
    life.give_signature(Role.BUYER).refused("not_awaited")


@pytest.mark.parametrize("role", [Role.VENDOR, Role.ARBITER])
def test_only_the_cosigner_signs(role: Role) -> None:
    releasing().give_signature(role).refused("not_awaited")


def test_nothing_is_signed_before_it_is_proposed() -> None:
    life = ship(funded()).when(c.ConfirmDelivery(at=funded().now, by=BUYER))
    life.give_signature(Role.BUYER).refused("not_awaited")


def test_a_payout_is_signed_once() -> None:
    signed().give_signature(Role.BUYER, tx_hash="another").refused("already_given")


def test_the_hash_is_known_before_the_broadcast_is_asked_for() -> None:
    life = releasing()
    assert steps(life) == {Role.BUYER: Step.COSIGN}
    life.give_signature(Role.BUYER).then(e.PayoutSigned)
    assert steps(life)[Role.BUYER] is Step.BROADCAST


def test_a_signature_that_was_under_way_when_a_dispute_opened_is_recorded() -> None:
    life = open_dispute(releasing().intends(Role.BUYER))
    assert latest(life).ended == "disputed"
    assert life.money.exports[Role.BUYER].void
    late_signature(life).then(e.PayoutSigned)
    assert name(life.state) == "disputed"
    assert Step.BROADCAST not in steps(life).values()


def test_a_late_signature_that_reaches_the_chain_is_the_ending_recorded() -> None:
    life = late_signature(open_dispute(releasing().intends(Role.BUYER)))
    life.sees(view(output(), height=130, spends=(spend(tx_hash="late-tx"),)))
    assert getattr(life.state, "outcome", None) == "released"
    assert life.state.core.recovery == ()
    assert e.DisputeClosed in event_kinds(life)


def test_a_signature_nobody_announced_is_too_late_after_a_dispute() -> None:
    late_signature(open_dispute(releasing())).refused("not_awaited")


def test_nothing_is_signed_after_the_end() -> None:
    life = completed()
    life.when(
        c.GiveSignature(
            at=life.now, role=Role.BUYER, payout=1, epoch=1, tx_hash=TxHash("x"), signed=Sealed("s"), digest="d"
        )
    ).refused("already_given")
    other = releasing()
    other.sees(view(output(), output("b"), height=130, spends=(spend("out-1", tx_hash="foreign"),)))
    late_signature(other).refused("not_awaited")


# -- broadcast -----------------------------------------------------------------------------------------------


def test_a_broadcast_is_reported_by_the_cosigner_for_the_hash_that_was_signed() -> None:
    signed().broadcasts(Role.VENDOR).refused("not_awaited")
    signed().broadcasts(Role.BUYER, tx_hash="another").refused("proposal_invalid")
    releasing().broadcasts(Role.BUYER).refused("not_awaited")
    sent().broadcasts(Role.BUYER).refused("already_given")


def test_nobody_is_asked_to_send_what_is_already_seen() -> None:
    life = signed().sees(view(output(), spends=(spend(height=None),)))
    assert Step.BROADCAST not in steps(life).values()


def test_a_payout_lost_to_a_reorg_is_sent_again_as_another_turn() -> None:
    life = signed()
    first = turn_of(life.state, Role.BUYER)
    life.broadcasts(Role.BUYER).sees(view(output(), height=121, spends=(spend(),)))
    life.sees(view(output(), height=119)).then(e.SpendLost)
    again = turn_of(life.state, Role.BUYER)
    assert first and again and again.step is Step.BROADCAST
    assert again.turn_id != first.turn_id
    life.broadcasts(Role.BUYER).then(e.PayoutBroadcast)


def test_a_payout_moved_to_another_block_is_not_sent_again() -> None:
    life = sent().sees(view(output(), height=121, spends=(spend(),)))
    life.sees(view(output(), height=123, spends=(spend(height=122),))).then(e.SpendLost, e.SpendSeen, e.SpendConfirmed)
    assert Step.BROADCAST not in steps(life).values()


def test_a_payout_is_seen_confirmed_and_final_before_the_escrow_ends() -> None:
    life = sent()
    life.sees(view(output(), spends=(spend(height=None),))).then(e.SpendSeen)
    life.sees(view(output(), height=121, spends=(spend(),))).then(e.SpendConfirmed)
    life.sees(view(output(), height=129, spends=(spend(),))).then()
    life.sees(view(output(), height=130, spends=(spend(),))).then(e.SpendFinal, e.EscrowCompleted)


# -- abandoned -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reason", "void"), [("check_failed:fee", False), ("stale", True), ("sign_unknown", True)])
def test_an_abandoned_epoch_keeps_its_export_unless_it_may_be_used_up(reason: str, *, void: bool) -> None:
    life = abandon(releasing(), Role.BUYER, reason).then(e.EpochAbandoned, e.EpochOpened)
    assert life.money.exports[Role.BUYER].void is void
    assert (Step.EXPORT if void else Step.PROPOSE) in steps(life).values()


def test_an_export_announced_to_be_signed_with_is_void_whoever_abandons() -> None:
    life = abandon(releasing().intends(Role.BUYER), Role.VENDOR, "impatient")
    assert life.money.exports[Role.BUYER].void


def test_a_seat_outside_the_epoch_abandons_nothing() -> None:
    abandon(releasing(), Role.ARBITER, "bored").refused("not_awaited")


def test_an_epoch_that_is_over_is_not_abandoned_again() -> None:
    abandon(abandon(releasing(), Role.BUYER, "x"), Role.BUYER, "x", epoch=1).refused("not_awaited")


def test_a_signed_payout_is_given_up_only_by_the_one_who_sends_it() -> None:
    abandon(signed(), Role.VENDOR, "regret").refused("not_awaited")
    abandon(signed(), Role.BUYER, "rejected").then(e.EpochAbandoned, e.EpochOpened)


def test_what_is_on_its_way_is_not_given_up() -> None:
    abandon(sent(), Role.BUYER, "regret").refused("already_broadcast")
    seen = signed().sees(view(output(), spends=(spend(height=None),)))
    abandon(seen, Role.BUYER, "regret").refused("already_broadcast")


def test_epochs_open_by_themselves_only_so_often() -> None:
    life = releasing(policy=Policy(epochs_max=2))
    abandon(life, Role.BUYER, "x", epoch=1).then(e.EpochAbandoned, e.EpochOpened)
    abandon(life, Role.BUYER, "x", epoch=2).then(e.EpochAbandoned, e.RecoveryItemOpened)
    assert life.state.core.recovery == ("epochs_exhausted",)
    assert steps(life) == {}


# -- the chain under an epoch --------------------------------------------------------------------------------


def test_an_input_lost_ends_the_epoch_and_the_next_waits_for_it() -> None:
    life = delivering().sees(view())
    assert latest(life).ended == "input_lost"
    assert life.money.payout and life.money.payout.epoch is None
    life.sees(view(output())).then_among(e.EpochOpened)
    assert steps(life)[Role.BUYER] is Step.EXPORT


def test_an_input_spent_by_others_ends_the_epoch_without_another() -> None:
    life = delivering().sees(view(output(), spends=(spend(tx_hash="foreign", height=None),)))
    assert latest(life).ended == "spent_otherwise"
    assert len(life.money.payouts[-1].epochs) == 1
    life.sees(view(output())).then(e.SpendLost, e.EpochOpened)


def test_a_signed_payout_of_an_earlier_epoch_still_counts_when_it_is_mined() -> None:
    life = abandon(signed(), Role.BUYER, "rejected")
    life.sees(view(output(), height=130, spends=(spend(),))).then_among(e.EscrowCompleted)
    assert getattr(life.state, "outcome", None) == "released"


def test_a_missing_payout_address_holds_the_epoch_back_until_it_is_set() -> None:
    life = all_rounds(created())
    for role in USERS:
        confirm(life, role)
    life.sees(view(output(amount=AMOUNT))).when(c.Ship(at=life.now, by=VENDOR)).then(e.Shipped, e.PayoutOpened)
    for role in (Role.BUYER, Role.VENDOR):
        life.when(c.SetPayoutAddress(at=life.now, by=USERS[role], tag=role, address=Sealed(role)))
    life.then(e.PayoutAddressSet, e.EpochOpened)


def test_a_dispute_after_a_broadcast_is_too_late_even_when_the_broadcast_was_lost() -> None:
    life = sent()
    open_dispute(life).refused("already_broadcast")
    life.sees(view(output(), height=121, spends=(spend(),))).sees(view(output(), height=119))
    open_dispute(life).refused("already_broadcast")


def test_a_broadcast_announced_counts_as_sent() -> None:
    open_dispute(signed().intends(Role.BUYER)).refused("already_broadcast")
    open_dispute(signed()).then_among(e.DisputeOpened)


def test_a_dispute_leaves_no_turn_to_sign() -> None:
    assert Step.COSIGN not in steps(disputed()).values()
