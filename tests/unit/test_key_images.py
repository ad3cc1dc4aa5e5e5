"""Key images: asked for as soon as two seats can tell them, so that a payout made without us is recognised."""

from domain import events as e
from domain.ids import KeyImage, OneTimeKey
from domain.roles import THREE, Role
from domain.steps import Step
from domain.turns import turn_of
from tests.given import awaiting_funding, completed, delivering, funded, output, steps, view


def test_they_are_asked_for_once_another_seat_has_exported() -> None:
    life = awaiting_funding().sees(view(output(unlocked=False), height=102))
    assert Step.KEY_IMAGES not in steps(life).values()
    life.give_export(Role.VENDOR)
    assert Step.KEY_IMAGES not in steps(life).values()  # the buyer and the arbiter owe an export first
    life.give_export(Role.BUYER)
    assert steps(life) == {Role.VENDOR: Step.KEY_IMAGES, Role.ARBITER: Step.EXPORT}


def test_one_seat_is_asked_and_its_word_is_enough() -> None:
    life = awaiting_funding().sees(view(output(unlocked=False), height=102))
    for role in THREE:
        life.give_export(role)
    assert steps(life) == {Role.VENDOR: Step.KEY_IMAGES}
    life.tell_key_images(Role.VENDOR).then(e.KeyImagesTold)
    assert steps(life) == {}
    assert life.money.key_images == {OneTimeKey("out-1"): KeyImage("image-out-1")}


def test_a_seat_that_failed_is_followed_by_another_one() -> None:
    life = awaiting_funding().sees(view(output(unlocked=False), height=102))
    for role in THREE:
        life.give_export(role)
    life.fails(Role.VENDOR)
    assert steps(life) == {Role.BUYER: Step.KEY_IMAGES}
    life.fails(Role.BUYER).fails(Role.ARBITER)
    assert steps(life) == {Role.VENDOR: Step.KEY_IMAGES}


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
    assert steps(life) == {Role.VENDOR: Step.KEY_IMAGES}
    life.fails(Role.VENDOR)
    assert steps(life) == {Role.ARBITER: Step.KEY_IMAGES}


def test_the_first_word_on_an_output_stands_and_told_again_it_is_no_news() -> None:
    life = funded()
    life.tell_key_images(Role.BUYER).then()
    life.tell_key_images(Role.BUYER, of=[OneTimeKey("nobody's")]).refused("not_awaited")


def test_after_the_end_nobody_is_asked() -> None:
    life = completed()
    life.sees(view(output(), output("late", height=131), height=150, spends=()))
    assert Step.KEY_IMAGES not in steps(life).values()
