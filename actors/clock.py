"""The two clocks: the machine's, and one for simulations that moves only when told."""

import asyncio
import contextvars
import heapq
import time
from collections.abc import Callable
from itertools import count

from actors.ports import Timer

SETTLE_TICKS_MAX = 100_000
"""Turns of the event loop that one step of a virtual clock may take before something is called a busy loop."""


class SystemClock:
    """Tells the machine's time."""

    def now(self) -> int:
        """Microseconds since the Unix epoch."""
        return time.time_ns() // 1000

    async def sleep(self, seconds: float) -> None:
        """Sleeps on the event loop."""
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Calls back on the event loop; the loop's own timer is monotonic, so a corrected wall clock moves nothing."""
        return asyncio.get_running_loop().call_later(seconds, callback, context=contextvars.Context())


class VirtualClock:
    """Stands still until `advance` moves it; the same program on it runs the same way every time.

    Timers fall due in the order of their moments, those of one moment in the order they were set.
    Not for programs that wait on threads or sockets: it cannot see that they are still at work.
    """

    def __init__(self, *, start: int = 0) -> None:
        self._now = start
        self._order = count()
        self._timers: list[tuple[int, int, _VirtualTimer]] = []

    def now(self) -> int:
        """Microseconds since the Unix epoch."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Sleeps until the clock has been moved `seconds` on."""
        woken = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, lambda: None if woken.done() else woken.set_result(None))
        try:
            await woken
        finally:
            timer.cancel()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Calls back while `advance` passes the moment."""
        timer = _VirtualTimer(callback)
        moment = self._now + max(0, round(seconds * 1_000_000))
        heapq.heappush(self._timers, (moment, next(self._order), timer))
        return timer

    def next_due(self) -> int | None:
        """Moment of the earliest timer, in microseconds since the Unix epoch; None when nothing sleeps."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    async def advance(self, seconds: float) -> None:
        """Moves the clock on, stopping at each timer on the way until all it set going has come to rest."""
        target = self._now + round(seconds * 1_000_000)
        await _settle()
        while (due := self.next_due()) is not None and due <= target:
            self._now = due
            self._fire()
            await _settle()
        self._now = target

    def _fire(self) -> None:
        _, _, timer = heapq.heappop(self._timers)
        if timer.callback is not None:
            contextvars.Context().run(timer.callback)


class _VirtualTimer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


async def _settle() -> None:
    """Waits until nothing else on the event loop is ready to run.

    A fixed number of `sleep(0)` would be too few for a long chain of awaits, so this looks at the loop's own queue.
    """
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    for _ in range(SETTLE_TICKS_MAX):
        await asyncio.sleep(0)
        if not ready:
            return
    raise RuntimeError(f"still busy after {SETTLE_TICKS_MAX} turns of the event loop")
