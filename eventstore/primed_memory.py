"""The memory twin of the primed wallets."""

from collections.abc import Mapping

import msgspec

from eventstore.memory import MemoryTables
from eventstore.primed import PrimedRow


class MemoryPrimed:
    """`PrimedRows` in memory."""

    def __init__(self, tables: MemoryTables) -> None:
        self._free: dict[str, PrimedRow] = tables.beside.setdefault("primed_wallets", {})
        self._noted: set[str] = tables.beside.setdefault("primed_names", set())

    async def note(self, row: PrimedRow) -> bool:
        """Notes a wallet that is about to be made."""
        if row.slot in self._free or row.name in self._noted:
            return False
        self._noted.add(row.name)
        self._free[row.slot] = msgspec.structs.replace(row, address=None, fence=0)
        return True

    async def opened(self, row: PrimedRow) -> bool:
        """Notes the address and the lease of a free wallet."""
        if not self._is_free(row):
            return False
        self._free[row.slot] = msgspec.structs.replace(self._free[row.slot], address=row.address, fence=row.fence)
        return True

    async def free(self) -> Mapping[str, PrimedRow]:
        """Reads every free wallet, by slot."""
        return dict(self._free)

    async def free_of(self, slot: str) -> PrimedRow | None:
        """Reads the free wallet of one slot."""
        return self._free.get(slot)

    async def claim(self, row: PrimedRow, *, seat: str) -> bool:
        """Gives a free wallet to a seat."""
        return self._is_as_read(row) and self._free.pop(row.slot) is not None

    async def drop(self, row: PrimedRow) -> bool:
        """Forgets a wallet that nobody claimed."""
        if not self._is_as_read(row):
            return False
        del self._free[row.slot]
        self._noted.discard(row.name)
        return True

    def _is_free(self, row: PrimedRow) -> bool:
        found = self._free.get(row.slot)
        return found is not None and found.name == row.name

    def _is_as_read(self, row: PrimedRow) -> bool:
        return self._is_free(row) and self._free[row.slot].fence == row.fence
