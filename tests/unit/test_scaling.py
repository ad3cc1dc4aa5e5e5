"""How many slots there should be: one more when all are needed for a while, one fewer when it is not for longer."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from domain.roles import THREE
from service.scaling import GAP_LOOKS, RoleUse, Sample, ScalingLimits, UseHistory, use_percent, wanted_size

LIMITS = ScalingLimits(up_s=20, down_s=60, look_s=2)
LEAST, MOST = 1, 6


class Played:
    """A pool whose use is looked at every two seconds, and whose size follows at once."""

    def __init__(self, *, size: int = LEAST, least: int = LEAST, most: int = MOST) -> None:
        self.size, self.least, self.most, self.at = size, least, most, 0.0
        self.history, self.sizes = UseHistory(LIMITS), [size]

    def use(self, *seats: int, seconds: float) -> list[int]:
        """Has so many seats of each role want a slot for a while; returns the sizes that this led to."""
        begun = len(self.sizes)
        for _ in range(int(seconds / LIMITS.look_s)):
            self.at += LIMITS.look_s
            self.look(*seats)
        return self.sizes[begun:]

    def look(self, *seats: int) -> None:
        self.history.see(Sample(self.at, tuple(RoleUse(each, self.size) for each in seats)))
        wanted = wanted_size(self.history.samples, size=self.size, least=self.least, most=self.most, limits=LIMITS)
        if wanted != self.size:
            self.size = wanted
            self.sizes.append(wanted)
            self.history.forget()


def test_a_busy_role_gets_one_slot_more_after_the_while_and_not_before() -> None:
    pool = Played()
    assert pool.use(1, 0, 0, seconds=LIMITS.up_s) == []
    assert pool.use(1, 0, 0, seconds=4) == [2]


def test_a_pause_in_between_begins_the_while_anew() -> None:
    pool = Played()
    pool.use(1, 1, 1, seconds=18)
    pool.use(0, 0, 0, seconds=2)
    assert pool.use(1, 1, 1, seconds=20) == []
    assert pool.use(1, 1, 1, seconds=4) == [2]


def test_eighty_percent_is_not_above_eighty_percent() -> None:
    pool = Played(size=5)
    assert pool.use(4, 4, 4, seconds=200) == []
    assert pool.use(5, 4, 4, seconds=24) == [6]


def test_one_peak_keeps_a_slot_for_the_longer_while() -> None:
    pool = Played(size=2)
    pool.use(0, 0, 0, seconds=50)
    pool.use(1, 0, 0, seconds=2)
    assert pool.use(0, 0, 0, seconds=60) == []
    assert pool.use(0, 0, 0, seconds=4) == [1]


def test_what_was_not_looked_at_for_long_counts_as_unknown() -> None:
    pool = Played()
    pool.use(1, 1, 1, seconds=18)
    pool.at += (GAP_LOOKS + 1) * LIMITS.look_s
    assert pool.use(1, 1, 1, seconds=20) == []
    assert pool.use(1, 1, 1, seconds=4) == [2]


def test_seats_that_wait_count_and_a_role_without_slots_is_full() -> None:
    assert use_percent(Sample(0.0, (RoleUse(1, 4), RoleUse(3, 1), RoleUse(0, 1)))) == 300
    history = UseHistory(LIMITS)
    for second in range(0, 24, 2):
        history.see(Sample(float(second), (RoleUse(1, 0), RoleUse(0, 3), RoleUse(0, 3))))
    assert wanted_size(history.samples, size=3, least=1, most=4, limits=LIMITS) == 4


def test_nobody_who_asks_often_makes_the_history_grow() -> None:
    history = UseHistory(LIMITS)
    for tenth in range(2_000):
        history.see(Sample(tenth / 10, (RoleUse(1, 2),)))
    assert len(history.samples) <= LIMITS.down_s / LIMITS.look_s * 2 + 2


Load = st.tuples(*(st.integers(0, 2 * MOST) for _ in THREE))


@given(load=Load, size=st.integers(LEAST, MOST))
def test_a_constant_load_leads_to_one_size_and_never_back(load: tuple[int, ...], size: int) -> None:
    pool = Played(size=size)
    steps = [size, *pool.use(*load, seconds=(MOST + 1) * (LIMITS.down_s + 4))]
    moves = {after - before for before, after in pairwise(steps)}
    assert moves <= {1} or moves <= {-1}
    assert pool.use(*load, seconds=2 * LIMITS.down_s) == [], "it has come to rest"
    assert pool.size == MOST or 100 * max(load) <= 80 * pool.size


@given(loads=st.lists(st.tuples(Load, st.sampled_from([2, 10, 24, 64])), max_size=12), size=st.integers(2, 4))
def test_whatever_comes_the_size_stays_within_its_bounds_and_moves_by_one(
    loads: list[tuple[tuple[int, ...], int]], size: int
) -> None:
    pool = Played(size=size, least=2, most=4)
    for load, seconds in loads:
        pool.use(*load, seconds=seconds)
    assert all(2 <= each <= 4 for each in pool.sizes)
    assert all(abs(after - before) == 1 for before, after in pairwise(pool.sizes))


@given(load=Load, size=st.integers(LEAST, MOST))
def test_a_slot_that_was_just_ended_is_not_started_again_by_the_same_load(load: tuple[int, ...], size: int) -> None:
    pool = Played(size=size)
    if pool.use(*load, seconds=LIMITS.down_s + 4) == [size - 1]:
        assert all(later < size for later in pool.use(*load, seconds=5 * LIMITS.up_s))
