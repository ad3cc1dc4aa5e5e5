"""The tables of read models on Postgres: the reading side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from domain.ids import CaseId, EscrowId, Micros, UserId
from domain.money import ATOMIC_MAX
from domain.roles import Role, SeatKind
from eventstore.grouped import LogLimits, partition_of
from eventstore.postgres import Pool, through_ended_connections
from eventstore.queries import load_queries
from projections.api import ALL_CASES, EscrowQuery, Moved, Place
from projections.postgres import lent
from projections.rows import (
    DeadlineRow,
    DisputeRow,
    EscrowRow,
    MessageRow,
    PhotoRow,
    RecoveryRow,
    StoppedRow,
    TurnRow,
    WalletRow,
)

QUERIES = load_queries(Path(__file__).with_name("reading.sql"))
_LATEST = Place(ATOMIC_MAX, "")
"""Before everything in a list that is newest first."""
_EARLIEST = Place(-1, "")

_R = TypeVar("_R", bound=msgspec.Struct)


class PostgresReader:
    """`ModelReader` on Postgres."""

    def __init__(self, pool: Pool, *, partitions: int, limits: LogLimits) -> None:
        self._pool, self._partitions, self._limits = pool, partitions, limits

    async def escrow_page(self, query: EscrowQuery) -> Sequence[EscrowRow]:
        """Lists escrows, newest first."""
        after = query.after or _LATEST
        values = (after.at, after.id, query.state, query.order, query.limit)
        if query.user is None:
            return await self._all(EscrowRow, "escrow_page", *values)
        role = query.role.value if query.role else None
        return await self._all(EscrowRow, "escrow_page_of", *values, query.user, role)

    async def escrow(self, escrow_id: EscrowId) -> EscrowRow | None:
        """Reads the line of one escrow."""
        return await self._one(EscrowRow, "escrow", escrow_id)

    async def escrows_of(self, user: UserId) -> Sequence[EscrowId]:
        """Names every escrow in which a user has a seat."""
        return sorted(EscrowId(row["escrow_id"]) for row in await self._rows("escrows_of", user))

    async def unready(self, *, after: EscrowId | None, limit: int) -> Sequence[EscrowRow]:
        """Lists escrows whose arbiter is awaited, by name."""
        return await self._all(EscrowRow, "unready", after or "", limit)

    async def watched(self, partition: int, *, after_position: int, limit: int) -> Sequence[Moved]:
        """Names escrows with an address whose last event lies after a position."""
        return await self._all(Moved, "watched", partition, after_position, limit)

    async def case(self, case_id: CaseId) -> DisputeRow | None:
        """Reads one case."""
        return await self._one(DisputeRow, "case", case_id)

    async def cases_of(
        self,
        arbiter: UserId,
        *,
        after: Place | None,
        limit: int,
        status: str | None = None,
        text: str | None = None,
    ) -> Sequence[DisputeRow]:
        """Lists an arbiter's cases, newest first."""
        after = after or _LATEST
        values = (arbiter, after.at, after.id, limit, text.lower() if text is not None else None)
        if status is None:
            return await self._all(DisputeRow, "cases_awaited", *values)
        if status == ALL_CASES:
            return await self._all(DisputeRow, "cases_all", *values)
        return await self._all(DisputeRow, "cases_by_status", *values, status)

    async def messages(self, escrow_id: EscrowId, *, after: int, limit: int) -> Sequence[MessageRow]:
        """Lists the messages of an escrow's case whose number lies above one, in order."""
        partition = partition_of(escrow_id, partitions=self._partitions)
        return await self._all(MessageRow, "messages", partition, escrow_id, after, limit)

    async def photos(self, escrow_id: EscrowId) -> Sequence[PhotoRow]:
        """Lists the pictures of an escrow's case."""
        return await self._all(PhotoRow, "photos", partition_of(escrow_id, partitions=self._partitions), escrow_id)

    async def recovery(self, *, after: Place | None, limit: int) -> Sequence[RecoveryRow]:
        """Lists escrows that people must look at, oldest activity first."""
        after = after or _EARLIEST
        return await self._all(RecoveryRow, "recovery", after.at, after.id, limit)

    async def recovery_count(self) -> int:
        """Counts escrows that people must look at."""
        (row,) = await self._rows("recovery_count")
        return int(row["number"])

    async def wallets(self, escrow_id: EscrowId) -> WalletRow | None:
        """Reads the wallets of one escrow."""
        partition = partition_of(escrow_id, partitions=self._partitions)
        return await self._one(WalletRow, "wallets", partition, escrow_id)

    async def open_turns(self, kind: SeatKind, *, after: tuple[EscrowId, Role] | None, limit: int) -> Sequence[TurnRow]:
        """Lists turns of one kind of seat that may be taken now."""
        return await self._all(TurnRow, "open_turns", kind.value, *(after or ("", "")), limit)

    async def due(self, now: Micros, *, after: DeadlineRow | None, limit: int) -> Sequence[DeadlineRow]:
        """Lists deadlines up to a moment, soonest first."""
        place = (after.due, after.escrow_id, after.kind) if after else (-1, "", "")
        return await self._all(DeadlineRow, "due", now, *place, limit)

    async def stopped(self, *, limit: int) -> Sequence[StoppedRow]:
        """Lists escrows that stand still."""
        return await self._all(StoppedRow, "stopped", limit)

    async def counts(self) -> Mapping[str, int]:
        """Adds the counts of all partitions."""
        return {row["mark"]: row["number"] for row in await self._rows("counts")}

    async def _one(self, kind: type[_R], query: str, *values: object) -> _R | None:
        found = await self._all(kind, query, *values)
        return found[0] if found else None

    async def _all(self, kind: type[_R], query: str, *values: object) -> Sequence[_R]:
        return [msgspec.convert(dict(row), kind) for row in await self._rows(query, *values)]

    async def _rows(self, query: str, *values: object) -> list[Any]:
        return await through_ended_connections(self._pool, lambda: self._fetch(query, *values))

    async def _fetch(self, query: str, *values: object) -> list[Any]:
        async with lent(self._pool, limits=self._limits) as connection:
            rows: list[Any] = await connection.fetch(QUERIES[query], *values, timeout=self._limits.read_timeout_s)
            return rows
