"""One socket of the stream: what it still gets, how it is kept alive, and how it ends."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from enum import Enum
from typing import Any, Protocol

import msgspec
import structlog
from aiohttp import WSMsgType, web

from actors.ports import Clock
from domain.ids import Micros
from schemas.stream import HEARTBEAT
from service.auth import Caller
from service.stream.messages import Outgoing, Place, cursor_at, other_message
from service.stream.metrics import StreamMetrics

log = structlog.get_logger(__name__)

REASON_MAX = 123
"""Bytes a close frame has for its reason (RFC 6455, 5.5)."""
_OVER = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)


class StreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the stream on one node."""

    sockets_max: int = 2_000
    user_sockets_max: int = 20
    slow_s: float = 30
    """How long a socket may take nothing of what waits for it."""
    heartbeat_s: float = 20
    """How long a socket hears nothing before it gets a heartbeat."""
    queue_max: int = 256
    """Messages that wait for one socket; beyond them it goes back to the log."""
    page_max: int = 500
    """Events of its history that are read at once for one socket."""
    linger_s: float = 10
    """How long a closing socket may take for what was sent before."""


class Ending(Enum):
    """Why the service closes a socket: the code of its close frame and the word its reason begins with."""

    STOPPING = (1012, "stopping")
    SLOW = (1013, "slow")
    SILENT = (1013, "silent")
    BROKEN = (1011, "broken")
    EXPIRED = (4401, "token_expired")


class _Ended(Exception):
    """Nothing more may be sent."""


class Feed(Protocol):
    """Where a session gets its events from."""

    place: Place

    async def passed(self, place: Place) -> None:
        """Waits until the feed itself is as far."""

    def missed(self, caller: Caller, *, after: Place, upto: Place) -> AsyncGenerator[Outgoing, None]:
        """Yields the caller's events between two places, from the log."""


class Session:
    """Sends one caller every event of theirs, once: first what they missed, then what happens.

    The log is the buffer. What waits here is a bounded handful; a socket that does not keep up loses it, and takes it
    from the log again from the place it has reached.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        *,
        caller: Caller,
        place: Place,
        feed: Feed,
        limits: StreamLimits,
        clock: Clock,
        metrics: StreamMetrics,
        transport: asyncio.Transport,
    ) -> None:
        self.caller, self.place = caller, place
        self._socket, self._feed, self._limits, self._clock = socket, feed, limits, clock
        self._metrics, self._transport = metrics, transport
        self._expires_at = caller.expires_s * 1_000_000
        self._queue: deque[Outgoing] = deque()
        self._behind = self._beat_due = True
        self._ping_due = self._idle = False
        self._woken = asyncio.Event()
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._sending_since: float | None = None
        self._pinged_at: float | None = None
        self._sent_at = time.monotonic()

    async def offer(self, out: Outgoing) -> None:
        """Takes what happens now, without ever waiting for this socket.

        Sent at once where nothing is under way and the connection has room: to wake a task for each message would
        cost as much as the message itself.
        """
        if not self._idle or self._queue or self._transport.get_write_buffer_size():
            self.enqueue(out)
            return
        try:
            await self._send(out)
        except (_Ended, ConnectionError):
            self.end(Ending.SILENT)

    def enqueue(self, out: Outgoing) -> None:
        """Takes what happens now; drops all that waits when it is too much."""
        if self._behind:
            return
        if len(self._queue) >= self._limits.queue_max:
            self._queue.clear()
            self._behind = True
            self._metrics.behind.inc()
        else:
            self._queue.append(out)
        self._woken.set()

    def end(self, why: Ending) -> None:
        """Has the socket closed, with a reason and the cursor it has reached."""
        if not self._ending.done():
            self._ending.set_result(why)

    def abort(self) -> None:
        """Drops the connection, unsent words and all."""
        self._transport.abort()

    def look(self, now: float) -> None:
        """Ends a socket that is slow, silent or no longer allowed, and has a quiet one sent a heartbeat."""
        if self._clock.now() >= self._expires_at:
            self.end(Ending.EXPIRED)
        elif self._sending_since is not None and now - self._sending_since >= self._limits.slow_s:
            self.end(Ending.SLOW)
        elif self._pinged_at is not None and now - self._pinged_at >= self._limits.slow_s:
            self.end(Ending.SILENT)
        elif now - self._sent_at >= self._limits.heartbeat_s:
            self._beat_due = self._ping_due = True
            self._woken.set()

    async def run(self) -> None:
        """Serves the socket until one of both sides closes it; never raises but when cancelled."""
        loop = asyncio.get_running_loop()
        pump, reader = loop.create_task(self._pump()), loop.create_task(self._read())
        either: set[asyncio.Future[Any]] = {pump, reader, self._ending}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (pump, reader):
                task.cancel()
            results = await asyncio.gather(pump, reader, return_exceptions=True)
        if not self._socket.closed:
            await self._close(self._why(results[0]))

    # -- what it does ----------------------------------------------------------------------------------------

    async def _pump(self) -> None:
        while True:
            if self._behind:
                await self._catch_up()
            elif self._queue:
                await self._send(self._queue.popleft())
            elif self._beat_due:
                await self._beat()
            else:
                self._idle = True
                await self._woken.wait()
                self._idle = False
                self._woken.clear()

    async def _catch_up(self) -> None:
        # A cursor may come from a node that is further.
        await self._feed.passed(self.place)
        # From here on what happens waits in the queue, so nothing falls between it and the history up to here.
        upto, self._behind = self._feed.place, False
        async with aclosing(self._feed.missed(self.caller, after=self.place, upto=upto)) as missed:
            async for out in missed:
                await self._send(out)
        self.place, self._beat_due = upto, True

    async def _send(self, out: Outgoing) -> None:
        if self._clock.now() >= self._expires_at:
            self.end(Ending.EXPIRED)
            raise _Ended
        # The frame is in the transport's buffer before anything is awaited: from here on it counts as sent.
        self.place = out.place
        self._sending_since = time.monotonic()
        await self._socket.send_frame(out.text, WSMsgType.TEXT)
        self._sent_at, self._sending_since = self._sending_since, None

    async def _beat(self) -> None:
        # Nothing waits for this socket, so the feed's place is its own.
        self._beat_due = False
        place = tuple(map(max, self.place, self._feed.place))
        await self._send(other_message(HEARTBEAT, place=place, at=Micros(self._clock.now()), data={}))
        if self._ping_due:
            self._ping_due, self._pinged_at = False, self._pinged_at or time.monotonic()
            await self._socket.ping()

    async def _read(self) -> None:
        """Takes what the other side sends: signs of life, and nothing else that matters here."""
        while (message := await self._socket.receive()).type not in _OVER:
            self._pinged_at = None
            if message.type is WSMsgType.PING:
                await self._socket.pong(message.data)

    # -- how it ends -----------------------------------------------------------------------------------------

    def _why(self, pumped: object) -> Ending:
        if self._ending.done():
            return self._ending.result()
        if isinstance(pumped, Exception) and not isinstance(pumped, ConnectionError):
            log.error("stream_socket_broke", exc_info=pumped)
            return Ending.BROKEN
        return Ending.SILENT

    async def _close(self, why: Ending) -> None:
        """Says why and up to where, then waits a while for a slow reader to come to it."""
        code, word = why.value
        self._metrics.closed.labels(word).inc()
        reason = f"{word} {cursor_at(self.place)}".encode()
        try:
            async with asyncio.timeout(self._limits.linger_s):
                await self._socket.close(code=code, message=reason if len(reason) <= REASON_MAX else word.encode())
        except (TimeoutError, ConnectionError):
            self.abort()
