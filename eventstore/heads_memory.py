"""The memory twin of the signed heads."""

from collections.abc import Mapping, Sequence

from eventstore.api import Lease
from eventstore.heads import GrowingHead, SignedHead, duty_lease_name
from eventstore.memory import MemoryTables


class MemoryHeads:
    """A `HeadStore` in memory."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables

    async def add(self, new: GrowingHead, *, follows: int, lease: Lease) -> bool:
        """Adds a head; False when the lease is another's by now or another head is the last."""
        partition = new.head.partition
        row, heads = self._tables.duty_leases.get(duty_lease_name(partition)), self._tables.signed_heads[partition]
        if lease.name != duty_lease_name(partition) or row is None or row.expires_at is None:
            return False
        if (row.holder, row.fence) != (lease.holder, lease.fence):
            return False
        if follows != (heads[-1].head.position if heads else 0) or new.head.position <= follows:
            return False
        heads.append(new)
        return True

    async def newest(self) -> Mapping[int, GrowingHead]:
        """Reads the newest head of each partition that has one."""
        return {partition: heads[-1] for partition, heads in enumerate(self._tables.signed_heads) if heads}

    async def after(self, partition: int, *, position: int, limit: int) -> Sequence[SignedHead]:
        """Reads heads of one partition in order of position."""
        return [each.head for each in self._tables.signed_heads[partition] if each.head.position > position][:limit]

    async def covering(self, partition: int, positions: Sequence[int]) -> Sequence[SignedHead]:
        """Reads, for each position that is covered, the first head that covers it; each head once, in order."""
        heads = [each.head for each in self._tables.signed_heads[partition]]
        first = {next((head.position for head in heads if head.position >= at), 0) for at in positions}
        return [head for head in heads if head.position in first]

    async def keys(self) -> Sequence[str]:
        """Names every key that ever signed."""
        return sorted({each.head.key_id for heads in self._tables.signed_heads for each in heads})

    async def leaves(self, partition: int, *, after_position: int, limit: int) -> Sequence[bytes]:
        """Reads leaves in order of position."""
        return [event.leaf for event in self._tables.events[partition][after_position : after_position + limit]]
