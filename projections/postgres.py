"""The tables of read models on Postgres: the writing side."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from eventstore.grouped import LogLimits
from eventstore.postgres import Pool, without_answer
from eventstore.queries import load_queries
from projections.api import (
    RETIRED,
    Batch,
    Building,
    CountedRow,
    Generation,
    Progress,
    RebuildUnderWay,
    RowsRefused,
    Snapshot,
    Write,
)
from projections.models import MODELS
from projections.rows import Row

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))
LONG_S = 600.0
"""How long taking away a whole generation, or a page of a snapshot, may take."""
FETCHED = 1_000
"""Rows of a snapshot in memory at once."""

_AWAY = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, asyncpg.InternalClientError)
"""No answer: whether it was committed is not known, and the checkpoints tell."""
_ROWS_WRONG = ("22", "23")
"""Classes of errors that the rows themselves cause: data exceptions and constraints."""


class PostgresModels:
    """`ModelTables` on Postgres, as `thirdkey_app`: no table is made or dropped, a generation is a column's value."""

    def __init__(self, pool: Pool, *, limits: LogLimits) -> None:
        self._pool, self._limits = pool, limits

    async def progress(self) -> Mapping[str, Progress]:
        """Reads how every model stands."""
        async with self._connection() as connection:
            rows = await connection.fetch(QUERIES["progress"], timeout=self._limits.read_timeout_s)
        return _progress(rows)

    async def begin(self, models: Iterable[str]) -> None:
        """Makes the first generation of each model that has none."""
        await self._execute("begin", list(models))

    async def write(self, batch: Batch) -> frozenset[Generation]:
        """Writes what belongs to generations whose checkpoint is at `before`, and returns those."""
        async with self._connection() as connection, connection.transaction():
            names = [write.generation.checkpoint for write in batch.writes]
            places = (batch.partition, names, batch.before, batch.after, *_bounds(self._limits))
            rows = await connection.fetch(QUERIES["move"], *places, timeout=self._limits.append_timeout_s)
            moved = {row["projection"] for row in rows}
            for write in batch.writes:
                if write.generation.checkpoint in moved:
                    await self._write(connection, batch.partition, write)
        return frozenset(write.generation for write in batch.writes if write.generation.checkpoint in moved)

    async def set_stopped(self, model: str, says: str | None) -> None:
        """Notes where and by what a model was stopped, None when it goes on."""
        await self._execute("set_stopped", model, says)

    @asynccontextmanager
    async def building(self, models: Sequence[str]) -> AsyncIterator[Building]:
        """Begins a new generation of each model.

        The right to do so is a lock of the session: it ends with this process, however that ends.
        """
        async with self._connection() as connection:
            taken: list[str] = []
            try:
                for model in models:
                    if not await connection.fetchval(QUERIES["try_rebuilder"], model):
                        raise RebuildUnderWay(model=model)
                    taken.append(model)
                numbers = [await connection.fetchval(QUERIES["next_generation"], model) for model in models]
                generations = [Generation(model, number) for model, number in zip(models, numbers, strict=True)]
                yield _PostgresBuilding(connection, generations, limits=self._limits)
            finally:
                await _leave(connection, taken)

    @asynccontextmanager
    async def snapshot(self, partition: int) -> AsyncIterator[Snapshot]:
        """Opens one unmoving view of all live generations in one partition."""
        async with (
            self._connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            rows = await connection.fetch(QUERIES["live_positions"], partition)
            positions = {row["model"]: row["position"] for row in rows}
            yield _PostgresSnapshot(connection, partition, positions)

    async def _write(self, connection: Any, partition: int, write: Write) -> None:
        generation, timeout_s = write.generation, self._limits.append_timeout_s
        place = (generation.number, partition)
        if write.escrows:
            await connection.execute(
                QUERIES[f"{generation.model}_remove"], *place, list(write.escrows), timeout=timeout_s
            )
        if write.rows:
            text = msgspec.json.encode(write.rows).decode()
            await connection.execute(QUERIES[f"{generation.model}_add"], *place, text, timeout=timeout_s)
        if write.counts:
            columns = (list(write.counts), list(write.counts.values()))
            await connection.execute(QUERIES[f"{generation.model}_add"], *place, *columns, timeout=timeout_s)

    async def _execute(self, query: str, *values: object) -> None:
        async with self._connection() as connection:
            await connection.execute(QUERIES[query], *values, timeout=self._limits.append_timeout_s)

    def _connection(self) -> AbstractAsyncContextManager[Any]:
        return lent(self._pool, limits=self._limits)


@asynccontextmanager
async def lent(pool: Pool, *, limits: LogLimits) -> AsyncIterator[Any]:
    """Lends a connection; raises `LogUnavailable` or `RowsRefused` for what goes wrong on it."""
    try:
        async with pool.acquire(timeout=limits.connect_timeout_s) as connection:
            yield connection
    except asyncpg.DataError as error:
        raise RowsRefused(type(error).__name__) from None
    except _AWAY as error:
        raise without_answer(error) from None
    except asyncpg.PostgresError as error:
        if str(error.sqlstate)[:2] in _ROWS_WRONG:
            raise RowsRefused(type(error).__name__) from None
        if _passes(error):
            raise without_answer(error) from None
        raise


def _passes(error: Any) -> bool:
    """Says whether an error is the server's present state, not ours: short of something, stopping, read-only, failing
    itself, a deadlock."""
    return str(error.sqlstate)[:2] in ("25", "40", "53", "55", "57", "58")


def _bounds(limits: LogLimits) -> tuple[str, str]:
    """How long a transaction waits for a lock, and how long it may keep one without saying anything."""
    bound = f"{round(limits.lock_timeout_s * 1000)}ms"
    return bound, bound


class _PostgresBuilding:
    def __init__(self, connection: Any, generations: Sequence[Generation], *, limits: LogLimits) -> None:
        self._connection, self.generations, self._limits = connection, generations, limits

    async def swap(self) -> bool:
        """Puts the new generations in the live ones' place in one transaction; False while one of them is behind."""
        async with self._connection.transaction():
            await self._connection.execute(QUERIES["bound_swap"], *_bounds(self._limits))
            live = [await self._live_of(generation.model) for generation in self.generations]
            at = await self._positions([*live, *self.generations])
            # Read after the checkpoints are held still: one beyond it is of a log that was longer, and never reached.
            ends = {row["partition"]: row["position"] for row in await self._connection.fetch(QUERIES["log_ends"])}
            if any(_is_behind(at, old, new, ends=ends) for old, new in zip(live, self.generations, strict=True)):
                return False
            for old, new in zip(live, self.generations, strict=True):
                if not await self._connection.fetchval(QUERIES["swap"], new.model, new.number):
                    raise RebuildUnderWay(model=new.model)
                await self._connection.execute(QUERIES["retire"], old.checkpoint, RETIRED)
        return True

    async def clear(self) -> None:
        partitions = [row["partition"] for row in await self._connection.fetch("select partition from log_heads")]
        for model in [generation.model for generation in self.generations]:
            for row in await self._connection.fetch(QUERIES["forgotten"], model):
                for partition in partitions:
                    place = (row["generation"], partition)
                    await self._connection.execute(QUERIES[f"{model}_clear"], *place, timeout=LONG_S)
                forgotten = Generation(model, row["generation"])
                await self._connection.execute(QUERIES["forget"], forgotten.checkpoint)

    async def _live_of(self, model: str) -> Generation:
        return Generation(model, await self._connection.fetchval(QUERIES["live_of"], model))

    async def _positions(self, generations: Sequence[Generation]) -> Mapping[tuple[str, int], int]:
        names = [generation.checkpoint for generation in generations]
        rows = await self._connection.fetch(QUERIES["lock_checkpoints"], names)
        return {(row["projection"], row["partition"]): row["position"] for row in rows}


def _is_behind(at: Mapping[tuple[str, int], int], old: Generation, new: Generation, *, ends: Mapping[int, int]) -> bool:
    partitions = [partition for name, partition in at if name == old.checkpoint]
    return any(at[new.checkpoint, each] < min(at[old.checkpoint, each], ends[each]) for each in partitions)


class _PostgresSnapshot:
    def __init__(self, connection: Any, partition: int, positions: Mapping[str, int]) -> None:
        self._connection, self._partition, self.positions = connection, partition, positions

    async def rows(self, model: str) -> AsyncIterator[Row]:
        kind: type[Row] = CountedRow if MODELS[model].counted else MODELS[model].row
        cursor = self._connection.cursor(QUERIES[f"{model}_rows"], self._partition, prefetch=FETCHED, timeout=LONG_S)
        async for row in cursor:
            yield msgspec.json.decode(row["row"], type=kind)


def _progress(rows: Iterable[Any]) -> Mapping[str, Progress]:
    found: dict[str, Progress] = {}
    positions: dict[str, dict[int, int]] = {}
    built: dict[str, dict[int, int]] = {}
    for row in rows:
        model = row["model"]
        if row["position"] is not None:
            (positions if row["is_live"] else built).setdefault(model, {})[row["partition"]] = row["position"]
        found[model] = Progress(
            model=model,
            live=row["live"],
            building=row["building"],
            stopped=row["stopped"],
            positions=positions.setdefault(model, {}),
            built=built.setdefault(model, {}),
        )
    return found


async def _leave(connection: Any, models: Sequence[str]) -> None:
    """Gives the right back; on a connection that is gone there is nothing to give back."""
    try:
        for model in models:
            await asyncio.shield(connection.execute(QUERIES["leave_rebuilder"], model))
    except (asyncpg.InterfaceError, asyncpg.PostgresError, OSError):
        connection.terminate()
