"""What the chain shows of a payout is compared with what was signed: each difference is an item for people."""

from functools import partial

import pytest
from msgspec.structs import replace

from domain import commands as c
from domain.chain import SeenOutput, SeenSpend, TxFacts
from domain.checks import Described, shown_faults
from domain.checks import faults as checked
from domain.events import FeeBand
from domain.ids import Address, OneTimeKey, TxHash
from domain.money import Atomic
from domain.roles import Role
from tests.given import AMOUNT, BUYER, NETWORK_FEE, VENDOR, Life, funded, output, releasing, spend, view

RIGHT = TxFacts(network_fee=NETWORK_FEE, unlock_time=0, outputs=2)


def sent() -> Life:
    return releasing().give_signature(Role.BUYER).broadcasts(Role.BUYER)


def shown(life: Life, *spends: SeenSpend, outputs: tuple[SeenOutput, ...] = ()) -> Life:
    return life.sees(view(output(), *outputs, height=125, spends=spends))


def faults(life: Life) -> tuple[str, ...]:
    return shown_faults(life.money, life.money.payouts[-1].epochs[-1])


def left_over(amount: int) -> SeenOutput:
    return SeenOutput(
        one_time_key=OneTimeKey("change"),
        tx_hash=TxHash("payout-tx"),
        amount=Atomic(amount),
        height=120,
        unlocked=False,
    )


@pytest.mark.parametrize("facts", [None, RIGHT])
def test_a_payout_as_it_was_signed_is_no_item(facts: TxFacts | None) -> None:
    life = shown(sent(), replace(spend(), facts=facts))
    assert faults(life) == ()
    assert life.state.core.recovery == ()


@pytest.mark.parametrize(
    ("facts", "fault"),
    [
        (replace(RIGHT, network_fee=Atomic(NETWORK_FEE + 1)), "fee"),
        (replace(RIGHT, unlock_time=1), "unlock_time"),
        (replace(RIGHT, outputs=3), "outputs"),
    ],
)
def test_whatever_differs_is_named_and_people_must_look(facts: TxFacts, fault: str) -> None:
    life = shown(sent(), replace(spend(), facts=facts))
    assert faults(life) == (fault,)
    assert life.state.core.recovery == ("payout_differs",)


def test_a_set_over_an_output_that_was_paid_again_since_is_not_signed() -> None:
    life = releasing()
    epoch = life.money.payouts[-1].epochs[-1]
    vendors = {Role.VENDOR: Address("vendor's")}
    described = Described(
        amount_in=AMOUNT,
        amount_out=Atomic(AMOUNT - NETWORK_FEE),
        recipients=((vendors[Role.VENDOR], Atomic(AMOUNT - NETWORK_FEE)),),
        change_amount=Atomic(0),
        change_address="",
        fee=NETWORK_FEE,
        unlock_time=0,
        payment_id="",
    )
    judged = partial(checked, epoch=epoch, addresses=vendors, fee_band=FeeBand(Atomic(1), NETWORK_FEE))
    assert judged([described], money=life.money) == ()
    deposit = life.money.deposits[OneTimeKey("out-1")]
    worth_more = replace(life.money, deposits={deposit.one_time_key: replace(deposit, amount=Atomic(AMOUNT + 1))})
    assert judged([described], money=worth_more) == ("amount_in",)
    assert judged([replace(described, amount_in=Atomic(AMOUNT + 1))], money=worth_more) == ("amount_in", "balance")


def test_change_that_nobody_decided_is_found_by_the_view_key() -> None:
    life = shown(sent(), replace(spend(), facts=RIGHT), outputs=(left_over(1),))
    assert faults(life) == ("change",)
    assert "payout_differs" in life.state.core.recovery


def test_other_inputs_than_the_epochs_are_found_by_their_key_images() -> None:
    life = funded(output(), output("late", unlocked=False))
    life = _released(life)
    life.sees(view(output(), output("late"), height=125, spends=(spend(), spend("late"))))
    assert faults(life) == ("inputs",)


def test_an_input_whose_key_image_is_told_later_is_seen_spent_then() -> None:
    life = funded(output(), output("late", unlocked=False))
    life = _released(life)
    both = (output(), output("late"))
    life.sees(view(*both, height=125, spends=(spend(),)))
    life.sees(view(*both, height=126, spends=(spend(), spend("late"))))
    assert {deposit.spent_by for deposit in life.money.deposits.values()} == {"payout-tx"}
    life.sees(view(*both, height=126, spends=(spend(), spend("late")))).then()


def test_before_it_is_shown_nothing_is_wrong_with_a_payout() -> None:
    assert faults(sent()) == ()


def _released(life: Life) -> Life:
    life.when(c.Ship(at=life.now, by=VENDOR)).give_proposal(Role.VENDOR)
    life.when(c.ConfirmDelivery(at=life.now, by=BUYER))
    return life.give_signature(Role.BUYER).broadcasts(Role.BUYER)
