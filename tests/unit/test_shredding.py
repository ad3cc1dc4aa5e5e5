"""When the secrets of an escrow may go for good, and what is left of it then."""

import msgspec
import pytest

from domain import commands as c
from domain import events as e
from domain.deadlines import deadlines
from domain.events import Verdict
from domain.evolve import ImpossibleHistory, evolve
from domain.ids import CaseId, Sealed, UserId
from domain.roles import Role
from domain.states import money_of, name
from domain.turns import awaited, turns
from tests.given import (
    ARBITER,
    BUYER,
    VENDOR,
    Life,
    awaiting_funding,
    completed,
    created,
    disputed,
    funded,
    output,
    spend,
    view,
)

DAYS = 90
ROOT = UserId("root")
DAY_S = 24 * 3_600


def _shred(life: Life) -> Life:
    return life.when(c.ShredKey(at=life.now, by=ROOT, retention_days=DAYS))


def _kept(life: Life) -> Life:
    """Lets the retention pass."""
    return life.later(DAYS * DAY_S)


def _ruled() -> Life:
    """A dispute decided for the buyer and paid for good."""
    life = disputed().when(c.ReviewDispute(at=disputed().now, by=ARBITER))
    life.when(
        c.ResolveDispute(
            at=life.now, by=ARBITER, verdict=Verdict.REFUND, buyer_share_bp=None, reason=Sealed("sealed reason")
        )
    )
    life.give_proposal(Role.BUYER).give_signature(Role.ARBITER).broadcasts(Role.ARBITER)
    return life.sees(view(output(), height=130, spends=(spend(),)))


def test_the_secrets_of_a_paid_escrow_go_when_their_retention_is_over() -> None:
    life = _shred(_kept(completed())).then(e.KeyShredded)
    (event,) = life.events[-1:]
    assert event == e.KeyShredded(at=life.now, by=ROOT, retention_days=DAYS)
    assert (name(life.state), life.state.core.shredded_at) == ("completed", life.now)


def test_until_the_last_moment_of_the_retention_they_stay_and_the_days_left_are_told() -> None:
    life = _shred(completed().later(DAYS * DAY_S - 1)).refused("retention_runs")
    assert msgspec.to_builtins(life.answer) == {"code": "retention_runs", "facts": {"days_left": 1}}
    _shred(life.later(1)).then(e.KeyShredded)


def test_the_retention_begins_anew_with_whatever_the_chain_shows_later() -> None:
    life = _kept(completed())
    life.sees(view(output(), output("late", amount=5), height=140, spends=(spend(),)))
    _shred(life).refused("retention_runs")
    _shred(_kept(life)).then(e.KeyShredded)


@pytest.mark.parametrize("life", [created, awaiting_funding, funded, disputed], ids=lambda life: life.__name__)
def test_nothing_goes_while_the_order_is_under_way(life) -> None:
    _shred(_kept(life())).refused("not_closed")


def test_money_that_came_after_the_end_is_settled_before_anything_goes() -> None:
    life = awaiting_funding().when(c.CancelEscrow(at=awaiting_funding().now, by=BUYER))
    life.sees(view(output()))
    assert "late_deposit" in life.state.core.recovery
    _shred(_kept(life)).refused("unsettled")
    life.when(c.NoteRecovery(at=life.now, by=ROOT, action="mark_investigated", notes=Sealed("n")))
    assert life.state.core.recovery == ()
    refused = _shred(_kept(life)).refused("unsettled").answer
    assert msgspec.to_builtins(refused)["facts"] == {"by": "deposit"}


def _late_and_taken_by_others(life: Life) -> Life:
    late = (output(), output("late", height=131))
    return life.sees(view(*late, height=190, spends=(spend(), spend("late", tx_hash="theirs", height=151))))


def test_late_money_that_others_took_for_good_ends_the_agreement_about_it() -> None:
    life = completed().sees(view(output(), output("late", height=131), height=150, spends=(spend(),)))
    life.when(c.ProposeAgreement(at=life.now, by=VENDOR, buyer_share_bp=10_000))
    life.when(c.AcceptAgreement(at=life.now, by=BUYER, number=1))
    _late_and_taken_by_others(life).then_among(e.PayoutDropped)
    assert life.state.core.recovery == ("spent_by_others",)
    life.when(c.NoteRecovery(at=life.now, by=ARBITER, action="mark_investigated", notes=Sealed("looked")))
    _shred(_kept(life)).then(e.KeyShredded)


def test_late_money_that_others_took_for_good_closes_the_case_about_it() -> None:
    life = completed().sees(view(output(), output("late", height=131), height=150, spends=(spend(),)))
    life.when(c.OpenDispute(at=life.now, by=BUYER, case_id=CaseId("case-1"), claim=Sealed("claim")))
    life.when(
        c.ResolveDispute(at=life.now, by=ARBITER, verdict=Verdict.REFUND, buyer_share_bp=None, reason=Sealed("because"))
    )
    _late_and_taken_by_others(life).then_among(e.PayoutDropped).then_among(e.DisputeClosed)
    life.when(c.NoteRecovery(at=life.now, by=ARBITER, action="mark_investigated", notes=Sealed("looked")))
    _shred(_kept(life)).then(e.KeyShredded)


def test_late_money_that_a_reorganisation_takes_keeps_the_agreement_about_it() -> None:
    late = (output(), output("late", height=131))
    life = completed().sees(view(*late, height=150, spends=(spend(),)))
    life.when(c.ProposeAgreement(at=life.now, by=VENDOR, buyer_share_bp=10_000))
    life.when(c.AcceptAgreement(at=life.now, by=BUYER, number=1))
    life.sees(view(output(), height=151, spends=(spend(),)))
    assert life.money.payout is not None
    life.sees(view(*late, height=152, spends=(spend(),))).then_among(e.EpochOpened)


def test_dust_that_was_left_holds_nothing_up() -> None:
    dust = output("dust", amount=10)
    life = completed()
    life.sees(view(output(), dust, height=140, spends=(spend(),)))
    if life.state.core.recovery:
        life.when(c.NoteRecovery(at=life.now, by=ROOT, action="mark_investigated", notes=Sealed("n")))
    _shred(_kept(life)).then(e.KeyShredded)


def test_a_cancelled_order_that_never_had_an_address_has_secrets_too() -> None:
    life = created().when(c.CancelEscrow(at=created().now, by=BUYER))
    _shred(_kept(life)).then(e.KeyShredded)


def test_shredding_twice_is_nothing_new() -> None:
    life = _shred(_kept(completed()))
    _shred(life.later(1)).then()


def test_after_it_nothing_is_possible_and_nobody_is_awaited() -> None:
    life = _shred(_kept(completed()))
    for command in (
        c.OpenDispute(at=life.now, by=BUYER, case_id=CaseId("c"), claim=Sealed("x")),
        c.SetPayoutAddress(at=life.now, by=BUYER, tag="t", address=Sealed("x")),
        c.ProposeAgreement(at=life.now, by=BUYER, buyer_share_bp=5_000),
        c.ObserveChain(at=life.now, view=view(output("late"), height=200), version=life.state.core.version),
        c.PassTime(at=life.now),
    ):
        life.when(command).refused("secrets_shredded")
    assert (turns(life.state), awaited(life.state), deadlines(life.state)) == ((), (), ())


def test_what_nobody_can_open_any_more_is_left_out_of_the_state() -> None:
    life = _ruled()
    case = life.state.core.case
    assert case is not None and case.claims and case.reason
    case = _shred(_kept(life)).then(e.KeyShredded).state.core.case
    assert case is not None
    assert (case.claims, case.reason, case.verdict, case.opened_by) == ({}, None, Verdict.REFUND, Role.BUYER)


def test_a_wallet_keeps_its_secrets() -> None:
    life = _shred(_kept(completed()))
    assert all(seat.secrets for seat in life.state.core.seats.values())
    assert money_of(life.state) is not None


def test_a_log_in_which_secrets_went_too_early_is_impossible() -> None:
    with pytest.raises(ImpossibleHistory):
        evolve(funded().state, e.KeyShredded(at=funded().now, by=ROOT, retention_days=1))
