"""Key images: asked for as soon as two seats can tell them, so that a payout made without us is recognised."""

import pytest

from domain import events as e
from domain.ids import KeyImage, OneTimeKey
from domain.roles import PARTIES, THREE, Role
from domain.steps import Step
from domain.turns import turn_of
from tests.given import Life, awaiting_funding, completed, delivering, funded, output, steps, view


def test_they_are_asked_for_once_another_seat_has_exported() -> None:
    life = awaiting_funding().sees(view(output(unlocked=False), height=102))
    assert Step.KEY_IMAGES not in steps(life).values()
    life.give_export(Role.VENDOR)
    assert Step.KEY_IMAGES not in steps(life).values()  # the buyer and the arbiter owe an export first
    life.give_export(Role.BUYER)
    assert steps(life) == {**dict.fromkeys(PARTIES, Step.KEY_IMAGES), Role.ARBITER: Step.EXPORT}


def exported(*roles: Role) -> Life:
    life = awaiting_funding().sees(view(output(unlocked=False), height=102))
    for role in roles:
        life.give_export(role)
    return life


def test_two_seats_are_asked_and_the_word_of_one_is_enough() -> None:
    life = exported(*THREE)
    assert steps(life) == {Role.VENDOR: Step.KEY_IMAGES, Role.BUYER: Step.KEY_IMAGES}
    life.tell_key_images(Role.BUYER).then(e.KeyImagesTold)
    assert steps(life) == {}
    assert life.money.key_images == {OneTimeKey("out-1"): KeyImage("image-out-1")}


@pytest.mark.parametrize("away", THREE)
def test_a_seat_that_never_exported_is_not_asked(away: Role) -> None:
    present = [role for role in THREE if role is not away]
    assert steps(exported(*present)) == {away: Step.EXPORT, **dict.fromkeys(present, Step.KEY_IMAGES)}


def test_a_seat_that_failed_is_asked_last() -> None:
    life = exported(*THREE).fails(Role.VENDOR)
    assert set(steps(life)) == {Role.BUYER, Role.ARBITER}
    life.fails(Role.BUYER)
    assert set(steps(life)) == {Role.ARBITER, Role.VENDOR}


def test_a_later_deposit_is_asked_for_by_a_turn_of_its_own() -> None:
    life = funded()
    life.sees(view(output(), output("b")))
    for role in THREE:
        life.give_export(role)
    turn = turn_of(life.state, Role.VENDOR)
    assert turn is not None
    assert (turn.step, turn.turn_id) == (Step.KEY_IMAGES, "key_images:2")


def test_the_seat_that_has_to_sign_an_open_set_is_not_asked() -> None:
    life = delivering().sees(view(output(), output("b")))
    life.give_export(Role.VENDOR).give_export(Role.ARBITER)
    assert steps(life) == {Role.VENDOR: Step.KEY_IMAGES, Role.ARBITER: Step.KEY_IMAGES}


def test_the_first_word_on_an_output_stands_and_told_again_it_is_no_news() -> None:
    life = funded()
    life.tell_key_images(Role.BUYER).then()
    life.tell_key_images(Role.BUYER, of=[OneTimeKey("nobody's")]).refused("not_awaited")


def test_after_the_end_nobody_is_asked() -> None:
    life = completed()
    life.sees(view(output(), output("late", height=131), height=150, spends=()))
    assert Step.KEY_IMAGES not in steps(life).values()
