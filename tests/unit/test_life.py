"""The happy path, from the order to the final payout."""

from domain import commands as c
from domain.events import Share
from domain.money import Atomic
from domain.roles import Role
from domain.states import Completed, name
from domain.steps import Step
from tests.given import (
    AMOUNT,
    BUYER,
    NETWORK_FEE,
    VENDOR,
    completed,
    created,
    delivering,
    funded,
    output,
    releasing,
    spend,
    steps,
    view,
)


def test_hosted_seats_are_set_up_at_once() -> None:
    life = created()
    assert name(life.state) == "setting_up"
    assert steps(life) == dict.fromkeys(Role, Step.CLAIM_WALLET)


def test_shipping_asks_the_vendor_to_propose() -> None:
    life = funded()
    life.when(c.Ship(at=life.now, by=VENDOR))
    assert name(life.state) == "delivering"
    assert steps(life) == {Role.VENDOR: Step.PROPOSE}


def test_nobody_is_asked_to_sign_before_the_buyer_confirms() -> None:
    life = delivering()
    assert steps(life) == {}
    life.when(c.ConfirmDelivery(at=life.now, by=BUYER))
    assert steps(life) == {Role.BUYER: Step.COSIGN}


def test_a_release_pays_the_vendor_all_but_the_network_fee() -> None:
    life = releasing()
    payout = life.money.payout
    assert payout and payout.epoch and payout.epoch.proposal
    assert payout.epoch.proposal.shares == (Share(roles=(Role.VENDOR,), amount=Atomic(AMOUNT - NETWORK_FEE)),)


def test_a_release_is_complete_only_when_final() -> None:
    life = releasing().give_signature(Role.BUYER).broadcasts(Role.BUYER)
    life.sees(view(output(), height=129, spends=(spend(),)))
    assert name(life.state) == "releasing"
    life.sees(view(output(), height=130, spends=(spend(),)))
    assert isinstance(life.state, Completed)
    assert life.state.outcome == "released"


def test_nothing_is_awaited_after_the_end() -> None:
    assert steps(completed()) == {}
