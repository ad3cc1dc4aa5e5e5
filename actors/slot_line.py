"""The line of those who wait for a slot of one role, and who of them may be served next."""

from collections.abc import Iterator, Mapping

from actors.slots import NoSlot, Waiter
from eventstore.api import LeaseRow


class SlotLine:
    """First come, first served: nobody is offered a slot while an earlier one waits for one.

    Who came first is said by what the slot is wanted for, and is the same for all seats of one set-up: else two
    set-ups, each with a slot of another role, wait for each other behind everybody who asked in between.

    Only a seat that is bound to a particular slot stands aside from the line: it waits for that one, and nobody for it.
    """

    def __init__(self, *, queue_max: int) -> None:
        self._queue_max = queue_max
        self._waiters: list[Waiter] = []
        self.granted, self.waited_s = 0, 0.0
        """How many were given a slot so far, and how long they waited for it."""

    def __len__(self) -> int:
        # Who gave up still stands in it until the next one comes.
        return sum(not waiter.granted.done() for waiter in self._waiters)

    @property
    def full(self) -> bool:
        """Whether nobody else may join it."""
        return len(self) >= self._queue_max

    def unbound(self) -> int:
        """Counts those who take any slot; who waits for a particular one may do so for hours."""
        return sum(not (waiter.bound or waiter.granted.done()) for waiter in self._waiters)

    def seats(self) -> frozenset[str]:
        """Names those who wait."""
        return frozenset(waiter.seat for waiter in self._waiters if not waiter.granted.done())

    def join(self, waiter: Waiter) -> None:
        """Puts somebody in the line; raises `NoSlot` when it is full."""
        if self.full:
            raise NoSlot
        waiting = (each for each in self._waiters if not each.granted.done())
        self._waiters = sorted((*waiting, waiter), key=lambda each: each.came)

    def leave(self, waiter: Waiter, *, now: int) -> float:
        """Takes out of the line who was given a slot; returns the seconds waited until now, in microseconds."""
        self._waiters.remove(waiter)
        waited_s = (now - waiter.since) / 1_000_000
        self.granted, self.waited_s = self.granted + 1, self.waited_s + waited_s
        return waited_s

    def call_off(self) -> None:
        """Tells all who wait that nothing comes."""
        for waiter in self._waiters:
            waiter.granted.cancel()

    def servable(self, rows: Mapping[str, LeaseRow]) -> Iterator[Waiter]:
        """Yields those who may be offered a slot now: everyone bound to one, and the first of the others.

        Who is promised a slot that is still looked at keeps its place: if the look ends badly it is offered the next.
        """
        headed = False
        for waiter in tuple(self._waiters):
            if waiter.granted.done():
                continue
            if not waiter.promised:
                waiter.bound = bool(bound_to(waiter.seat, rows))
                if waiter.bound or not headed:
                    headed = headed or not waiter.bound
                    yield waiter
            headed = headed or not waiter.bound


def bound_to(seat: str, rows: Mapping[str, LeaseRow]) -> frozenset[str]:
    """Names the slots in which a seat's wallet may be open: leased for it and not given back."""
    return frozenset(name for name, row in rows.items() if row.detail == seat and not row.released)
