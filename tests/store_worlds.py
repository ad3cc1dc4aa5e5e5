"""Worlds for the event store's contract suites: the same few doings on the memory twin and on Postgres."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
import pytest

from eventstore.grouped import LogLimits
from eventstore.leases import LeaseTable
from eventstore.memory import Fault, MemoryLog, MemoryTables
from eventstore.opening import Store, memory_store, open_store
from tests.patience import PATIENT

KEY = bytes(range(32))


AGE = "update {table}_leases set expires_at = expires_at - make_interval(secs => $1)"


class StoreWorld(Protocol):
    """One set of tables, opened by as many nodes as a test likes."""

    partitions: int

    async def open(
        self,
        *,
        limits: LogLimits | None = None,
        encryption_key: bytes = KEY,
        other_keys: Sequence[bytes] = (),
        node_id: str = "n",
    ) -> Store: ...
    async def lose_next_answer(self, store: Store, *, written: bool) -> None: ...
    def held_up(self, store: Store) -> AbstractAsyncContextManager[None]: ...
    async def pass_time(self, seconds: float) -> None: ...
    async def aclose(self) -> None: ...


class MemoryWorld:
    def __init__(self, *, partitions: int) -> None:
        self.partitions, self._now = partitions, 1_000_000
        self._tables = MemoryTables(partitions=partitions, clock=lambda: self._now)
        self._stores: list[Store] = []

    async def open(
        self,
        *,
        limits: LogLimits | None = None,
        encryption_key: bytes = KEY,
        other_keys: Sequence[bytes] = (),
        node_id: str = "n",
    ) -> Store:
        store = memory_store(
            partitions=self.partitions,
            encryption_key=encryption_key,
            other_keys=other_keys,
            node_id=node_id,
            limits=limits,
            tables=self._tables,
        )
        self._stores.append(store)
        return store

    async def lose_next_answer(self, store: Store, *, written: bool) -> None:
        _memory_log(store).fail_next(Fault.LOST_AFTER_WRITE if written else Fault.LOST_BEFORE_WRITE)

    @asynccontextmanager
    async def held_up(self, store: Store) -> AsyncIterator[None]:
        _memory_log(store).hold()
        yield
        _memory_log(store).resume()

    async def pass_time(self, seconds: float) -> None:
        self._now += round(seconds * 1_000_000)

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()


class PostgresWorld:
    def __init__(self, dsn: str, *, partitions: int) -> None:
        self.partitions, self.dsn = partitions, dsn
        self._stores: list[Store] = []
        self._proxies: list[LossyProxy] = []
        self._proxy_of: dict[int, LossyProxy] = {}

    async def open(
        self,
        *,
        limits: LogLimits | None = None,
        encryption_key: bytes = KEY,
        other_keys: Sequence[bytes] = (),
        node_id: str = "n",
    ) -> Store:
        proxy = await LossyProxy.start(self.dsn)
        self._proxies.append(proxy)
        store = await open_store(
            dsn=proxy.dsn,
            encryption_key=encryption_key,
            other_keys=other_keys,
            partitions=self.partitions,
            node_id=node_id,
            limits=limits or PATIENT,
            # Past the proxy: the answer it swallows must be the one the test means, not a notice's.
            notice_dsn=self.dsn,
        )
        self._stores.append(store)
        self._proxy_of[id(store)] = proxy
        return store

    async def lose_next_answer(self, store: Store, *, written: bool) -> None:
        self._proxy_of[id(store)].arm(deliver=written)

    @asynccontextmanager
    async def held_up(self, store: Store) -> AsyncIterator[None]:
        connection = await asyncpg.connect(self.dsn)
        try:
            async with connection.transaction():
                await connection.execute("select from log_heads for update")
                yield
        finally:
            await connection.close()

    async def pass_time(self, seconds: float) -> None:
        """Lets all leases come nearer to their end: a machine that stands still for real adds next to nothing."""
        connection = await asyncpg.connect(self.dsn)
        try:
            for table in LeaseTable:
                await connection.execute(AGE.format(table=table), seconds)
        finally:
            await connection.close()

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()
        for proxy in self._proxies:
            await proxy.aclose()


class LossyProxy:
    """Stands between a node and Postgres and swallows one answer when told, cutting that connection."""

    def __init__(self, dsn: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="thirdkey-proxy-"))
        self._target = urlsplit(dsn)
        self._armed: bool | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @classmethod
    async def start(cls, dsn: str) -> "LossyProxy":
        proxy = cls(dsn)
        proxy._server = await asyncio.start_unix_server(proxy._accept, proxy._folder / ".s.PGSQL.5432")
        return proxy

    @property
    def dsn(self) -> str:
        user = self._target.netloc.rpartition("@")[0]
        at = f"{user}@" if user else ""
        return f"postgresql://{at}{self._target.path}?host={quote(str(self._folder))}"

    def arm(self, *, deliver: bool) -> None:
        self._armed = deliver

    async def aclose(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        shutil.rmtree(self._folder)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        behind_reader, behind_writer = await self._dial()
        back = asyncio.create_task(_pump(behind_reader, writer))
        try:
            while data := await reader.read(65536):
                # X is the goodbye of a connection, no query.
                if self._armed is not None and data[:1] != b"X":
                    deliver, self._armed = self._armed, None
                    back.cancel()
                    await asyncio.wait({back})
                    if deliver:
                        behind_writer.write(data)
                        await behind_reader.read(1)
                    return
                behind_writer.write(data)
        finally:
            back.cancel()
            writer.close()
            behind_writer.close()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        folder = parse_qs(self._target.query).get("host")
        port = self._target.port or 5432
        if folder:
            return await asyncio.open_unix_connection(f"{folder[0]}/.s.PGSQL.{port}")
        return await asyncio.open_connection(self._target.hostname or "127.0.0.1", port)


def _memory_log(store: Store) -> MemoryLog:
    assert isinstance(store.log, MemoryLog)
    return store.log


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


@pytest.fixture(params=["memory-1", "memory-4", "postgres-1", "postgres-4"])
async def store_world(request: pytest.FixtureRequest) -> AsyncIterator[StoreWorld]:
    """Gives a test one world: the memory twin or Postgres, with 1 or 4 partitions."""
    backend, _, partitions = request.param.partition("-")
    world = (
        MemoryWorld(partitions=int(partitions))
        if backend == "memory"
        else PostgresWorld(request.getfixturevalue("postgres_dsn"), partitions=int(partitions))
    )
    yield world
    await world.aclose()
