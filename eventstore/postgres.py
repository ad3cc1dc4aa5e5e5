"""The event log on Postgres."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeAlias, TypeVar

import asyncpg

from eventstore.api import Append, Head, LogBusy, LogUnavailable, Receipt, Recorded
from eventstore.appender import AnswerLost, KeyTaken
from eventstore.grouped import GroupedLog, LogLimits
from eventstore.plan import CommandKey, Hashed, Known, Plan, Written
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
_ENDED = (
    ConnectionResetError,
    BrokenPipeError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What a connection says that the server ended, seen after `pg_terminate_backend`, a restart and kill -9."""
_ANY_POSITION = 2**63 - 1
_STOPPING = ("57P01", "57P02", "57P03", "57P05")
"""Server shutting down, crashed, starting up, session ended: whether the commit came first is not said."""
_NOT_NOW = ("25006", "40001", "57014")
"""Read-only, as a server is after a failover; in the way of its recovery; cancelled, by an operator or a
`statement_timeout`: nothing was done, and nothing is wrong with what was asked."""

Pool: TypeAlias = Any
"""An `asyncpg.Pool`; asyncpg ships no types."""
Connection: TypeAlias = Any
"""An `asyncpg.Connection` of a pool."""
Row: TypeAlias = Any
"""An `asyncpg.Record`."""
_T = TypeVar("_T")


class ConnectionEnded(LogUnavailable):
    """The connection that was lent had ended, or ended meanwhile; another one may answer."""


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


async def read(pool: Pool, query: str, *values: object, limits: LogLimits) -> list[Row]:
    """Runs one statement that changes nothing, as `through_ended_connections` does; raises `LogUnavailable`."""
    return await through_ended_connections(pool, lambda: fetch(pool, query, *values, limits=limits))


async def through_ended_connections(pool: Pool, reading: Callable[[], Awaitable[_T]]) -> _T:
    """Repeats a read while it finds a connection ended: a restart of the server ends all that a pool keeps, and
    nobody is told before each was tried."""
    for _ in range(pool.get_max_size()):
        with suppress(ConnectionEnded):
            return await reading()
    return await reading()


async def fetch(pool: Pool, query: str, *values: object, limits: LogLimits) -> list[Row]:
    """Runs one statement that may be repeated (a read, a lease, a key); raises `LogUnavailable` without an answer."""
    with _away_without_answer():
        async with pool.acquire(timeout=limits.connect_timeout_s) as connection:
            return await _fetch(connection, query, *values, limits=limits)


async def _fetch(connection: Connection, query: str, *values: object, limits: LogLimits) -> list[Row]:
    rows: list[Row] = await connection.fetch(QUERIES[query], *values, timeout=limits.read_timeout_s)
    return rows


@contextmanager
def _away_without_answer() -> Iterator[None]:
    """Turns what tells of a database that is away, or short of something, into `LogUnavailable`."""
    try:
        yield
    except asyncpg.DataError:
        raise
    except _LOST as error:
        raise without_answer(error) from None
    except asyncpg.PostgresError as error:
        if error.sqlstate in _STOPPING or _is_short(error):
            raise without_answer(error) from None
        raise


def without_answer(error: Exception) -> LogUnavailable:
    """Makes `ConnectionEnded` of what tells that a connection was there before, else `LogUnavailable`."""
    kind = ConnectionEnded if isinstance(error, _ENDED) else LogUnavailable
    return kind(type(error).__name__)


def _is_short(error: Any) -> bool:
    """Says whether the server lacks disk, memory or connections (53), fails itself (58), or does nothing now."""
    return str(error.sqlstate)[:2] in ("53", "58") or error.sqlstate in _NOT_NOW


class PostgresLog(GroupedLog):
    """An `EventLog` on Postgres: order by a locked head row, appends in groups, each group one call."""

    def __init__(self, *, append_pool: Pool, pool: Pool, partitions: int, limits: LogLimits) -> None:
        self._pool, self._limits, self._writer = pool, limits, PostgresWriter(append_pool, limits=limits)
        super().__init__(self._writer, partitions=partitions, limits=limits)

    async def read_stream(self, stream_id: str, *, after_version: int = 0, limit: int = 1000) -> Sequence[Recorded]:
        """Reads one stream in order of version; at most `limit` and `read_page_max` events."""
        page = min(limit, self._limits.read_page_max)
        rows = await self._fetch("read_stream", self.partition_of(stream_id), stream_id, after_version, page)
        return _recorded(rows)

    async def read_partition(self, partition: int, *, after_position: int, limit: int = 1000) -> Sequence[Recorded]:
        """Reads one partition in order of position, without gaps; at most `limit` and `read_page_max` events."""
        page = min(limit, self._limits.read_page_max)
        rows = await self._fetch("read_partition", partition, after_position, page)
        return _recorded(rows)

    async def read_streams(
        self, stream_ids: Sequence[str], *, partition: int, after_position: int, limit: int = 1000
    ) -> Sequence[Recorded]:
        """Reads several streams of one partition together, in order of position; at most `limit` events."""
        page = min(limit, self._limits.read_page_max)
        rows = await self._fetch("read_streams", partition, list(stream_ids), after_position, page)
        return _recorded(rows)

    async def read_firsts(self, stream_ids: Sequence[str], *, partition: int) -> Sequence[Recorded]:
        """Reads the first event of each of several streams of one partition, once for each name."""
        return _recorded(await self._fetch("read_firsts", partition, list(set(stream_ids))))

    async def heads(self) -> Sequence[Head]:
        """Reads the end of every partition, in their order."""
        return [Head(**row) for row in await self._fetch("heads")]

    async def receipt(self, *, stream_id: str, command_id: str) -> Receipt | None:
        """Reads what became of a command; None when it was never appended."""
        rows = await self._fetch("receipt", self.partition_of(stream_id), stream_id, command_id)
        return Receipt(**rows[0]) if rows else None

    async def aclose(self) -> None:
        """Lets calls under way finish, refuses what waits, gives its connections back."""
        await super().aclose()
        await self._writer.aclose()

    async def _fetch(self, query: str, *values: object) -> list[Row]:
        return await read(self._pool, query, *values, limits=self._limits)


class PostgresWriter:
    """Writes groups, one statement each: its lock never spans a round trip.

    Each partition keeps its connection from call to call: taking one from the pool and giving it back cost a lone
    append a fifth of its time.
    """

    def __init__(self, pool: Pool, *, limits: LogLimits) -> None:
        self._pool, self._limits = pool, limits
        self._kept: dict[int, Connection] = {}
        self._lock_timeout = f"{round(limits.lock_timeout_s * 1000)}ms"
        self._idle_timeout = f"{round(limits.append_timeout_s * 1000)}ms"

    async def known(self, partition: int, items: Sequence[Append]) -> Known:
        """Reads position, versions, fences and receipts in one snapshot; raises `LogUnavailable`, `LogBusy`."""
        streams = list({item.stream_id for item in items})
        seats = list({item.fence.seat for item in items if item.fence is not None})
        keys = [(item.stream_id, item.command_id) for item in items]
        values = (partition, streams, seats, [key[0] for key in keys], [key[1] for key in keys])
        with _away_without_answer():
            async with self._connection(partition) as connection:
                row = (await _fetch(connection, "known", *values, limits=self._limits))[0]
                receipts = await self._receipts(connection, partition, [keys[n - 1] for n in row["done"]])
        return Known(
            position=row["position"],
            chain=row["chain"],
            versions=dict(zip(streams, row["versions"], strict=True)),
            fences=dict(zip(seats, row["fences"], strict=True)),
            receipts=receipts,
        )

    async def write(self, plan: Plan) -> Written | None:
        """Sends one plan; raises `LogUnavailable` before sending, `LogBusy`, `KeyTaken`, `AnswerLost`."""
        partition, timeout = plan.partition, self._limits.append_timeout_s
        query, plan_values = _statement(plan)
        values = (partition, self._lock_timeout, self._idle_timeout, *plan_values)
        try:
            async with self._connection(partition) as connection:
                rows = await connection.fetch(QUERIES[query], *values, timeout=timeout)
        except asyncpg.UniqueViolationError:
            raise KeyTaken from None
        except asyncpg.PostgresError as error:
            raise _sorted_out(error) from None
        except (ConnectionError, TimeoutError, asyncpg.InternalClientError) as error:
            raise AnswerLost(type(error).__name__) from None
        except asyncpg.InterfaceError as error:
            if isinstance(error, asyncpg.DataError):
                raise
            raise AnswerLost(type(error).__name__) from None
        return _written(plan, rows[0]) if rows else None

    async def aclose(self) -> None:
        """Gives every connection back."""
        while self._kept:
            await self._give_back(self._kept.popitem()[1])

    @asynccontextmanager
    async def _connection(self, partition: int) -> AsyncIterator[Connection]:
        """Lends the partition's connection, and keeps it if what came of it was an answer."""
        connection = self._kept.pop(partition, None)
        if connection is None or _is_gone(connection):
            connection = await self._another(connection)
        try:
            yield connection
        except (asyncpg.PostgresError, asyncpg.DataError):
            self._kept[partition] = connection
            raise
        except BaseException:
            # After a time-out the connection still waits for its answer: kept it would fail whoever gets it next.
            connection.terminate()
            await self._give_back(connection)
            raise
        else:
            self._kept[partition] = connection

    async def _another(self, closed: Connection | None) -> Connection:
        if closed is not None:
            await self._give_back(closed)
        try:
            return await self._pool.acquire(timeout=self._limits.connect_timeout_s)
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
            raise LogUnavailable(type(error).__name__) from None

    async def _give_back(self, connection: Connection) -> None:
        try:
            await self._pool.release(connection)
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError):
            connection.terminate()

    async def _receipts(
        self, connection: Connection, partition: int, keys: Sequence[CommandKey]
    ) -> Mapping[CommandKey, Receipt]:
        found = {}
        for key in keys:
            row = (await _fetch(connection, "receipt", partition, *key, limits=self._limits))[0]
            found[key] = Receipt(**row)
        return found


def _is_gone(connection: Connection) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True  # the pool took it back when it broke


def _sorted_out(error: Any) -> Exception:
    """Says what an error the server gave means for the group: try later, not known, or an item's own fault."""
    if isinstance(error, asyncpg.LockNotAvailableError | asyncpg.DeadlockDetectedError) or _is_short(error):
        return LogBusy(type(error).__name__)
    if isinstance(error, asyncpg.PostgresConnectionError) or error.sqlstate in _STOPPING:
        return AnswerLost(type(error).__name__)
    return error  # type: ignore[no-any-return]  # asyncpg ships no types


def _statement(plan: Plan) -> tuple[str, tuple[object, ...]]:
    """Chooses the query that verifies what the plan rests on, and nothing else; returns it with the plan's values."""
    if plan.hashed is None:
        return "append_group_behind", _values_behind(plan)
    values = _values_hashed(plan, plan.hashed)
    if plan.known.assumed or plan.known.fences:
        return "append_group_checked", (*values, *_checked(plan))
    return "append_group", values


def _values_hashed(plan: Plan, hashed: Hashed) -> tuple[object, ...]:
    before = plan.known.position
    receipts = [(*row[:5], before + row[5]) for row in plan.receipts]
    marks = enumerate(zip(plan.rows, hashed.leaves, hashed.chains, strict=True), before + 1)
    rows = [(position, *row, leaf, chain) for position, (row, leaf, chain) in marks]
    return before, hashed.behind, before + len(rows), hashed.last, receipts, rows


def _values_behind(plan: Plan) -> tuple[object, ...]:
    least = plan.known.position
    return least, least if plan.exact else _ANY_POSITION, *_checked(plan), plan.receipts, plan.rows


def _checked(plan: Plan) -> tuple[Sequence[object], ...]:
    known = plan.known
    return *_columns(known.assumed.items(), width=2), *_columns(known.fences.items(), width=2)


def _written(plan: Plan, row: Row) -> Written:
    if plan.hashed is not None:
        return Written(position=plan.known.position, recorded_at=row["recorded_at"], hashed=plan.hashed)
    hashed = Hashed(behind=row["chain"], leaves=row["leaves"], chains=row["chains"])
    return Written(position=row["position"], recorded_at=row["recorded_at"], hashed=hashed)


def _columns(rows: Any, *, width: int) -> list[Sequence[object]]:
    return list(zip(*rows, strict=True)) or [()] * width


def _recorded(rows: Sequence[Row]) -> list[Recorded]:
    return [Recorded(*row) for row in rows]


async def _no_reset(connection: object) -> None:
    """Saves a round trip at each release: nothing here leaves state in a session."""
