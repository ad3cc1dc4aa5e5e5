"""Wallets that are made before they are needed: rows that say whose they are, on Postgres."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from eventstore.grouped import LogLimits, partition_of
from eventstore.postgres import Pool, fetch, read


class PrimedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet that nobody claimed yet; `sealed` is its password."""

    slot: str
    name: str
    sealed: str
    address: str | None = None
    """None until it was made."""
    fence: int = 0
    """The slot lease under which it was last known to be open in the slot."""

    def __repr__(self) -> str:
        return f"PrimedRow({self.slot}, {self.name}, …)"


class PrimedRows(Protocol):
    """At most one free wallet a slot. Every method raises `LogUnavailable` without an answer, and may be repeated."""

    async def note(self, row: PrimedRow) -> bool:
        """Notes a wallet that is about to be made; False when the slot has a free one."""

    async def opened(self, row: PrimedRow) -> bool:
        """Notes the address and the lease of a free wallet that is open in its slot; False when it is not free."""

    async def free(self) -> Mapping[str, PrimedRow]:
        """Reads every free wallet, by slot."""

    async def free_of(self, slot: str) -> PrimedRow | None:
        """Reads the free wallet of one slot."""

    async def claim(self, row: PrimedRow, *, seat: str) -> bool:
        """Gives a free wallet to a seat, for ever; False when it is not free as this row says.

        A wallet that was opened under another lease since is in other hands: who lost the lease gets it no more.
        """

    async def drop(self, row: PrimedRow) -> bool:
        """Forgets a wallet that is free as this row says; False when it is not."""


class PostgresPrimed:
    """`PrimedRows` on the table `primed_wallets`."""

    def __init__(self, pool: Pool, *, partitions: int, limits: LogLimits) -> None:
        self._pool, self._partitions, self._limits = pool, partitions, limits

    async def note(self, row: PrimedRow) -> bool:
        """Notes a wallet that is about to be made."""
        return await self._change("primed_note", row, row.sealed)

    async def opened(self, row: PrimedRow) -> bool:
        """Notes the address and the lease of a free wallet."""
        return await self._change("primed_opened", row, row.address, row.fence)

    async def free(self) -> Mapping[str, PrimedRow]:
        """Reads every free wallet, by slot."""
        rows = await read(self._pool, "primed_free", limits=self._limits)
        return {row["slot"]: PrimedRow(**row) for row in rows}

    async def free_of(self, slot: str) -> PrimedRow | None:
        """Reads the free wallet of one slot."""
        rows = await read(self._pool, "primed_free_of", self._partition(slot), slot, limits=self._limits)
        return PrimedRow(**rows[0]) if rows else None

    async def claim(self, row: PrimedRow, *, seat: str) -> bool:
        """Gives a free wallet to a seat."""
        return await self._change("primed_claim", row, row.fence, seat)

    async def drop(self, row: PrimedRow) -> bool:
        """Forgets a wallet that nobody claimed."""
        return await self._change("primed_drop", row, row.fence)

    async def _change(self, query: str, row: PrimedRow, *values: object) -> bool:
        place = (self._partition(row.slot), row.slot, row.name)
        return bool(await fetch(self._pool, query, *place, *values, limits=self._limits))

    def _partition(self, slot: str) -> int:
        return partition_of(slot, partitions=self._partitions)
