"""Wrapped keys in memory."""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from eventstore.grouped import partition_of
from eventstore.keys import SHREDDING_EVENT, Rewrapped, StoredKey, WrappedKey
from eventstore.memory import MemoryTables


class MemoryKeys:
    """A `KeyStore` in memory."""

    def __init__(self, tables: MemoryTables) -> None:
        self._keys, self._tables, self.partitions = tables.keys, tables, tables.partitions

    async def create(self, stream_id: str, key: WrappedKey) -> None:
        """Stores a key unless the stream has one."""
        self._keys.setdefault(stream_id, key)

    async def read(self, stream_id: str) -> WrappedKey | None:
        """Reads a stream's key."""
        return self._keys.get(stream_id)

    async def wrapped_by(self) -> Mapping[str, int]:
        """Counts the keys that are not shredded by the `ENCRYPTION_KEY` that wraps them."""
        return Counter(key.wrapping_key_id for key in self._keys.values() if key.wrapped is not None)

    async def wrapped_otherwise(
        self, wrapping_key_id: str, *, partition: int, after: str, limit: int
    ) -> Sequence[StoredKey]:
        """Reads the next keys of a partition, by stream, that another `ENCRYPTION_KEY` wraps."""
        found = [
            StoredKey(partition=partition, stream_id=stream_id, key=key)
            for stream_id, key in sorted(self._keys.items())
            if stream_id > after and partition_of(stream_id, partitions=self.partitions) == partition
        ]
        return [each for each in found if each.key.wrapped and each.key.wrapping_key_id != wrapping_key_id][:limit]

    async def rewrap(self, changes: Sequence[Rewrapped]) -> int:
        """Replaces keys of one partition that are still as they were read; returns how many."""
        same = [change for change in changes if self._keys.get(change.read.stream_id) == change.read.key]
        self._keys.update((change.read.stream_id, change.key) for change in same)
        return len(same)

    async def shred(self) -> Sequence[str]:
        """Blanks every key whose stream has a `key_shredded` event; returns those that were left."""
        gone = [stream_id for stream_id, key in self._keys.items() if key.wrapped and self._is_shredded(stream_id)]
        for stream_id in gone:
            self._keys[stream_id] = msgspec.structs.replace(self._keys[stream_id], wrapped=None)
        return gone

    def _is_shredded(self, stream_id: str) -> bool:
        return any(event.type == SHREDDING_EVENT for event in self._tables.streams.get(stream_id, ()))
