"""A decision stands for the amounts that its arbiter confirmed, decided over whatever is there by then."""

from hypothesis import given as drawn
from hypothesis import strategies as st

from domain import commands as c
from domain import events as e
from domain.amounts import Amounts
from domain.events import Verdict
from domain.ids import Sealed
from domain.money import Atomic
from domain.preview import preview
from domain.refusals import Refused
from domain.roles import Role
from domain.terms import FeeSettlement, Policy
from tests.given import AMOUNT, ARBITER, BUYER, Life, funded, output, view
from tests.unit.test_dispute import case_of, dispute

FEE = AMOUNT // 50


def told(life: Life, verdict: Verdict = Verdict.RELEASE, *, bp: int | None = None) -> Amounts:
    """What the arbiter is told now."""
    found = preview(life.state, verdict=verdict, buyer_share_bp=bp, at=life.now)
    assert isinstance(found, Amounts)
    return found


def decide(life: Life, confirmed: Amounts | None, verdict: Verdict = Verdict.RELEASE, *, bp: int | None = None) -> Life:
    command = c.ResolveDispute(
        at=life.now, by=ARBITER, verdict=verdict, buyer_share_bp=bp, reason=Sealed("because"), confirmed=confirmed
    )
    return life.when(command)


def test_a_decision_over_the_amounts_that_were_confirmed_is_taken() -> None:
    life = dispute(funded())
    amounts = told(life)
    assert amounts == Amounts(buyer=Atomic(0), vendor=Atomic(AMOUNT - FEE), arbiter=Atomic(FEE))
    decide(life, amounts).then_among(e.PayoutOpened)


def test_a_deposit_between_the_confirmation_and_the_decision_has_it_refused_and_changes_nothing() -> None:
    life = dispute(funded())
    amounts = told(life)
    life.sees(view(output(), output("out-2", amount=5_000_000_000)))
    before = life.state
    decide(life, amounts).refused("amounts_changed")
    assert (life.state, case_of(life).verdict) == (before, None)
    decide(life, told(life)).then_among(e.PayoutOpened)


def test_a_deposit_that_a_reorganisation_took_meanwhile_has_a_decision_refused() -> None:
    life = dispute(funded())
    amounts = told(life)
    decide(life.sees(view()), amounts).refused("amounts_changed")
    assert told(life).parts == (0, 0, 0)


def test_a_decision_without_amounts_is_taken_over_whatever_is_there() -> None:
    decide(dispute(funded()).sees(view()), None).then_among(e.PayoutOpened)


def test_what_cannot_be_decided_at_all_is_refused_for_that_reason() -> None:
    life = dispute(funded())
    decide(life, told(life), Verdict.SPLIT, bp=10_001).refused("bp_invalid")
    nothing = Amounts(buyer=Atomic(0), vendor=Atomic(0), arbiter=Atomic(0))
    decide(decide(life, told(life)), nothing).refused("case_closed")


def test_what_is_confirmed_hangs_on_nobodys_address() -> None:
    life = dispute(funded())
    amounts = told(life, Verdict.SPLIT, bp=5_000)
    shared = c.SetPayoutAddress(at=life.now, by=ARBITER, tag=f"tag-{Role.BUYER}", address=Sealed("the buyer's"))
    life.when(shared).when(c.ConsentAddress(at=life.now, by=BUYER, role=Role.ARBITER))
    assert life.state.core.addresses[Role.ARBITER].tag == life.state.core.addresses[Role.BUYER].tag
    decide(life, amounts, Verdict.SPLIT, bp=5_000).then_among(e.PayoutOpened)


DEPOSITS = st.lists(st.integers(min_value=1, max_value=2 * AMOUNT), max_size=3)


@drawn(
    seen=DEPOSITS,
    later=DEPOSITS,
    bp=st.integers(min_value=0, max_value=10_000),
    other_bp=st.integers(min_value=0, max_value=10_000),
    settlement=st.sampled_from(FeeSettlement),
)
def test_a_decision_is_taken_exactly_if_it_divides_what_was_confirmed(
    seen: list[int], later: list[int], bp: int, other_bp: int, settlement: FeeSettlement
) -> None:
    life = dispute(funded(policy=Policy(fee_settlement=settlement)))
    life.sees(view(*(output(f"seen-{number}", amount=amount) for number, amount in enumerate(seen))))
    confirmed = told(life, Verdict.SPLIT, bp=bp)
    life.sees(view(*(output(f"later-{number}", amount=amount) for number, amount in enumerate(later)), height=112))
    by_then, before = told(life, Verdict.SPLIT, bp=other_bp), life.state
    decide(life, confirmed, Verdict.SPLIT, bp=other_bp)
    if confirmed == by_then:
        assert case_of(life).verdict is Verdict.SPLIT
    else:
        assert life.answer == Refused("amounts_changed") and life.state == before
