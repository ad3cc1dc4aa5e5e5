"""What operators and metrics see of a role's slots: names and states, nothing secret and nobody's escrow."""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from actors.ailments import Ailment
from actors.slot_line import SlotLine
from actors.slots import Slot, SlotState
from domain.roles import Role


class SlotCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Figures for the metrics."""

    total: int
    free: int
    busy: int
    waiting: int
    full: bool = False
    """Nobody else may wait."""
    primed: int = 0
    granted: int = 0
    """Slots given to somebody who waited, so far."""
    waited_s: float = 0.0
    """Seconds that they waited, so far."""
    unusable: Mapping[Ailment, int] = {}
    """Slots that cannot be used, by what is wrong with them."""


class SlotStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One slot as an operator sees it."""

    name: str
    role: Role
    state: str
    """`unchecked`, `free`, `preparing`, `leased`, `unhealthy`; `draining` once it is to leave."""
    reason: str | None
    """What is wrong with it, while something is."""
    seconds: int
    """How long it has been so."""


def counts_of(slots: Iterable[Slot], line: SlotLine, *, primed: int) -> SlotCounts:
    """Counts slots by what can be done with them, and those who wait for one."""
    states, ailing = Counter[SlotState](), Counter[Ailment]()
    for slot in slots:
        states[slot.state] += 1
        if slot.ailment is not None:
            ailing[slot.ailment] += 1
    return SlotCounts(
        total=states.total(),
        free=states[SlotState.FREE],
        busy=states[SlotState.LEASED],
        waiting=len(line),
        full=line.full,
        primed=primed,
        granted=line.granted,
        waited_s=line.waited_s,
        unusable=dict(ailing),
    )


def status_of(slot: Slot, *, now: int) -> SlotStatus:
    """Describes one slot; `now` is in microseconds since the Unix epoch."""
    return SlotStatus(
        name=slot.name,
        role=slot.role,
        state="draining" if slot.leaving else slot.shown,
        reason=slot.ailment,
        seconds=max(0, now - slot.since) // 1_000_000,
    )
