"""Fenced leases as rows on Postgres, by the database's clock."""

from collections.abc import Mapping
from enum import StrEnum

from eventstore.api import Lease, LeaseRow
from eventstore.grouped import LogLimits, partition_of, stream_of_seat
from eventstore.postgres import Pool, fetch, read


class LeaseTable(StrEnum):
    """Which table: the beginning of its queries' names."""

    SEATS = "seat"
    SLOTS = "slot"
    DUTIES = "duty"


class PostgresLeases:
    """`Leases` on one table. Every call is one statement; each raises `LogUnavailable` without an answer.

    A call that got no answer may have had its effect: acquire again (one's own lease comes back at once, with a
    higher fence).
    """

    def __init__(self, pool: Pool, *, table: LeaseTable, partitions: int, limits: LogLimits) -> None:
        self._pool, self._table, self._partitions, self._limits = pool, table, partitions, limits

    async def acquire(self, name: str, *, holder: str, seconds: float, detail: str = "") -> Lease | None:
        """Takes a free, expired or own lease with a higher fence; None while another holder has it."""
        rows = await fetch(
            self._pool,
            f"{self._table}_acquire",
            *(self._partition(name), name, holder, seconds, detail),
            limits=self._limits,
        )
        return Lease(name=name, holder=holder, fence=rows[0]["fence"], seconds=seconds) if rows else None

    async def renew(self, lease: Lease) -> bool:
        """Prolongs a lease; False when somebody took it or it was released."""
        place = (self._partition(lease.name), lease.name, lease.holder, lease.fence)
        return bool(await fetch(self._pool, f"{self._table}_renew", *place, lease.seconds, limits=self._limits))

    async def release(self, lease: Lease) -> None:
        """Gives a lease back; its fence stays."""
        place = (self._partition(lease.name), lease.name, lease.holder, lease.fence)
        await fetch(self._pool, f"{self._table}_release", *place, limits=self._limits)

    async def held(self) -> Mapping[str, LeaseRow]:
        """Reads all rows, held or expired, by name."""
        rows = await read(self._pool, f"{self._table}_held", limits=self._limits)
        return {
            row["name"]: LeaseRow(
                holder=row["holder"],
                fence=row["fence"],
                expired=row["expired"],
                released=row["released"],
                detail=row["detail"],
            )
            for row in rows
        }

    def _partition(self, name: str) -> int:
        if self._table is LeaseTable.DUTIES:
            return int(name.rpartition("/")[2])
        key = stream_of_seat(name) if self._table is LeaseTable.SEATS else name
        return partition_of(key, partitions=self._partitions)
