"""Notices between nodes: after a commit the others are told that the log has grown, so that they need not wait for
their next poll. A notice that is late, doubled or lost changes nothing but that wait.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Callable
from typing import Any, TypeAlias

import asyncpg

from eventstore.grouped import LogLimits
from eventstore.postgres import APP_ROLE

CHANNEL = "thirdkey_log"
PAUSE_S = 0.01
"""Between two notices of one node: what is committed meanwhile shares the next one."""
RETRY_S, RETRY_MAX_S = 0.1, 5.0
"""How long a lost connection waits before it is made again; doubled each time, up to the second."""
CHECK_S = 30.0
"""How often a quiet connection is asked whether it still stands."""

_SESSION = {
    "application_name": "thirdkey-notices",
    "role": APP_ROLE,
    # A notice says only that something is durable already; itself it may be lost.
    "synchronous_commit": "off",
}
_LOST = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError, asyncpg.InternalClientError)

Connection: TypeAlias = Any
"""An `asyncpg.Connection`; asyncpg ships no types."""

_log = logging.getLogger(__name__)


class Notices:
    """One node's voice and ear on Postgres: `tell` after a commit, `on_heard` when another node told.

    Each has a connection of its own. A NOTIFY inside the append's transaction would make the commits of all
    partitions wait for one lock; a LISTEN beside prepared statements hears nothing until the connection's next query.
    """

    def __init__(self, dsn: str, *, on_heard: Callable[[], None], limits: LogLimits) -> None:
        self._dsn, self._on_heard, self._limits = dsn, on_heard, limits
        self._me = secrets.token_hex(8)
        self._news = asyncio.Event()
        self._ear: Connection | None = None
        self._voice: Connection | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listens from here on; a database that cannot be reached now is tried again behind the scenes."""
        await self._listen()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._keep_listening(), name="notices-ear"),
            loop.create_task(self._keep_telling(), name="notices-voice"),
        ]

    def tell(self) -> None:
        """Has the other nodes told soon that this one committed something."""
        self._news.set()

    async def aclose(self) -> None:
        """Ends both connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in (self._ear, self._voice):
            if connection is not None:
                connection.terminate()

    # -- the ear ---------------------------------------------------------------------------------------------

    async def _keep_listening(self) -> None:
        while True:
            if self._ear is not None:
                await self._until_lost(self._ear)
            waits = _Backoff()
            while self._ear is None:
                await waits.next()
                await self._listen()
            self._on_heard()  # whatever was told in between

    async def _listen(self) -> None:
        self._ear = await self._connect()
        try:
            if self._ear is not None:
                await self._ear.add_listener(CHANNEL, self._heard)
        except _LOST as lost:
            self._drop_ear(lost)

    async def _until_lost(self, ear: Connection) -> None:
        gone = asyncio.Event()
        ear.add_termination_listener(lambda _: gone.set())
        try:
            while not gone.is_set() and not ear.is_closed():
                try:
                    async with asyncio.timeout(CHECK_S):
                        await gone.wait()
                except TimeoutError:
                    # The simple protocol: nothing is prepared on this connection.
                    await ear.execute("select 1", timeout=self._limits.connect_timeout_s)
        except _LOST as lost:
            self._drop_ear(lost)
        self._ear = None

    def _drop_ear(self, lost: BaseException) -> None:
        _note_lost(lost)
        if self._ear is not None:
            self._ear.terminate()
        self._ear = None

    def _heard(self, connection: object, pid: int, channel: str, payload: str) -> None:
        if payload != self._me:
            self._on_heard()

    # -- the voice -------------------------------------------------------------------------------------------

    async def _keep_telling(self) -> None:
        waits = _Backoff()
        while True:
            await self._news.wait()
            self._news.clear()
            if await self._told():
                waits = _Backoff()
                await asyncio.sleep(PAUSE_S)
            else:
                self._news.set()
                await waits.next()

    async def _told(self) -> bool:
        """Sends one notice, over a new connection where there is none; False when it broke."""
        if self._voice is None:
            self._voice = await self._connect()
        if self._voice is None:
            return False
        try:
            await self._voice.execute(f"notify {CHANNEL}, '{self._me}'", timeout=self._limits.connect_timeout_s)
        except _LOST as lost:
            _note_lost(lost)
            self._voice.terminate()
            self._voice = None
            return False
        return True

    async def _connect(self) -> Connection | None:
        try:
            return await asyncpg.connect(self._dsn, timeout=self._limits.connect_timeout_s, server_settings=_SESSION)
        except _LOST as lost:
            _note_lost(lost)
            return None


class _Backoff:
    def __init__(self) -> None:
        self._seconds = RETRY_S

    async def next(self) -> None:
        """Waits, each time about twice as long; not all nodes at one moment."""
        await asyncio.sleep(self._seconds * random.uniform(0.5, 1.0))
        self._seconds = min(self._seconds * 2, RETRY_MAX_S)


def _note_lost(lost: BaseException) -> None:
    _log.info("notices wait for the database: %s", type(lost).__name__)
