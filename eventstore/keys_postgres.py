"""Wrapped keys on Postgres."""

from collections.abc import Mapping, Sequence

from eventstore.grouped import LogLimits, partition_of
from eventstore.keys import Rewrapped, StoredKey, WrappedKey
from eventstore.postgres import Pool, Row, fetch, read


class PostgresKeys:
    """A `KeyStore` on the table `sealed_keys`; every method raises `LogUnavailable`."""

    def __init__(self, pool: Pool, *, partitions: int, limits: LogLimits) -> None:
        self._pool, self.partitions, self._limits = pool, partitions, limits

    async def create(self, stream_id: str, key: WrappedKey) -> None:
        """Stores a key unless the stream has one."""
        place = (partition_of(stream_id, partitions=self.partitions), stream_id)
        await fetch(self._pool, "key_create", *place, key.wrapping_key_id, key.wrapped, limits=self._limits)

    async def read(self, stream_id: str) -> WrappedKey | None:
        """Reads a stream's key."""
        place = (partition_of(stream_id, partitions=self.partitions), stream_id)
        rows = await read(self._pool, "key_read", *place, limits=self._limits)
        return WrappedKey(**rows[0]) if rows else None

    async def wrapped_by(self) -> Mapping[str, int]:
        """Counts the keys that are not shredded by the `ENCRYPTION_KEY` that wraps them."""
        rows = await read(self._pool, "keys_wrapped_by", limits=self._limits)
        return {row["wrapping_key_id"]: row["keys"] for row in rows}

    async def wrapped_otherwise(
        self, wrapping_key_id: str, *, partition: int, after: str, limit: int
    ) -> Sequence[StoredKey]:
        """Reads the next keys of a partition, by stream, that another `ENCRYPTION_KEY` wraps."""
        rows = await read(
            self._pool, "keys_wrapped_otherwise", partition, after, wrapping_key_id, limit, limits=self._limits
        )
        return [_stored(row, partition=partition) for row in rows]

    async def rewrap(self, changes: Sequence[Rewrapped]) -> int:
        """Replaces keys of one partition that are still as they were read, in one statement; returns how many."""
        if not changes:
            return 0
        (partition,) = {change.read.partition for change in changes}
        columns = (
            [change.read.stream_id for change in changes],
            [change.read.key.wrapped for change in changes],
            [change.key.wrapped for change in changes],
            [change.key.wrapping_key_id for change in changes],
        )
        return len(await fetch(self._pool, "keys_rewrap", partition, *columns, limits=self._limits))

    async def shred(self) -> Sequence[str]:
        """Blanks every key whose stream has a `key_shredded` event, in one statement; returns those that were left."""
        return [row["stream_id"] for row in await fetch(self._pool, "keys_shred", limits=self._limits)]


def _stored(row: Row, *, partition: int) -> StoredKey:
    key = WrappedKey(wrapping_key_id=row["wrapping_key_id"], wrapped=row["wrapped"])
    return StoredKey(partition=partition, stream_id=row["stream_id"], key=key)
