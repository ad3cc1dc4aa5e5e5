"""The read models as pure functions: a life in, rows out; and however a log is cut into batches, the same rows."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from domain import commands as c
from domain.deadlines import deadlines
from domain.events import Verdict
from domain.ids import Sealed
from domain.roles import THREE, Role, SeatKind
from domain.states import NAMES, CaseStatus, name
from domain.steps import Step
from domain.turns import turns
from eventstore.memory import MemoryTables
from eventstore.opening import Store, memory_store
from projections.differences import differences
from projections.feeder import Feeder
from projections.models import MODELS, capacity, disputes, due, escrows, open_turns, recovery, stopped, wallets
from projections.opening import open_models
from tests.given import (
    AMOUNT,
    ARBITER,
    BUYER,
    VENDOR,
    Life,
    awaiting_funding,
    completed,
    created,
    delivering,
    disputed,
    funded,
    output,
    releasing,
    spend,
    view,
)
from tests.model_worlds import append, new_events, recorded, standing_of, through, unreadable


def refunding() -> Life:
    life = delivering()
    return life.when(c.GrantRefund(at=life.now, by=VENDOR))


def ruled() -> Life:
    life = disputed()
    ruling = c.ResolveDispute(
        at=life.now, by=ARBITER, verdict=Verdict.REFUND, buyer_share_bp=None, reason=Sealed("reason")
    )
    return life.when(ruling)


def refunded() -> Life:
    life = refunding().give_proposal(Role.BUYER).give_signature(Role.VENDOR).broadcasts(Role.VENDOR)
    return life.sees(view(output(), height=130, spends=(spend(),)))


def cancelled() -> Life:
    life = created()
    return life.when(c.CancelEscrow(at=life.now, by=BUYER))


def setup_failed() -> Life:
    return _with_wallets().passes(3_601)


def _with_wallets() -> Life:
    life = created()
    for role in THREE:
        life.when(
            c.ClaimWallet(
                at=life.now,
                role=role,
                wallet_id=f"wallet-{role}",  # type: ignore[arg-type]
                identity_key="key",
                secrets=Sealed("s"),
            )
        )
    return life


def pending() -> Life:
    return created(seats=SeatKind.RELAY)


def stuck(life: Life) -> Life:
    return life.passes(48 * 3_600)


STATES: dict[str, Callable[[], Life]] = {
    "pending": pending,
    "setting_up": created,
    "awaiting_funding": awaiting_funding,
    "funded": funded,
    "delivering": delivering,
    "releasing": releasing,
    "refunding": refunding,
    "releasing_recovery_needed": lambda: stuck(releasing()),
    "refunding_recovery_needed": lambda: stuck(refunding()),
    "disputed": disputed,
    "completed": completed,
    "refunded": refunded,
    "cancelled": cancelled,
    "setup_failed": setup_failed,
}


def test_every_state_is_tried() -> None:
    assert set(STATES) == set(NAMES.values())


@pytest.mark.parametrize("state", STATES)
def test_an_escrow_in_any_state_has_one_line(state: str) -> None:
    life = STATES[state]()
    (row,) = escrows(standing_of(life))
    assert (row.state, row.version, row.position) == (state, len(life.events), len(life.events))
    assert (row.buyer_id, row.vendor_id, row.arbiter_id, row.amount) == (BUYER, VENDOR, ARBITER, AMOUNT)
    assert row.outcome == {"completed": "released", "refunded": "refunded"}.get(state)
    assert row.watched == (state not in ("pending", "setting_up", "cancelled", "setup_failed"))


ASKED: dict[str, dict[Role, Step]] = {
    "pending": dict.fromkeys(THREE, Step.JOIN),
    "setting_up": dict.fromkeys(THREE, Step.CLAIM_WALLET),
    "releasing": {Role.BUYER: Step.COSIGN},
    "releasing_recovery_needed": {Role.BUYER: Step.COSIGN},
    **{state: {} for state in ("awaiting_funding", "completed", "refunded", "cancelled", "setup_failed")},
}


@pytest.mark.parametrize("state", STATES)
def test_turns_and_deadlines_are_those_of_the_state(state: str) -> None:
    life = STATES[state]()
    standing = standing_of(life)
    assert [(row.kind, row.due) for row in due(standing)] == [(each.kind, each.due) for each in deadlines(life.state)]
    asked = {row.role: row.step for row in open_turns(standing)}
    assert asked == {turn.role: turn.step for turn in turns(life.state)}
    assert asked == ASKED.get(state, asked)


def test_wallets_are_claimed_in_seat_order() -> None:
    rows = {row.role: row.in_line for row in open_turns(standing_of(created()))}
    assert rows == {Role.BUYER: True, Role.VENDOR: False, Role.ARBITER: False}
    assert all(row.in_line for row in open_turns(standing_of(_with_wallets())))


@pytest.mark.parametrize("state", STATES)
def test_people_must_look_at_disputes_and_open_items_alone(state: str) -> None:
    life = STATES[state]()
    rows = recovery(standing_of(life))
    reasons = {"releasing_recovery_needed": ("stuck",), "refunding_recovery_needed": ("stuck",), "disputed": ()}
    assert {row.state: row.reasons for row in rows} == ({state: reasons[state]} if state in reasons else {})
    assert all(row.active_at == life.state.core.active_at for row in rows)


def test_a_case_is_followed_from_its_opening_to_its_payout() -> None:
    opened = disputed()
    (row,) = disputes(standing_of(opened))
    assert (row.status, row.awaited, row.opened_by) == (CaseStatus.OPEN, True, Role.BUYER)
    assert (row.buyer_claim, row.vendor_claim, row.decision) == ("claim", None, None)
    (row,) = disputes(standing_of(opened.when(c.AddClaim(at=opened.now, by=VENDOR, claim=Sealed("answer")))))
    assert row.vendor_claim == "answer"
    decided = ruled()
    (row,) = disputes(standing_of(decided))
    assert (row.status, row.awaited, row.decision, row.reason) == (CaseStatus.UNDER_REVIEW, True, "refund", "reason")
    assert (row.winner_tx_hash, row.fee_atomic, row.decided_at) == (None, AMOUNT // 50, row.touched_at)
    assert disputes(standing_of(delivering())) == ()


def test_a_case_that_is_agreed_upon_is_awaited_no_more() -> None:
    life = disputed()
    life.when(c.ProposeAgreement(at=life.now, by=BUYER, buyer_share_bp=10_000, ship_until=None))
    life.when(c.AcceptAgreement(at=life.now, by=VENDOR, number=1))
    (row,) = disputes(standing_of(life))
    assert (row.status, row.awaited) == (CaseStatus.CLOSED, False)


def test_an_escrow_has_a_wallet_for_each_role_once_it_is_claimed() -> None:
    (bare,) = wallets(standing_of(created()))
    assert (bare.buyer_wallet, bare.vendor_wallet, bare.arbiter_wallet) == (None, None, None)
    (row,) = wallets(standing_of(awaiting_funding()))
    assert (row.buyer_wallet, row.vendor_wallet, row.arbiter_wallet) == (
        "wallet-buyer",
        "wallet-vendor",
        "wallet-arbiter",
    )
    assert row.buyer_kind is SeatKind.POOL


def test_an_escrow_counts_as_what_it_is_and_holds_hosted_wallets_while_it_lives() -> None:
    assert _marks(disputed()) == {
        *("created", "status:disputed", "disputed", "alive", "hosted:buyer", "hosted:vendor", "hosted:arbiter")
    }
    assert _marks(completed()) == {"created", "status:completed"}
    assert "recovery" in _marks(stuck(releasing()))
    assert _marks(pending()) == {"created", "status:pending", "alive"}


def _marks(life: Life) -> set[str]:
    return {row.mark for row in capacity(standing_of(life))}


def test_an_escrow_that_stands_still_keeps_its_state_and_asks_for_nothing() -> None:
    events = recorded(releasing())
    broken = msgspec.structs.replace(events[-1], schema_version=99)
    standing = through([*events[:-1], broken])
    (row,) = stopped(standing)
    assert (row.version, row.position) == (len(events), len(events))
    (line,) = escrows(standing)
    assert (line.state, line.version) == ("releasing", len(events) - 1)
    assert (open_turns(standing), due(standing)) == ((), ())
    assert [item.reasons for item in recovery(standing)] == [("unreadable",)]


@pytest.mark.parametrize("hole", [0, 1, 5])
def test_an_event_that_is_missing_stops_the_escrow_there(hole: int) -> None:
    events = recorded(funded())
    standing = through(events[:hole] + events[hole + 1 :])
    assert standing.stop is not None
    assert standing.stop.says == f"version {hole + 1} is missing"
    assert (standing.state.core.version if standing.state else 0) == hole


def test_events_after_the_one_that_stopped_it_change_nothing() -> None:
    events = recorded(funded())
    there = through([*events[:3], events[0]])
    further = through([*events[:3], events[0], *events[4:]])
    assert msgspec.structs.replace(further, read=there.read) == there


# -- batches ---------------------------------------------------------------------------------------------------

ENDS = [STATES[state]() for state in STATES]


@st.composite
def logs(draw: st.DrawFn) -> list[tuple[str, int]]:
    """An interleaving of several lives: which escrow appends next, and how many events at once."""
    lives = draw(st.lists(st.integers(0, len(ENDS) - 1), min_size=1, max_size=4))
    left = {f"esc_{n}_{which}": len(ENDS[which].events) for n, which in enumerate(lives)}
    order: list[tuple[str, int]] = []
    while left:
        escrow_id = draw(st.sampled_from(sorted(left)))
        taken = draw(st.integers(1, min(12, left[escrow_id])))
        order.append((escrow_id, taken))
        left[escrow_id] -= taken
        if not left[escrow_id] or draw(st.integers(0, 9)) == 0:
            del left[escrow_id]
    return order


@settings(max_examples=40)
@drawn(order=logs(), page_max=st.integers(1, 40), kept_max=st.integers(1, 3), restart=st.integers(1, 7))
async def test_rows_are_the_same_however_the_log_is_cut_into_batches(
    order: list[tuple[str, int]], page_max: int, kept_max: int, restart: int
) -> None:
    store = memory_store(partitions=2, tables=MemoryTables(partitions=2))
    tables, rows = open_models(store)
    await tables.begin(MODELS)
    done: dict[str, int] = {}
    for number, (escrow_id, taken) in enumerate(order):
        before = done.get(escrow_id, 0)
        events = ENDS[int(escrow_id.rpartition("_")[2])].events[before : before + taken]
        odd = [unreadable()] if number % 11 == 10 else []
        await append(store.log, escrow_id, [*new_events(events), *odd], after=await _version(store, escrow_id))
        done[escrow_id] = before + taken
        if number % restart == 0:
            await _feed(store, page_max=page_max, kept_max=kept_max, steps=number % 3 + 1)
    await _feed(store, page_max=page_max, kept_max=kept_max, steps=None)
    assert await differences(store.log, tables) == ()
    for escrow_id in done:
        standing = through(await store.log.read_stream(escrow_id), escrow_id=escrow_id)
        line = await rows.escrow(standing.escrow_id)
        assert (line is None) == (standing.state is None)
        if line is not None and standing.state is not None:
            assert line.state == name(standing.state)


async def _version(store: Store, escrow_id: str) -> int:
    return len(await store.log.read_stream(escrow_id))


async def _feed(store: Store, *, page_max: int, kept_max: int, steps: int | None) -> None:
    tables, _ = open_models(store)
    positions = {each.generation: each.positions for each in (await tables.progress()).values()}
    feeder = Feeder(store.log, tables, positions=positions, page_max=page_max, kept_max=kept_max)
    while await feeder.step():
        steps = None if steps is None else steps - 1
        if steps == 0:
            break
    assert feeder.failed == {}
    feeder.close()
