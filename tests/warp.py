"""An event loop whose time passes as soon as nobody has anything to do: an hour of waiting costs no second."""

import asyncio
import contextvars
import selectors
from collections.abc import Callable
from typing import Any

from actors.ports import Timer

TURN_S = 1e-6
"""What one turn of the loop takes. With none at all somebody with less than the loop's resolution (1e-9 s) left to wait
asks again and again, and as long as they ask no time goes by."""
START = 1_795_000_000_000_000


class _Impatient(selectors.DefaultSelector):
    """Never waits: it lets the time go by that it was told to wait."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everybody waits for ever")
        if not ready and timeout is not None:
            self.passed += max(timeout, 0)
        self.passed += TURN_S
        return ready


class WarpLoop(asyncio.SelectorEventLoop):
    """Runs programs without sockets and threads: what they do takes no time, what they wait for passes at once."""

    def __init__(self) -> None:
        self._impatient = _Impatient()
        super().__init__(self._impatient)

    def time(self) -> float:
        """Seconds since the loop was made, waited for and not lived."""
        return self._impatient.passed


class WarpClock:
    """The `Clock` of such a loop."""

    def now(self) -> int:
        """Microseconds since the Unix epoch."""
        return START + int(asyncio.get_running_loop().time() * 1_000_000)

    async def sleep(self, seconds: float) -> None:
        """Waits on the event loop."""
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Calls back on the event loop."""
        return asyncio.get_running_loop().call_later(seconds, callback, context=contextvars.Context())
