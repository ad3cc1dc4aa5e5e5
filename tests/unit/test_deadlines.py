"""Deadlines: what passes by itself, when, once, and without the hours in which our own daemon was down."""

import pytest
from msgspec.structs import replace

from domain import commands as c
from domain import events as e
from domain.deadlines import deadlines, overlap_s
from domain.ids import CaseId, Micros, Sealed, WalletId
from domain.roles import THREE, Role, SeatKind
from domain.states import Cancelled, SetupFailed, name
from domain.steps import Round, Step
from tests.given import (
    ARBITER,
    BUYER,
    HOUR,
    SECOND,
    START,
    VENDOR,
    Life,
    awaiting_funding,
    claim,
    completed,
    created,
    delivering,
    disputed,
    event_kinds,
    funded,
    give_message,
    output,
    releasing,
    spend,
    terms,
    view,
)

HOUR_S = 3_600
Outages = tuple[tuple[Micros, Micros], ...]


def down(life: Life, *, after_h: float, hours: float) -> Outages:
    start = life.now + int(after_h * HOUR)
    return ((Micros(start), Micros(start + int(hours * HOUR))),)


def refunding() -> Life:
    life = delivering()
    return life.when(c.GrantRefund(at=life.now, by=VENDOR))


def stages(life: Life) -> list[tuple[int, bool]]:
    return [(event.stage, event.announce) for event in life.events if isinstance(event, e.StuckStageReached)]


def joined(kinds: dict[Role, SeatKind]) -> Life:
    life = Life().when(c.CreateEscrow(at=START, terms=replace(terms(), seats=kinds), by=BUYER))
    for role, kind in kinds.items():
        if kind is not SeatKind.POOL:
            life.when(c.JoinSeat(at=life.now, role=role, wallet_id=WalletId(f"w-{role}"), identity_key="k"))
    return life


# -- before there is an address ------------------------------------------------------------------------------


def test_a_pending_escrow_is_cancelled_after_a_day() -> None:
    life = created(seats=SeatKind.RELAY).passes(24 * HOUR_S - 1).refused("nothing_due")
    life.passes(1).then(e.Cancelled)
    assert isinstance(life.state, Cancelled)
    assert life.state.reason == "pending_timeout"


def test_a_set_up_of_hosted_seats_ends_an_hour_after_the_last_wallet() -> None:
    life = created()
    for role in (Role.BUYER, Role.VENDOR):
        claim(life, role)
    life.passes(100 * HOUR_S).refused("nothing_due")
    claim(life, Role.ARBITER)
    give_message(life, Role.BUYER, Round.PREPARE)
    life.passes(HOUR_S - 1).refused("nothing_due")
    life.passes(1).then(e.SetupFailed)
    assert isinstance(life.state, SetupFailed)
    assert (life.state.reason, life.state.awaited) == ("timeout", (Role.VENDOR, Role.ARBITER))


@pytest.mark.parametrize(
    ("kind", "hours"), [(SeatKind.REGISTERED, 1), (SeatKind.RELAY, 72)], ids=["registered", "relay"]
)
def test_a_set_up_has_an_hour_and_with_a_relay_seat_three_days(kind: SeatKind, hours: int) -> None:
    life = joined(dict.fromkeys(THREE, kind))
    assert name(life.state) == "setting_up"
    life.passes(hours * HOUR_S - 1).refused("nothing_due")
    life.passes(1).then(e.SetupFailed)


def test_waiting_for_a_slot_does_not_count_beside_a_relay_seat_either() -> None:
    life = joined({Role.BUYER: SeatKind.RELAY, Role.VENDOR: SeatKind.REGISTERED, Role.ARBITER: SeatKind.POOL})
    life.passes(100 * HOUR_S).refused("nothing_due")
    claim(life, Role.ARBITER).passes(72 * HOUR_S - 1).refused("nothing_due")
    life.passes(1).then(e.SetupFailed)


# -- funding and shipping ------------------------------------------------------------------------------------


def test_an_unpaid_escrow_is_reminded_of_and_then_cancelled() -> None:
    life = awaiting_funding().passes(24 * HOUR_S).then(e.ReminderDue)
    life.passes(24 * HOUR_S - 1).refused("nothing_due")
    life.passes(1).then(e.Cancelled)
    assert isinstance(life.state, Cancelled)
    assert life.state.reason == "not_funded"


def test_after_downtime_the_missed_reminder_is_recorded_before_the_end() -> None:
    awaiting_funding().passes(72 * HOUR_S).then(e.ReminderDue, e.Cancelled)


@pytest.mark.parametrize("seen", [view(output(amount=10**11)), view(output(height=None, unlocked=False))])
def test_no_deadline_cancels_once_a_deposit_was_seen(seen) -> None:
    life = awaiting_funding().sees(seen).passes(24 * HOUR_S)
    life.passes(24 * HOUR_S).then(e.ReminderDue, e.RecoveryItemOpened)
    assert name(life.state) == "awaiting_funding"
    assert life.state.core.recovery == ("underpaid",)
    life.passes(1_000 * HOUR_S).refused("nothing_due")


def test_the_item_of_an_under_payment_closes_when_the_rest_comes() -> None:
    life = awaiting_funding().sees(view(output(amount=10**11))).passes(48 * HOUR_S)
    life.sees(view(output(amount=10**11), output("rest"))).then_among(e.RecoveryItemClosed)


def test_a_vendor_is_reminded_to_ship_once() -> None:
    life = funded().passes(48 * HOUR_S).then(e.ReminderDue)
    assert name(life.state) == "funded"
    life.passes(48 * HOUR_S).refused("nothing_due")


def test_delivering_and_the_end_know_no_deadline() -> None:
    assert deadlines(delivering().state) == ()
    assert deadlines(completed().state) == ()


# -- disputes ------------------------------------------------------------------------------------------------


def test_an_untouched_dispute_is_told_of_and_an_undecided_one_escalated() -> None:
    life = disputed().passes(72 * HOUR_S).then(e.ReminderDue)
    life.passes(96 * HOUR_S).then(e.ReminderDue, e.DisputeEscalated, e.RecoveryItemOpened)
    escalated = life.events[-2]
    assert isinstance(escalated, e.DisputeEscalated) and escalated.hours_open == 168
    assert life.state.core.case is not None and life.state.core.case.escalated_at == life.now
    assert life.state.core.recovery == ("dispute_undecided",)
    life.passes(500 * HOUR_S).refused("nothing_due")


def test_a_dispute_about_money_that_came_after_the_end_is_told_of_and_escalated_too() -> None:
    late = (output(), output("late"))
    life = completed().sees(view(*late, height=141, spends=(spend(),)))
    life.when(c.OpenDispute(at=life.now, by=BUYER, case_id=CaseId("case-1"), claim=Sealed("claim")))
    life.passes(72 * HOUR_S).then(e.ReminderDue)
    life.passes(96 * HOUR_S).then(e.ReminderDue, e.DisputeEscalated, e.RecoveryItemOpened)
    assert "dispute_undecided" in life.state.core.recovery
    life.passes(500 * HOUR_S).refused("nothing_due")
    reason = Sealed("because")
    life.when(c.ResolveDispute(at=life.now, by=ARBITER, verdict=e.Verdict.REFUND, buyer_share_bp=None, reason=reason))
    life.then_among(e.RecoveryItemClosed)
    assert "dispute_undecided" not in life.state.core.recovery
    assert (name(life.state), deadlines(life.state)) == ("completed", ())


def test_a_dispute_under_review_is_not_untouched() -> None:
    life = disputed()
    life.when(c.ReviewDispute(at=life.now, by=ARBITER)).passes(100 * HOUR_S).refused("nothing_due")


def test_the_item_of_an_undecided_dispute_closes_with_the_decision() -> None:
    life = disputed().passes(168 * HOUR_S)
    life.when(
        c.ResolveDispute(at=life.now, by=ARBITER, verdict=e.Verdict.REFUND, buyer_share_bp=None, reason=Sealed("r"))
    ).then_among(e.RecoveryItemClosed)


# -- escalation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("life", [releasing, refunding])
def test_the_four_stages_come_at_six_twelve_twentyfour_and_fortyeight_hours(life) -> None:
    played = life()
    state = name(played.state)
    for hours in (6, 6, 12, 24):
        played.passes(hours * HOUR_S - 1).refused("nothing_due")
        played.passes(1).then_among(e.StuckStageReached)
    assert stages(played) == [(1, True), (2, True), (3, True), (4, True)]
    assert name(played.state) == f"{state}_recovery_needed"
    required = next(event for event in played.events if isinstance(event, e.ManualRecoveryRequired))
    assert (required.original_status, required.hours_stuck) == (state, 48)
    assert played.state.core.recovery == ("stuck",)
    played.passes(1_000 * HOUR_S).refused("nothing_due")


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        (6, [(1, True)]),
        (13, [(1, False), (2, True)]),
        (30, [(1, False), (2, False), (3, True)]),
        (100, [(1, False), (2, False), (3, False), (4, True)]),
    ],
)
def test_after_downtime_every_missed_stage_is_recorded_and_the_highest_announced(
    hours: int, expected: list[tuple[int, bool]]
) -> None:
    assert stages(releasing().passes(hours * HOUR_S)) == expected


def test_activity_begins_the_stages_anew() -> None:
    life = releasing().passes(7 * HOUR_S).give_signature(Role.BUYER)
    life.passes(6 * HOUR_S - 1).refused("nothing_due")
    life.passes(1)
    assert stages(life) == [(1, True), (1, True)]


def test_timers_notes_and_failed_attempts_are_no_activity() -> None:
    life = releasing().passes(5 * HOUR_S).intends(Role.BUYER)
    life.when(c.FailTurn(at=life.now, role=Role.BUYER, step=Step.COSIGN, turn_id="cosign:1:1", reason="away"))
    life.passes(HOUR_S)
    assert stages(life) == [(1, True)]
    life.passes(6 * HOUR_S)
    assert stages(life) == [(1, True), (2, True)]


# -- outages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("life", "hours"),
    [(awaiting_funding, 24), (funded, 48), (disputed, 72), (releasing, 6)],
    ids=["funding", "ship", "dispute", "stuck"],
)
def test_outages_are_subtracted_and_written_down(life, hours: int) -> None:
    played = life()
    outage = down(played, after_h=1, hours=2)
    played.passes((hours + 2) * HOUR_S - 1, outages=outage).refused("nothing_due")
    played.passes(1, outages=outage)
    assert played.events[-1].outage_s == 2 * HOUR_S


def test_an_outage_before_the_state_does_not_count() -> None:
    life = funded()
    before = ((Micros(life.now - 5 * HOUR), life.now),)
    life.passes(48 * HOUR_S, outages=before).then(e.ReminderDue)


def test_an_outage_that_goes_on_delays_until_now() -> None:
    life = funded()
    life.passes(60 * HOUR_S, outages=down(life, after_h=10, hours=1_000)).refused("nothing_due")


def test_hours_stuck_do_not_hold_the_outage() -> None:
    life = releasing()
    life.passes(10 * HOUR_S, outages=down(life, after_h=1, hours=3))
    found = next(event for event in life.events if isinstance(event, e.StuckStageReached))
    assert (found.hours_stuck, found.outage_s) == (7, 3 * HOUR_S)


@pytest.mark.parametrize(
    ("outages", "seconds"),
    [
        ((), 0),
        (((0, 10),), 10),
        (((-5, 5),), 5),
        (((95, 200),), 5),
        (((-10, -1), (100, 300)), 0),
        (((10, 20), (30, 40)), 20),
        (((10, 30), (20, 40)), 30),
        (((20, 40), (10, 50), (10, 50)), 40),
    ],
)
def test_outages_overlap_a_span_by_these_seconds(outages: tuple[tuple[int, int], ...], seconds: int) -> None:
    spans = tuple((Micros(since * SECOND), Micros(to * SECOND)) for since, to in outages)
    assert overlap_s(spans, start=Micros(0), end=Micros(100 * SECOND)) == seconds


def test_a_deadline_fires_once_however_often_it_is_asked_for() -> None:
    life = funded().passes(48 * HOUR_S)
    for _ in range(3):
        life.passes(0).refused("nothing_due")
    assert event_kinds(life).count(e.ReminderDue) == 1
