"""The event log on Postgres."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import asyncpg

from eventstore.api import Append, Head, LogBusy, LogUnavailable, Receipt, Recorded
from eventstore.appender import AnswerLost
from eventstore.grouped import GroupedLog, LogLimits
from eventstore.plan import CommandKey, Known, Plan
from eventstore.queries import QUERIES

APP_ROLE = "thirdkey_app"

_SESSION = {
    "application_name": "thirdkey",
    "role": APP_ROLE,
    # Plan once (planning anew took 0.4 ms of each append), and only along the one index that fits each query: a plan
    # made while the tables are empty may otherwise scan or sort what an index has in order, and is kept as they grow
    # (tried: from 1,300 to 700 appends/s within 4,000 events).
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    # Up to Postgres 17 a step switched off costs 1e10, which has the plan compiled: 0.4 s an append (tried on 15).
    "jit": "off",
}
_LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
)
"""No answer: the connection broke, was closed under us (asyncpg then also names a state it cannot switch to, seen after
kill -9 of the server), or time ran out."""
_STOPPING = ("57P01", "57P02", "57P03", "57P05")
"""Server shutting down, crashed, starting up, session ended: whether the commit came first is not said."""

Pool: TypeAlias = Any
"""An `asyncpg.Pool`; asyncpg ships no types."""
Row: TypeAlias = Any
"""An `asyncpg.Record`."""


async def open_pool(dsn: str, *, size: int, limits: LogLimits) -> Pool:
    """Opens a pool that works as `thirdkey_app` and keeps no state in its sessions; connects when first used."""
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        timeout=limits.connect_timeout_s,
        statement_cache_size=limits.statement_cache_size,
        server_settings=_SESSION,
        reset=_no_reset,
    )


async def fetch(pool: Pool, query: str, *values: object, limits: LogLimits) -> list[Row]:
    """Runs one statement that may be repeated (a read, a lease, a key); raises `LogUnavailable` without an answer."""
    try:
        async with pool.acquire(timeout=limits.connect_timeout_s) as connection:
            rows: list[Row] = await connection.fetch(QUERIES[query], *values, timeout=limits.read_timeout_s)
            return rows
    except asyncpg.DataError:
        raise
    except _LOST as error:
        raise LogUnavailable(type(error).__name__) from None
    except asyncpg.PostgresError as error:
        if error.sqlstate in _STOPPING or _is_short(error):
            raise LogUnavailable(type(error).__name__) from None
        raise


def _is_short(error: Any) -> bool:
    """Says whether the server lacks disk, memory or connections (class 53): nothing is wrong with what was asked."""
    return str(error.sqlstate).startswith("53")


class PostgresLog(GroupedLog):
    """An `EventLog` on Postgres: order by a locked head row, appends in groups, each group one call."""

    def __init__(self, *, append_pool: Pool, pool: Pool, partitions: int, limits: LogLimits) -> None:
        super().__init__(PostgresWriter(append_pool, limits=limits), partitions=partitions, limits=limits)
        self._pool, self._limits = pool, limits

    async def read_stream(self, stream_id: str, *, after_version: int = 0, limit: int = 1000) -> Sequence[Recorded]:
        """Reads one stream in order of version; at most `limit` and `read_page_max` events."""
        page = min(limit, self._limits.read_page_max)
        rows = await self._fetch("read_stream", self.partition_of(stream_id), stream_id, after_version, page)
        return [Recorded(**row) for row in rows]

    async def read_partition(self, partition: int, *, after_position: int, limit: int = 1000) -> Sequence[Recorded]:
        """Reads one partition in order of position, without gaps; at most `limit` and `read_page_max` events."""
        page = min(limit, self._limits.read_page_max)
        rows = await self._fetch("read_partition", partition, after_position, page)
        return [Recorded(**row) for row in rows]

    async def read_streams(
        self, stream_ids: Sequence[str], *, partition: int, after_position: int, limit: int = 1000
    ) -> Sequence[Recorded]:
        """Reads several streams of one partition together, in order of position; at most `limit` events."""
        page = min(limit, self._limits.read_page_max)
        rows = await self._fetch("read_streams", partition, list(stream_ids), after_position, page)
        return [Recorded(**row) for row in rows]

    async def heads(self) -> Sequence[Head]:
        """Reads the end of every partition, in their order."""
        return [Head(**row) for row in await self._fetch("heads")]

    async def receipt(self, *, stream_id: str, command_id: str) -> Receipt | None:
        """Reads what became of a command; None when it was never appended."""
        rows = await self._fetch("receipt", self.partition_of(stream_id), stream_id, command_id)
        return Receipt(**rows[0]) if rows else None

    async def _fetch(self, query: str, *values: object) -> list[Row]:
        return await fetch(self._pool, query, *values, limits=self._limits)


class PostgresWriter:
    """Writes groups, one statement each: its lock never spans a round trip."""

    def __init__(self, pool: Pool, *, limits: LogLimits) -> None:
        self._pool, self._limits = pool, limits
        self._lock_timeout = f"{round(limits.lock_timeout_s * 1000)}ms"
        self._idle_timeout = f"{round(limits.append_timeout_s * 1000)}ms"

    async def known(self, partition: int, items: Sequence[Append]) -> Known:
        """Reads head, versions, fences and receipts in one snapshot; raises `LogUnavailable`, `LogBusy`."""
        streams = list({item.stream_id for item in items})
        seats = list({item.fence.seat for item in items if item.fence is not None})
        keys = [(item.stream_id, item.command_id) for item in items]
        values = (partition, streams, seats, [key[0] for key in keys], [key[1] for key in keys])
        row = (await fetch(self._pool, "known", *values, limits=self._limits))[0]
        done = [keys[n - 1] for n in row["done"]]
        return Known(
            head=Head(partition=partition, position=row["position"], chain=row["chain"]),
            versions=dict(zip(streams, row["versions"], strict=True)),
            fences=dict(zip(seats, row["fences"], strict=True)),
            receipts=await self._receipts(partition, done),
        )

    async def write(self, plan: Plan) -> Sequence[int] | None:
        """Sends one plan; raises `LogUnavailable` before sending, `LogBusy`, `AnswerLost` when no answer came."""
        values = (plan.head.partition, self._lock_timeout, self._idle_timeout, *_plan_values(plan))
        try:
            connection = await self._pool.acquire(timeout=self._limits.connect_timeout_s)
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
            raise LogUnavailable(type(error).__name__) from None
        try:
            rows = await connection.fetch(QUERIES["append_group"], *values, timeout=self._limits.append_timeout_s)
        except asyncpg.UniqueViolationError:
            # Another node's receipt came in between: receipts alone do not move the head.
            return None
        except asyncpg.PostgresError as error:
            raise _sorted_out(error) from None
        except (ConnectionError, TimeoutError, asyncpg.InternalClientError) as error:
            # After a time-out the connection still waits for its answer: given back it would fail whoever gets it next.
            connection.terminate()
            raise AnswerLost(type(error).__name__) from None
        except asyncpg.InterfaceError as error:
            if isinstance(error, asyncpg.DataError):
                raise
            connection.terminate()
            raise AnswerLost(type(error).__name__) from None
        finally:
            await self._give_back(connection)
        return [row["recorded_at"] for row in rows if row["position"] is not None] if rows else None

    async def _give_back(self, connection: Any) -> None:
        try:
            await self._pool.release(connection)
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError):
            connection.terminate()

    async def _receipts(self, partition: int, keys: Sequence[CommandKey]) -> Mapping[CommandKey, Receipt]:
        found = {}
        for key in keys:
            row = (await fetch(self._pool, "receipt", partition, *key, limits=self._limits))[0]
            found[key] = Receipt(**row)
        return found


def _sorted_out(error: Any) -> Exception:
    """Says what an error the server gave means for the group: try later, not known, or an item's own fault."""
    if isinstance(error, asyncpg.LockNotAvailableError | asyncpg.DeadlockDetectedError) or _is_short(error):
        return LogBusy(type(error).__name__)
    if isinstance(error, asyncpg.PostgresConnectionError) or error.sqlstate in _STOPPING:
        return AnswerLost(type(error).__name__)
    return error  # type: ignore[no-any-return]  # asyncpg ships no types


def _plan_values(plan: Plan) -> tuple[object, ...]:
    before, after, known, receipts, events = plan.known.head, plan.head, plan.known, plan.receipts, plan.events
    return (
        before.position,
        before.chain,
        after.position,
        after.chain,
        *_columns(known.versions.items(), width=2),
        *_columns(plan.fresh, width=2),
        *_columns(known.fences.items(), width=2),
        *_columns(
            ((r.stream_id, r.command_id, r.body_hash, r.outcome, r.version, r.position) for r in receipts), width=6
        ),
        *_columns((_event_values(event) for event in events), width=12),
    )


def _event_values(e: Recorded) -> tuple[object, ...]:
    place = (e.position, e.stream_id, e.version, e.type, e.schema_version, e.command_id, e.occurred_at)
    return (*place, e.meta, e.body, e.salt, e.leaf, e.chain)


def _columns(rows: Any, *, width: int) -> list[list[object]]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(width)]


async def _no_reset(connection: object) -> None:
    """Saves a round trip at each release: nothing here leaves state in a session."""
    await asyncio.sleep(0)
