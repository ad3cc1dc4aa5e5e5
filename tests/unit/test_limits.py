"""One live escrow an order, the limits of the beta, maintenance: they hold in any order of creations and endings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import limits as li
from domain.ids import EscrowId, Micros, OrderId, UserId
from domain.money import Atomic
from domain.refusals import Refused
from tests.given import HOUR, START

FIRST, SECOND, THIRD = EscrowId("esc_1"), EscrowId("esc_2"), EscrowId("esc_3")


def claim(escrow: EscrowId, *, at: int = START, **reported: frozenset[EscrowId]) -> li.ClaimOrder:
    return li.ClaimOrder(at=Micros(at), escrow_id=escrow, **reported)


def reserve(escrow: EscrowId, amount: int, *dead: EscrowId) -> li.ReserveVolume:
    return li.ReserveVolume(
        at=START,
        escrow_id=escrow,
        amount=Atomic(amount),
        amount_max=Atomic(50),
        volume_max=Atomic(100),
        dead=frozenset(dead),
    )


def take(escrow: EscrowId, *dead: EscrowId, live_max: int = 2) -> li.TakePlace:
    return li.TakePlace(at=START, escrow_id=escrow, live_max=live_max, dead=frozenset(dead))


def after_claims(*escrows: EscrowId) -> li.OrderClaim:
    return li.order_of([li.OrderClaimed(at=START, escrow_id=each) for each in escrows])


def volume(**amounts: int) -> li.Volume:
    return li.volume_of(
        [li.VolumeReserved(at=START, escrow_id=EscrowId(k), amount=Atomic(v)) for k, v in amounts.items()]
    )


def live(*escrows: EscrowId) -> li.Live:
    return li.live_of([li.PlaceTaken(at=START, escrow_id=each) for each in escrows])


# -- orders --------------------------------------------------------------------------------------------------


def test_the_first_escrow_claims_its_order() -> None:
    assert li.decide_order(li.OrderClaim(), claim(FIRST)) == (li.OrderClaimed(at=START, escrow_id=FIRST),)


def test_the_same_escrow_claims_its_order_once() -> None:
    assert li.decide_order(after_claims(FIRST), claim(FIRST)) == ()


def test_an_order_has_one_live_escrow() -> None:
    assert li.decide_order(after_claims(FIRST), claim(SECOND)) == Refused("order_live", {"escrow_id": FIRST})


def test_an_order_is_free_when_its_escrow_is_dead() -> None:
    decided = li.decide_order(after_claims(FIRST), claim(SECOND, dead=frozenset({FIRST})))
    assert decided == (li.OrderClaimed(at=START, escrow_id=SECOND),)


def test_the_death_of_an_earlier_escrow_frees_nothing() -> None:
    decided = li.decide_order(after_claims(FIRST, SECOND), claim(THIRD, dead=frozenset({FIRST})))
    assert decided == Refused("order_live", {"escrow_id": SECOND})


@pytest.mark.parametrize(("age", "free"), [(0, False), (HOUR - 1, False), (HOUR, True)])
def test_an_unused_claim_expires_after_an_hour(age: int, *, free: bool) -> None:
    decided = li.decide_order(after_claims(FIRST), claim(SECOND, at=START + age, unused=frozenset({FIRST})))
    assert isinstance(decided, tuple) is free


def test_a_used_claim_never_expires() -> None:
    decided = li.decide_order(after_claims(FIRST), claim(SECOND, at=START + 10_000 * HOUR))
    assert isinstance(decided, Refused)


# -- volume --------------------------------------------------------------------------------------------------


def test_an_amount_up_to_the_limit_is_accepted_and_one_more_is_not() -> None:
    assert isinstance(li.decide_volume(li.Volume(), reserve(FIRST, 50)), tuple)
    assert li.decide_volume(li.Volume(), reserve(FIRST, 51)) == Refused("limit_amount", {"amount_max": 50})


def test_a_month_is_filled_to_the_last_atomic_unit() -> None:
    assert isinstance(li.decide_volume(volume(esc_1=50), reserve(SECOND, 50)), tuple)
    assert li.decide_volume(volume(esc_1=50, esc_2=1), reserve(THIRD, 50)) == Refused(
        "limit_volume", {"volume_max": 100}
    )


def test_a_reserved_escrow_is_not_counted_twice() -> None:
    assert li.decide_volume(volume(esc_1=50, esc_2=50), reserve(FIRST, 50)) == ()


def test_the_volume_of_the_dead_is_freed_when_it_is_needed() -> None:
    decided = li.decide_volume(volume(esc_1=50, esc_2=50), reserve(THIRD, 40, FIRST))
    assert decided == (
        li.VolumeFreed(at=START, escrow_id=FIRST),
        li.VolumeReserved(at=START, escrow_id=THIRD, amount=Atomic(40)),
    )


def test_the_volume_of_the_dead_is_left_while_there_is_room() -> None:
    assert li.decide_volume(volume(esc_1=50), reserve(SECOND, 50, FIRST)) == (
        li.VolumeReserved(at=START, escrow_id=SECOND, amount=Atomic(50)),
    )


def test_nobody_else_is_freed_by_a_stranger_to_the_month() -> None:
    assert isinstance(li.decide_volume(volume(esc_1=50, esc_2=50), reserve(THIRD, 1, EscrowId("esc_9"))), Refused)


@pytest.mark.parametrize(
    ("moment", "stream"),
    [
        (1_793_491_199_999_999, "limits-2026-10"),
        (1_793_491_200_000_000, "limits-2026-11"),
        (1_798_761_600_000_000, "limits-2027-01"),
    ],
)
def test_months_begin_at_midnight_utc(moment: int, stream: str) -> None:
    assert li.month_stream(Micros(moment)) == stream


def test_streams_are_named_by_what_they_hold() -> None:
    assert li.order_stream(OrderId("a-1")) == "order-a-1"
    assert (li.LIVE_STREAM, li.MAINTENANCE_STREAM) == ("limits-live", "maintenance")


# -- concurrency ---------------------------------------------------------------------------------------------


def test_places_are_taken_up_to_the_limit() -> None:
    assert li.decide_place(live(FIRST), take(SECOND)) == (li.PlaceTaken(at=START, escrow_id=SECOND),)
    assert li.decide_place(live(FIRST, SECOND), take(THIRD)) == Refused("limit_concurrency", {"live_max": 2})


def test_a_place_is_taken_once() -> None:
    assert li.decide_place(live(FIRST, SECOND), take(SECOND)) == ()


def test_the_dead_make_room() -> None:
    assert li.decide_place(live(FIRST, SECOND), take(THIRD, FIRST)) == (
        li.PlaceFreed(at=START, escrow_id=FIRST),
        li.PlaceTaken(at=START, escrow_id=THIRD),
    )


def test_a_lowered_limit_lets_nobody_in_before_it_holds() -> None:
    three = live(FIRST, SECOND, THIRD)
    assert isinstance(li.decide_place(three, take(EscrowId("esc_4"), FIRST, live_max=2)), Refused)
    assert isinstance(li.decide_place(three, take(EscrowId("esc_4"), FIRST, SECOND, live_max=2)), tuple)


creations = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 60), st.frozensets(st.integers(0, 9), max_size=4)), max_size=60
)


@given(creations)
def test_no_sequence_of_creations_exceeds_a_limit(attempts: list[tuple[int, int, frozenset[int]]]) -> None:
    reserved: list[li.AnyLimitEvent] = []
    places: list[li.AnyLimitEvent] = []
    for number, amount, ended in attempts:
        escrow, dead = EscrowId(f"esc_{number}"), {EscrowId(f"esc_{each}") for each in ended}
        by_volume = li.decide_volume(li.volume_of(reserved), reserve(escrow, amount, *dead))
        by_place = li.decide_place(li.live_of(places), take(escrow, *dead, live_max=3))
        reserved += by_volume if isinstance(by_volume, tuple) else ()
        places += by_place if isinstance(by_place, tuple) else ()
        assert li.volume_of(reserved).total <= 100
        assert len(li.live_of(places).held) <= 3


# -- maintenance ---------------------------------------------------------------------------------------------


def switched(*, enabled: bool, reason: str = "update") -> li.SetMaintenance:
    return li.SetMaintenance(at=START, enabled=enabled, reason=reason, by=UserId("admin"))


def test_maintenance_refuses_new_escrows_with_its_reason_until_it_ends() -> None:
    began = li.decide_maintenance(li.Maintenance(), switched(enabled=True))
    assert isinstance(began, tuple)
    during = li.maintenance_of(began)
    assert li.refused_by_maintenance(during) == Refused("maintenance", {"reason": "update"})
    ended = li.decide_maintenance(during, switched(enabled=False))
    assert isinstance(ended, tuple)
    assert li.refused_by_maintenance(li.maintenance_of([*began, *ended])) is None


def test_the_same_switch_twice_adds_nothing_but_a_new_reason_does() -> None:
    during = li.maintenance_of([li.MaintenanceSet(at=START, enabled=True, reason="update", by=UserId("admin"))])
    assert li.decide_maintenance(during, switched(enabled=True)) == ()
    assert li.decide_maintenance(li.Maintenance(), switched(enabled=False)) == ()
    assert li.decide_maintenance(during, switched(enabled=True, reason="disk full")) != ()


# -- folds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fold", [li.order_of, li.volume_of, li.live_of])
def test_an_event_of_another_stream_is_not_folded(fold) -> None:
    with pytest.raises(li.ForeignEvent):
        fold([li.MaintenanceSet(at=START, enabled=True, reason="", by=UserId("admin"))])


def test_maintenance_folds_no_claims() -> None:
    with pytest.raises(li.ForeignEvent):
        li.maintenance_of([li.OrderClaimed(at=START, escrow_id=FIRST)])
