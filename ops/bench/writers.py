"""The four ways to write one event that `make bench-log` sets side by side, on one Postgres."""

import asyncio
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresFactory

from eventstore.api import Append, Appended, NewEvent
from eventstore.opening import Store
from ops.bench.load import META, Load, body, drive, load_of, new_streams, random_id

POOL_SIZE = 10
"""Connections of the plain writer and of the package; asyncpg's own default."""

TABLES = """
create table plain_events (
    position bigint generated always as identity primary key, stream_id text not null, version integer not null,
    type text not null, schema_version integer not null, command_id text not null, occurred_at bigint not null,
    recorded_at timestamptz not null default clock_timestamp(), meta bytea not null, body bytea not null,
    unique (stream_id, version)
);
create table bare_events (like plain_events including all);
"""
_COLUMNS = "stream_id, version, type, schema_version, command_id, occurred_at, meta, body"
_INSERT = f"insert into plain_events ({_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8)"
_BATCH = f"""
insert into bare_events ({_COLUMNS})
select * from unnest($1::text[], $2::int[], $3::text[], $4::int[], $5::text[], $6::bigint[], $7::bytea[], $8::bytea[])
"""


class Writer(Protocol):
    """One way to write events, one stream an appender."""

    async def run(self, *, appenders: int, seconds: float) -> Load: ...


class OurWriter:
    """Our log with every guarantee: version check, receipt, chain, durable before it is answered."""

    def __init__(self, store: Store) -> None:
        self._log = store.log

    async def run(self, *, appenders: int, seconds: float) -> Load:
        """Appends through `EventLog.append`."""
        streams, versions = new_streams(appenders), [0] * appenders

        async def append(appender: int) -> None:
            """Appends the next event of one appender's own stream and waits for its answer."""
            event = NewEvent(
                type="deposit_seen", schema_version=1, occurred_at=time.time_ns() // 1000, meta=META, body=body()
            )
            item = Append(
                stream_id=streams[appender],
                expected_version=versions[appender],
                events=(event,),
                command_id=random_id(),
                body_hash=random_id(),
                outcome=b'{"status":"funded","version":1}',
            )
            outcome = await self._log.append(item)
            assert isinstance(outcome, Appended), outcome
            versions[appender] += 1

        return await drive(append, appenders=appenders, seconds=seconds)


async def append_life(store: Store, life: Sequence[NewEvent]) -> str:
    """Appends a life's events, one an append, to a stream of their own; returns its name."""
    (stream_id,) = new_streams(1)
    for version, event in enumerate(life):
        item = Append(stream_id=stream_id, expected_version=version, events=(event,), command_id=random_id())
        assert isinstance(await store.log.append(item), Appended)
    return stream_id


class PlainWriter:
    """One INSERT of one row an event, through a pool as asyncpg makes it."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def run(self, *, appenders: int, seconds: float) -> Load:
        """Inserts with one call of the pool each."""
        streams, versions = new_streams(appenders), [0] * appenders

        async def append(appender: int) -> None:
            versions[appender] += 1
            place = (streams[appender], versions[appender], "deposit_seen", 1, random_id())
            await self._pool.execute(_INSERT, *place, time.time_ns() // 1000, META, body())

        return await drive(append, appenders=appenders, seconds=seconds)


class BareWriter:
    """The ceiling: batches as large as there are appenders, back to back on one connection, and nothing checked."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def run(self, *, appenders: int, seconds: float) -> Load:
        """Inserts one batch after the other; an event's latency is its batch's."""
        streams, version, took = new_streams(appenders), 0, []
        async with self._pool.acquire() as connection:
            insert = await connection.prepare(_BATCH)
            begun = time.perf_counter()
            while (sent := time.perf_counter()) < begun + seconds:
                version += 1
                rows = [
                    (stream, version, "deposit_seen", 1, random_id(), time.time_ns() // 1000, META, body())
                    for stream in streams
                ]
                await insert.fetch(*zip(*rows, strict=True))
                took.append(time.perf_counter() - sent)
            return load_of(took, events=version * appenders, seconds=time.perf_counter() - begun)


class PackageWriter:
    """The package eventsourcing, by its recorder: events that are encoded already, one thread an appender."""

    def __init__(self, *, socket_folder: str, database: str) -> None:
        self._factory = PostgresFactory(package_environment(socket_folder=socket_folder, database=database))
        self._recorder = self._factory.application_recorder()

    async def run(self, *, appenders: int, seconds: float) -> Load:
        """Inserts with one call of the recorder each."""
        return await asyncio.to_thread(self._run, appenders, seconds)

    def close(self) -> None:
        """Ends its connections."""
        self._factory.close()

    def _run(self, appenders: int, seconds: float) -> Load:
        took: list[float] = []
        begun = time.perf_counter()

        def one() -> None:
            stream, version = uuid.uuid4(), 0
            while (sent := time.perf_counter()) < begun + seconds:
                version += 1
                state = StoredEvent(
                    originator_id=stream, originator_version=version, topic="bench:DepositSeen", state=body()
                )
                self._recorder.insert_events([state])
                took.append(time.perf_counter() - sent)

        threads = [threading.Thread(target=one) for _ in range(appenders)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return load_of(took, events=len(took), seconds=time.perf_counter() - begun)


def package_environment(*, socket_folder: str, database: str) -> dict[str, str]:
    """Tells the package where the same server is, with as many connections as the plain writer has."""
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": database,
        "POSTGRES_HOST": socket_folder,
        "POSTGRES_PORT": "5432",
        "POSTGRES_USER": "postgres",
        "POSTGRES_PASSWORD": "peer",
        "POSTGRES_POOL_SIZE": str(POOL_SIZE),
        "POSTGRES_MAX_OVERFLOW": "0",
        "POSTGRES_CONNECT_TIMEOUT": "60",
    }
