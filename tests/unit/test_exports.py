"""Exports: what a cosigner hands out for one signature, when it serves, and when it is used up."""

from domain import commands as c
from domain import events as e
from domain.ids import KeyImage, OneTimeKey, Sealed
from domain.roles import THREE, Role
from domain.states import ExportState
from domain.steps import Step
from domain.turns import turn_of
from tests.given import (
    BUYER,
    NETWORK_FEE,
    VENDOR,
    Life,
    awaiting_funding,
    delivering,
    funded,
    output,
    releasing,
    steps,
    view,
)


def ship(life: Life) -> Life:
    return life.when(c.Ship(at=life.now, by=VENDOR))


def signed() -> Life:
    return releasing().give_signature(Role.BUYER)


def test_without_the_cosigners_export_nobody_proposes() -> None:
    life = ship(awaiting_funding().sees(view(output())))
    assert steps(life)[Role.BUYER] is Step.EXPORT
    assert Step.PROPOSE not in steps(life).values()
    life.give_export(Role.BUYER)
    assert steps(life)[Role.VENDOR] is Step.PROPOSE


def test_a_third_seats_export_is_never_needed() -> None:
    life = ship(awaiting_funding().sees(view(output()))).give_export(Role.BUYER)
    life.give_proposal(Role.VENDOR).then(e.PayoutProposed)


def test_an_export_that_covers_too_little_does_not_serve() -> None:
    life = funded(output(), output("b")).give_export(Role.BUYER, covers=[OneTimeKey("out-1")])
    ship(life)
    assert steps(life)[Role.BUYER] is Step.EXPORT
    life.give_proposal(Role.VENDOR).refused("proposal_invalid")


def test_an_export_of_unknown_outputs_is_not_awaited() -> None:
    funded().give_export(Role.BUYER, covers=[OneTimeKey("nobody's")]).refused("not_awaited")


def test_a_later_deposit_voids_no_export() -> None:
    life = funded().sees(view(output(), output("b", unlocked=False)))
    assert not life.money.exports[Role.BUYER].void
    ship(life)
    assert steps(life)[Role.VENDOR] is Step.PROPOSE


def test_a_proposal_made_with_an_overtaken_export_is_refused() -> None:
    life = ship(funded())
    stale = life.money.exports[Role.BUYER].digest
    life.give_export(Role.BUYER)
    payout = life.money.payout
    assert payout and payout.epoch
    life.when(
        c.GiveProposal(
            at=life.now,
            role=Role.VENDOR,
            payout=1,
            epoch=1,
            tx_set=Sealed("set"),
            digest="d",
            network_fee=NETWORK_FEE,
            export_digest=stale,
            key_images={key: KeyImage("i") for key in payout.epoch.inputs},
        )
    ).refused("proposal_invalid")


def test_a_new_export_of_the_cosigner_voids_the_set_made_with_the_old_one() -> None:
    life = delivering().give_export(Role.BUYER).then(e.ExportGiven, e.EpochAbandoned, e.EpochOpened)
    assert life.money.payouts[0].epochs[0].ended == "export_void"
    assert steps(life) == {Role.VENDOR: Step.PROPOSE}


def test_a_new_export_of_another_seat_leaves_the_set_alone() -> None:
    life = delivering().give_export(Role.ARBITER).then(e.ExportGiven)
    assert life.money.payouts[-1].epochs[-1].ended is None


def test_a_signature_consumes_its_export() -> None:
    states = {role: export.state for role, export in signed().money.exports.items()}
    assert states == {**dict.fromkeys(THREE, ExportState.CURRENT), Role.BUYER: ExportState.CONSUMED}


def test_a_reorganisation_at_a_deposit_voids_what_covers_it_and_leaves_what_was_consumed() -> None:
    life = signed().sees(view(output(height=103)))
    states = {role: export.state for role, export in life.money.exports.items()}
    assert states == {**dict.fromkeys(THREE, ExportState.VOID), Role.BUYER: ExportState.CONSUMED}


def test_an_export_that_may_have_been_signed_with_unseen_is_void() -> None:
    life = releasing().intends(Role.BUYER)
    payout = life.money.payout
    assert payout and payout.epoch
    life.when(c.AbandonEpoch(at=life.now, role=Role.BUYER, payout=1, epoch=1, reason="sign_unknown"))
    assert life.money.exports[Role.BUYER].state is ExportState.VOID


def test_a_consumed_export_told_again_stays_consumed() -> None:
    life = funded()
    first = next(event for event in life.events if isinstance(event, e.ExportGiven) and event.role is Role.BUYER)
    ship(life).give_proposal(Role.VENDOR)
    life.when(c.ConfirmDelivery(at=life.now, by=BUYER)).give_signature(Role.BUYER)
    again = c.GiveExport(at=life.now, role=Role.BUYER, export=first.export, digest=first.digest, covers=first.covers)
    life.when(again).then()
    assert life.money.exports[Role.BUYER].void


def test_each_missing_export_is_a_turn_of_its_own() -> None:
    life = awaiting_funding().sees(view(output(unlocked=False)))
    asked = []
    for height in (101, 103, 105):
        life.sees(view(output(height=height, unlocked=False)))
        turn = turn_of(life.state, Role.BUYER)
        assert turn and turn.step is Step.EXPORT
        asked.append(turn.turn_id)
        life.give_export(Role.BUYER)
    assert len(set(asked)) == 3
