"""The arithmetic of a payout, to the atomic unit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain import commands as c
from domain.events import Purpose, Share, Verdict
from domain.ids import Sealed
from domain.money import Atomic
from domain.payout import BP_ALL, outcome, shares
from domain.roles import THREE, Role
from domain.states import Payout
from domain.terms import Policy, Terms, arbiter_fee
from tests.given import AMOUNT, ARBITER, NETWORK_FEE, VENDOR, disputed, funded, releasing, terms

DUST = 1_000_000_000
TAGS = {role: f"tag-{role}" for role in THREE}
B, V, A = Role.BUYER, Role.VENDOR, Role.ARBITER


def payout(purpose: Purpose, *, bp: int, surplus: bool = False, fee: int = 0) -> Payout:
    return Payout(
        number=1,
        purpose=purpose,
        proposers=(V,),
        cosigner=B,
        buyer_share_bp=bp,
        surplus_to_buyer=surplus,
        fee_atomic=Atomic(fee),
        consents=frozenset(),
    )


RELEASE = payout(Purpose.RELEASE, bp=0, surplus=True)
REFUND = payout(Purpose.REFUND, bp=BP_ALL)


def ruling(bp: int, *, fee: int = AMOUNT // 50, surplus: bool = False) -> Payout:
    return payout(Purpose.RULING, bp=bp, fee=fee, surplus=surplus)


def divided(what: Payout, *, inputs: int, fee: int = NETWORK_FEE, tags: dict[Role, str] | None = None) -> list[Share]:
    return shares(what, terms(), inputs=inputs, smallest=inputs, network_fee=fee, tags=tags or TAGS)


def share(amount: int, *roles: Role) -> Share:
    return Share(roles=roles, amount=Atomic(amount))


# -- release and refund --------------------------------------------------------------------------------------


def test_a_release_gives_the_vendor_all_but_the_network_fee() -> None:
    assert divided(RELEASE, inputs=AMOUNT) == [share(AMOUNT - NETWORK_FEE, V)]


def test_what_was_paid_above_the_amount_goes_back_to_the_buyer() -> None:
    assert divided(RELEASE, inputs=AMOUNT + DUST + 1) == [share(DUST + 1, B), share(AMOUNT - NETWORK_FEE, V)]


def test_a_surplus_of_dust_stays_with_the_vendor() -> None:
    assert divided(RELEASE, inputs=AMOUNT + DUST) == [share(AMOUNT + DUST - NETWORK_FEE, V)]


def test_an_under_paid_release_gives_what_there_is() -> None:
    assert divided(RELEASE, inputs=5 * DUST, fee=DUST) == [share(4 * DUST, V)]


def test_a_refund_gives_the_buyer_everything_surplus_included() -> None:
    assert divided(REFUND, inputs=AMOUNT + 7) == [share(AMOUNT + 7 - NETWORK_FEE, B)]


# -- rulings -------------------------------------------------------------------------------------------------


def test_the_arbiters_fee_is_two_percent_rounded_down() -> None:
    assert arbiter_fee(terms()) == 40_000_000_000
    assert arbiter_fee(terms(amount=149)) == 2
    assert arbiter_fee(terms(amount=49)) == 0
    assert arbiter_fee(terms(amount=100, policy=Policy(arbiter_fee_ppm=33_333))) == 3


def test_a_ruling_for_the_vendor_takes_both_fees_from_it() -> None:
    fee = AMOUNT // 50
    assert divided(ruling(0, surplus=True), inputs=AMOUNT) == [share(AMOUNT - NETWORK_FEE - fee, V), share(fee, A)]


def test_a_ruling_for_the_vendor_still_returns_the_surplus() -> None:
    fee = AMOUNT // 50
    assert divided(ruling(0, surplus=True), inputs=2 * AMOUNT) == [
        share(AMOUNT, B),
        share(AMOUNT - NETWORK_FEE - fee, V),
        share(fee, A),
    ]


def test_a_ruling_for_the_buyer_takes_both_fees_from_it() -> None:
    fee = AMOUNT // 50
    assert divided(ruling(BP_ALL), inputs=AMOUNT) == [share(AMOUNT - NETWORK_FEE - fee, B), share(fee, A)]


@pytest.mark.parametrize("bp", [10, 3_333, 5_000, 6_667, 9_990])
def test_a_split_rounds_the_buyer_down_and_gives_the_vendor_the_rest(bp: int) -> None:
    inputs, fee = AMOUNT + 1, AMOUNT // 50
    rest = inputs - NETWORK_FEE - fee
    buyer = rest * bp // 10_000
    assert divided(ruling(bp), inputs=inputs) == [share(buyer, B), share(rest - buyer, V), share(fee, A)]


def test_a_fee_is_capped_by_what_is_there() -> None:
    assert divided(ruling(5_000), inputs=10 * DUST, fee=2 * DUST) == [share(8 * DUST, A)]


def test_nothing_is_divided_unless_something_is_left_after_the_network_fee() -> None:
    assert divided(RELEASE, inputs=NETWORK_FEE) == []
    assert divided(RELEASE, inputs=NETWORK_FEE - 1) == []
    assert divided(RELEASE, inputs=NETWORK_FEE + 1) == [share(1, V)]


# -- zero and dust -------------------------------------------------------------------------------------------


def test_a_partys_dust_joins_the_other_party_not_the_arbiter() -> None:
    fee = 40 * DUST
    what, inputs = ruling(5_000, fee=fee), fee + 3 * DUST
    assert divided(what, inputs=inputs, fee=2 * DUST - 600_000_000) == [share(1_600_000_000, B), share(fee, A)]


def test_two_parties_dust_that_is_dust_together_joins_the_arbiter() -> None:
    fee = 40 * DUST
    assert divided(ruling(5_000, fee=fee), inputs=fee + DUST + 8, fee=DUST) == [share(fee + 8, A)]


def test_a_fee_of_dust_joins_the_larger_share() -> None:
    assert divided(ruling(0, fee=DUST), inputs=9 * DUST, fee=4 * DUST) == [share(5 * DUST, V)]


@pytest.mark.parametrize(
    ("bp", "expected"), [(5, [share(AMOUNT, V)]), (10, [share(2 * DUST, B), share(AMOUNT - 2 * DUST, V)])]
)
def test_a_share_of_dust_is_dropped_and_one_above_is_paid(bp: int, expected: list[Share]) -> None:
    assert divided(payout(Purpose.AGREEMENT, bp=bp), inputs=AMOUNT + 1, fee=1) == expected


# -- equal addresses -----------------------------------------------------------------------------------------


def test_equal_addresses_are_one_destination() -> None:
    same = {B: "one", V: "one", A: "other"}
    fee = AMOUNT // 50
    assert divided(ruling(5_000), inputs=AMOUNT, tags=same) == [share(AMOUNT - NETWORK_FEE - fee, B, V), share(fee, A)]


def test_all_three_at_one_address_are_one_destination() -> None:
    assert divided(ruling(5_000), inputs=AMOUNT, tags=dict.fromkeys(THREE, "one")) == [
        share(AMOUNT - NETWORK_FEE, B, V, A)
    ]


# -- anything ------------------------------------------------------------------------------------------------

figures = st.integers(1, 2**62)


@given(
    amount=figures,
    inputs=figures,
    network_fee=figures,
    bp=st.integers(0, BP_ALL),
    fee=st.integers(0, 2**60),
    surplus=st.booleans(),
    same=st.sampled_from((TAGS, dict.fromkeys(THREE, "one"), {B: "one", V: "other", A: "one"})),
)
def test_shares_and_network_fee_are_the_inputs_whatever_they_are(
    amount: int, inputs: int, network_fee: int, bp: int, fee: int, surplus: bool, same: dict[Role, str]
) -> None:
    order: Terms = replace(terms(), amount=Atomic(amount))
    what = ruling(bp, fee=fee, surplus=surplus)
    found = shares(what, order, inputs=inputs, smallest=inputs, network_fee=network_fee, tags=same)
    if inputs <= network_fee:
        assert found == []
        return
    assert sum(each.amount for each in found) + network_fee == inputs
    assert all(each.amount > 0 for each in found)
    assert len({same[each.roles[0]] for each in found}) == len(found)


# -- in a life -----------------------------------------------------------------------------------------------


def test_a_ruling_in_a_life_pays_the_arbiter_from_the_amount() -> None:
    life = disputed()
    life.when(
        c.ResolveDispute(at=life.now, by=ARBITER, verdict=Verdict.SPLIT, buyer_share_bp=3_333, reason=Sealed("r"))
    ).give_proposal(V)
    running = life.money.payout
    assert running and running.epoch and running.epoch.proposal
    rest = AMOUNT - NETWORK_FEE - 40_000_000_000
    buyer = rest * 3_333 // 10_000
    assert running.epoch.proposal.shares == (share(buyer, B), share(rest - buyer, V), share(40_000_000_000, A))


@pytest.mark.parametrize("fee", [0, 100_000_000_001])
def test_a_network_fee_outside_its_band_is_no_proposal(fee: int) -> None:
    life = funded()
    life.when(c.Ship(at=life.now, by=VENDOR)).give_proposal(V, network_fee=fee).refused("proposal_invalid")


@pytest.mark.parametrize(
    ("what", "named"),
    [
        (None, "agreed"),
        (payout(Purpose.AGREEMENT, bp=0), "agreed"),
        (payout(Purpose.AGREEMENT, bp=BP_ALL), "agreed"),
        (RELEASE, "released"),
        (REFUND, "refunded"),
        (ruling(0), "released"),
        (ruling(BP_ALL), "refunded"),
        (ruling(5_000), "split"),
    ],
)
def test_an_outcome_is_named_by_its_payout(what: Payout | None, named: str) -> None:
    assert outcome(what) == named


def test_no_fee_without_a_ruling() -> None:
    running = releasing().money.payout
    assert running and running.epoch and running.epoch.proposal
    assert [each.roles for each in running.epoch.proposal.shares] == [(V,)]
