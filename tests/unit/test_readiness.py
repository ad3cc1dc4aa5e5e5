"""The arbiter's readiness: where the terms ask for it, the address to pay to is shown once the arbiter is there."""

from domain import commands as c
from domain import events as e
from domain.ids import Micros, Sealed
from domain.roles import THREE, Role
from domain.setup import payin_address
from domain.states import name
from domain.terms import Policy
from domain.turns import awaited
from tests.given import (
    ADDRESS,
    AMOUNT,
    BUYER,
    SECOND,
    Life,
    all_rounds,
    awaiting_funding,
    confirm,
    created,
    output,
    view,
    with_addresses,
)

ASKS = Policy(arbiter_ready_s=60)


def report(life: Life, *, seen_s_ago: int = 0) -> Life:
    return life.when(c.ReportArbiterReady(at=life.now, seen_at=Micros(life.now - seen_s_ago * SECOND)))


def waits(life: Life) -> set[tuple[str, str]]:
    return {(str(each.who), each.what) for each in awaited(life.state)}


def test_the_address_is_kept_back_until_the_arbiter_is_there_and_everybody_sees_who_is_awaited() -> None:
    life = awaiting_funding(policy=ASKS)
    assert (payin_address(life.state), waits(life)) == (None, {("arbiter", "be_ready")})
    report(life, seen_s_ago=60).then(e.ArbiterReady)
    assert (payin_address(life.state), waits(life)) == (ADDRESS, {("buyer", "pay_in")})
    report(life).then()
    assert payin_address(life.later(10_000).state) == ADDRESS, "shown once, it stays shown"


def test_an_arbiter_seen_too_long_ago_is_not_ready() -> None:
    report(awaiting_funding(policy=ASKS), seen_s_ago=61).refused("arbiter_not_ready")


def test_readiness_is_asked_when_the_address_is_due_and_not_before() -> None:
    life = all_rounds(created(policy=ASKS))
    report(life).then()
    for role in THREE:
        confirm(life, role)
    report(with_addresses(life, Role.VENDOR)).then()
    assert ("arbiter", "be_ready") not in waits(life)
    report(with_addresses(life, Role.BUYER)).then(e.ArbiterReady)
    assert payin_address(life.state) == ADDRESS


def test_terms_that_ask_for_nothing_show_the_address_at_once() -> None:
    life = awaiting_funding()
    assert payin_address(life.state) == ADDRESS
    report(life).then()


def test_payout_addresses_change_freely_while_the_address_is_kept_back() -> None:
    life = awaiting_funding(policy=ASKS)
    change = c.SetPayoutAddress(at=life.now, by=BUYER, tag="other", address=Sealed("other"))
    life.when(change).then(e.PayoutAddressSet)
    life = report(awaiting_funding(policy=ASKS))
    life.when(change).then(e.AddressChangeProposed)


def test_a_little_that_is_paid_in_shows_no_address_to_a_buyer_whose_arbiter_is_away() -> None:
    life = awaiting_funding(policy=ASKS).sees(view(output(amount=1)))
    life.sees(view(output(amount=1), output("out-2", amount=AMOUNT - 1)))
    assert (payin_address(life.state), ("arbiter", "be_ready") in waits(life)) == (None, True)
    change = c.SetPayoutAddress(at=life.now, by=BUYER, tag="other", address=Sealed("other"))
    life.when(change).then(e.AddressChangeProposed)
    report(life).then(e.ArbiterReady)
    assert payin_address(life.state) == ADDRESS


def test_the_whole_amount_on_its_way_awaits_no_arbiter() -> None:
    life = awaiting_funding(policy=ASKS).sees(view(output(height=None, unlocked=False)))
    assert (payin_address(life.state), ("arbiter", "be_ready") in waits(life)) == (ADDRESS, False)
    report(life).then()


def test_money_that_comes_all_the_same_is_funding_like_any_other() -> None:
    life = awaiting_funding(policy=ASKS).sees(view(output()))
    assert (name(life.state), payin_address(life.state)) == ("funded", ADDRESS)
    report(life).then()
    life.when(c.SetPayoutAddress(at=life.now, by=BUYER, tag="other", address=Sealed("other")))
    life.then(e.AddressChangeProposed)


def test_the_buyers_time_to_pay_runs_from_when_the_arbiter_was_there() -> None:
    life = report(awaiting_funding(policy=ASKS).later(47 * 3_600)).passes(24 * 3_600 - 1).refused("nothing_due")
    life.passes(1).then(e.ReminderDue)
    life.passes(24 * 3_600 - 1).refused("nothing_due")
    life.passes(1).then(e.Cancelled)


def test_an_arbiter_who_never_comes_costs_nobody_anything() -> None:
    life = awaiting_funding(policy=ASKS).later(48 * 3_600)
    life.when(c.PassTime(at=life.now))
    assert name(life.state) == "cancelled"
