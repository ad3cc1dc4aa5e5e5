"""The memory twin of the evidence beside the log."""

from collections.abc import Sequence

import msgspec

from domain.ids import Cid, EscrowId
from eventstore.evidence import EvidenceUnavailable, checked, named
from eventstore.keys import SHREDDING_EVENT
from eventstore.memory import MemoryTables

ADDING_EVENT = "evidence_added"
"""Type of the event that names evidence."""


class MemoryEvidence:
    """`EvidenceBlocks` in memory."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables
        self.kept: dict[tuple[EscrowId, Cid], tuple[bytes, int]] = tables.beside.setdefault("evidence_blocks", {})
        """Bytes, and when they were added, by escrow and name."""

    async def add(self, escrow_id: EscrowId, sealed: bytes) -> Cid:
        """Keeps bytes."""
        cid = await named(sealed)
        self.kept.setdefault((escrow_id, cid), (sealed, self._tables.clock()))
        return cid

    async def get(self, escrow_id: EscrowId, cid: Cid) -> bytes:
        """Returns bytes, checked by their name."""
        if (escrow_id, cid) not in self.kept:
            raise EvidenceUnavailable("it is not here")
        return await checked(self.kept[escrow_id, cid][0], cid)

    async def sweep(self, *, older_than_s: float) -> Sequence[Cid]:
        """Removes what no event names."""
        before = self._tables.clock() - round(older_than_s * 1_000_000)
        old = [place for place, (_, added_at) in self.kept.items() if added_at <= before]
        gone = [place for place in old if not self._is_named(*place)]
        for place in gone:
            del self.kept[place]
        return [cid for _, cid in gone]

    def _is_named(self, escrow_id: EscrowId, cid: Cid) -> bool:
        events = self._tables.streams.get(escrow_id, ())
        if any(event.type == SHREDDING_EVENT for event in events):
            return False
        return any(msgspec.json.decode(event.body)["cid"] == cid for event in events if event.type == ADDING_EVENT)
