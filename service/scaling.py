"""How many slots a role should have, decided by what was seen of their use: no clock, no I/O.

One slot more where the busiest role was above `BUSY_PERCENT` for all of a while; one fewer where for all of a longer
while one fewer would not have been above it. Under a constant load neither ever undoes the other.
"""

from collections import deque
from collections.abc import Sequence

import msgspec

BUSY_PERCENT = 80
"""Of a role's slots: seats that have one or wait for one. Above it the role is busy."""
GAP_LOOKS = 5
"""So many looks without a sample, and what was seen before them says nothing about the while between."""


class ScalingLimits(msgspec.Struct, frozen=True, kw_only=True):
    """For how long use must be high or low before the number of slots follows it; seconds."""

    up_s: float = 60
    down_s: float = 600
    look_s: float = 2
    """How often use is looked at, and how soon a node follows what another one changed."""


class RoleUse(msgspec.Struct, frozen=True):
    """How much of one role's slots is used at one moment."""

    seats: int
    """That have a slot or wait for one."""
    slots: int


class Sample(msgspec.Struct, frozen=True):
    """All roles at one moment."""

    at: float
    """Seconds of a clock that only goes forward."""
    roles: tuple[RoleUse, ...]


class UseHistory:
    """The samples of one node, as many as the longer while needs, no two closer than half a look."""

    def __init__(self, limits: ScalingLimits) -> None:
        self._limits = limits
        self._samples: deque[Sample] = deque()

    @property
    def samples(self) -> Sequence[Sample]:
        """What was seen without a gap since it was last forgotten, oldest first."""
        return self._samples

    def see(self, sample: Sample) -> None:
        """Takes a sample in; after a gap the earlier ones are forgotten."""
        limits, known = self._limits, self._samples
        if known and sample.at - known[-1].at < limits.look_s / 2:
            return
        if known and sample.at - known[-1].at > GAP_LOOKS * limits.look_s:
            known.clear()
        known.append(sample)
        while len(known) > 1 and known[1].at <= sample.at - max(limits.up_s, limits.down_s):
            known.popleft()

    def forget(self) -> None:
        """Begins anew: the slots that the samples speak of are others now."""
        self._samples.clear()


def wanted_size(samples: Sequence[Sample], *, size: int, least: int, most: int, limits: ScalingLimits) -> int:
    """Returns how many slots a role should have: `size`, or one more or fewer within `least` and `most`."""
    recent, long = _last(samples, limits.up_s), _last(samples, limits.down_s)
    if size < most and recent and all(_busy(each) for each in recent):
        return size + 1
    if size > least and long and not any(_busy(each, fewer=1) for each in long):
        return size - 1
    return size


def use_percent(sample: Sample) -> int:
    """Returns the use of the busiest role; above 100 while seats wait."""
    return max((100 * each.seats // max(each.slots, 1) for each in sample.roles), default=0)


def _last(samples: Sequence[Sample], seconds: float) -> Sequence[Sample]:
    """Returns the samples of the last while; none where what was seen is shorter than that."""
    if not samples or samples[0].at > samples[-1].at - seconds:
        return ()
    return [each for each in samples if each.at >= samples[-1].at - seconds]


def _busy(sample: Sample, *, fewer: int = 0) -> bool:
    return any(100 * each.seats > BUSY_PERCENT * (each.slots - fewer) for each in sample.roles)
