"""One reader of the log for all sockets of a node."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any

import structlog
from aiohttp import web

from actors.ports import Clock
from domain.ids import Micros, UserId
from eventstore.api import EventLog, Recorded
from eventstore.subscription import Subscription
from service.auth import Caller, Right
from service.problems import Refusal
from service.stream.history import history
from service.stream.members import Index, Members, is_of_an_escrow, patiently
from service.stream.messages import Outgoing, Place, event_message, moved, other_message
from service.stream.metrics import StreamMetrics
from service.stream.session import Ending, Session, StreamLimits

HISTORIES_MAX = 4
"""Sockets whose history is read at one time: of the node's connections to the database most stay free."""
OFFERS_MAX = 500
"""Messages handed out before the sockets, and everybody else on this loop, have their turn."""
INDEX_S = 5.0
STOP_S = 5.0
"""How long sockets may take to say good-bye when the node stops."""

log = structlog.get_logger(__name__)


class Hub:
    """Reads the log once, behind the index of who belongs to what, and hands each event to those it concerns."""

    def __init__(
        self,
        event_log: EventLog,
        index: Index,
        *,
        clock: Clock,
        limits: StreamLimits,
        metrics: StreamMetrics,
        on_broken: Callable[[str], None],
    ) -> None:
        self.place: Place = (0,) * event_log.partitions
        """What was handed out, by partition."""
        self._log, self._index, self._clock = event_log, index, clock
        self._limits, self._metrics, self._on_broken = limits, metrics, on_broken
        self._members = Members(event_log)
        self._admins: set[Session] = set()
        self._by_user: dict[UserId, set[Session]] = {}
        self._open: Counter[UserId] = Counter()
        self._moved = asyncio.Event()
        self._reading = asyncio.Semaphore(HISTORIES_MAX)
        self._offered = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._left = asyncio.Event()
        self._accepting = False
        self.on_moved: Callable[[str], None] = lambda stream_id: None
        """Told the stream of each event, once the index knows it; must not raise or wait."""

    async def start(self) -> None:
        """Begins where the index is: what is older comes to each socket from its own history."""
        self.place = tuple(self._index.positions)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._run(), name="stream-hub"),
            loop.create_task(self._keep_looking(), name="stream-look"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)
        self._accepting = True

    async def stop(self) -> None:
        """Closes every socket with its cursor, then ends; a socket that does not take that in time is dropped."""
        self._accepting = False
        for session in self._sessions():
            session.end(Ending.STOPPING)
        try:
            async with asyncio.timeout(STOP_S):
                while self._sessions():
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            for session in self._sessions():
                session.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextmanager
    def room_for(self, user: UserId) -> Iterator[None]:
        """Keeps one socket's place; raises `Refusal` when there is none."""
        if not self._accepting:
            raise Refusal("unavailable")
        if self._open.total() >= self._limits.sockets_max:
            raise Refusal("streams_full", facts={"stream_sockets_max": self._limits.sockets_max})
        if self._open[user] >= self._limits.user_sockets_max:
            raise Refusal("streams_of_user", facts={"stream_user_sockets_max": self._limits.user_sockets_max})
        self._open[user] += 1
        self._metrics.sockets.inc()
        try:
            yield
        finally:
            self._metrics.sockets.dec()
            self._open[user] -= 1
            if not self._open[user]:
                del self._open[user]

    async def serve(
        self, socket: web.WebSocketResponse, caller: Caller, *, after: Place | None, transport: asyncio.Transport
    ) -> None:
        """Streams to a socket until it ends: what came behind `after`, or only what happens from now on."""
        session = Session(
            socket,
            caller=caller,
            place=self.place if after is None else after,
            feed=self,
            limits=self._limits,
            clock=self._clock,
            metrics=self._metrics,
            transport=transport,
        )
        with self._listening(session):
            if not self._accepting:
                session.end(Ending.STOPPING)
            await session.run()

    def announce(self, type: str, data: Mapping[str, Any]) -> None:
        """Tells everybody who is connected something that is no event, such as a newly signed head.

        It is kept nowhere: who is not connected, or behind, does not get it.
        """
        out = other_message(type, place=self.place, at=Micros(self._clock.now()), data=data)
        for session in self._sessions():
            session.enqueue(out)

    async def passed(self, place: Place) -> None:
        """Waits until everything up to a place was handed out."""
        while any(ours < theirs for ours, theirs in zip(self.place, place, strict=True)):
            await self._moved.wait()

    async def missed(self, caller: Caller, *, after: Place, upto: Place) -> AsyncGenerator[Outgoing, None]:
        """Yields the caller's events between two places, from the log."""
        if after == upto:
            return
        streams = None
        if Right.ADMIN not in caller.rights:
            streams = await patiently(partial(self._index.escrows_of, caller.user))
        events = history(
            self._log, streams, after=after, upto=upto, page_max=self._limits.page_max, slots=self._reading
        )
        async with aclosing(events):
            async for recorded, place in events:
                yield event_message(recorded, place=place)
                self._metrics.messages.inc()

    # -- handing out -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        subscription = Subscription(self._log, after=dict(enumerate(self.place)))
        try:
            while True:
                page = await patiently(subscription.pull)
                if page:
                    await self._deliver(page)
                else:
                    await subscription.wait()
        finally:
            subscription.close()

    async def _deliver(self, page: Sequence[Recorded]) -> None:
        """Hands out one page, once the index knows everything in it: nobody's first events are passed over."""
        last = page[-1]
        while not await self._index.reached(partition=last.partition, position=last.position, timeout_s=INDEX_S):
            log.warning("stream_waits_for_index", partition=last.partition)
        for recorded in page:
            await self._hand_out(recorded)
        waiting, self._moved = self._moved, asyncio.Event()
        waiting.set()

    async def _hand_out(self, recorded: Recorded) -> None:
        members = await self._members.of(recorded) if self._by_user else ()
        self.place = moved(self.place, partition=recorded.partition, position=recorded.position)
        self.on_moved(recorded.stream_id)
        sessions = [*self._admins, *(each for user in members for each in self._by_user.get(user, ()))]
        if not sessions or not is_of_an_escrow(recorded):
            return
        out = event_message(recorded, place=self.place)
        for session in sessions:
            await session.offer(out)
        self._metrics.messages.inc(len(sessions))
        self._metrics.lag.observe(max(0, self._clock.now() - recorded.recorded_at) / 1_000_000)
        self._offered += len(sessions)
        if self._offered >= OFFERS_MAX:
            self._offered = 0
            await asyncio.sleep(0)

    # -- sockets ---------------------------------------------------------------------------------------------

    @contextmanager
    def _listening(self, session: Session) -> Iterator[None]:
        user = session.caller.user
        mine = self._admins if Right.ADMIN in session.caller.rights else self._by_user.setdefault(user, set())
        mine.add(session)
        try:
            yield
        finally:
            mine.discard(session)
            self._left.set()
            if not self._by_user.get(user, True):
                del self._by_user[user]

    def _sessions(self) -> list[Session]:
        return [*self._admins, *(each for mine in self._by_user.values() for each in mine)]

    async def _keep_looking(self) -> None:
        pause_s = min(1.0, self._limits.slow_s / 4, self._limits.heartbeat_s / 4)
        while True:
            await asyncio.sleep(pause_s)
            now = time.monotonic()
            for session in self._sessions():
                session.look(now)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        failure = task.exception()
        log.error("stream_ended", part=task.get_name(), exc_info=failure)
        self._on_broken(f"{task.get_name()} ended: {type(failure).__name__}")
        self._accepting = False
        for session in self._sessions():
            session.end(Ending.BROKEN)
