"""Signed heads on Postgres."""

from collections.abc import Mapping, Sequence

from eventstore.api import Lease
from eventstore.grouped import LogLimits
from eventstore.heads import GrowingHead, SignedHead
from eventstore.merkle import Frontier
from eventstore.postgres import Pool, Row, fetch, read


class PostgresHeads:
    """A `HeadStore` on the tables `signed_heads` and `events`."""

    def __init__(self, pool: Pool, *, limits: LogLimits) -> None:
        self._pool, self._limits = pool, limits

    async def add(self, new: GrowingHead, *, follows: int, lease: Lease) -> bool:
        """Adds a head, one statement; False when the lease is another's by now or another head is the last."""
        head = new.head
        content = (head.partition, head.position, head.chain, head.merkle_root, head.signed_at, head.key_id)
        proof = (head.signature, new.frontier.packed(), lease.name, lease.holder, lease.fence, follows)
        return bool(await fetch(self._pool, "head_add", *content, *proof, limits=self._limits))

    async def newest(self) -> Mapping[int, GrowingHead]:
        """Reads the newest head of each partition that has one; a frontier that is none is read as empty."""
        rows = await read(self._pool, "heads_newest", limits=self._limits)
        return {row["partition"]: _growing(row) for row in rows}

    async def after(self, partition: int, *, position: int, limit: int) -> Sequence[SignedHead]:
        """Reads heads of one partition in order of position; at most `limit` and `read_page_max`."""
        page = min(limit, self._limits.read_page_max)
        rows = await read(self._pool, "heads_after", partition, position, page, limits=self._limits)
        return [SignedHead(**row) for row in rows]

    async def covering(self, partition: int, positions: Sequence[int]) -> Sequence[SignedHead]:
        """Reads, for each position that is covered, the first head that covers it; each head once, in order."""
        rows = await read(self._pool, "heads_covering", partition, list(positions), limits=self._limits)
        return sorted((SignedHead(**row) for row in rows), key=lambda head: head.position)

    async def keys(self) -> Sequence[str]:
        """Names every key that ever signed."""
        return [row["key_id"] for row in await read(self._pool, "head_keys", limits=self._limits)]

    async def leaves(self, partition: int, *, after_position: int, limit: int) -> Sequence[bytes]:
        """Reads leaves in order of position; at most `limit` and `read_page_max`."""
        page = min(limit, self._limits.read_page_max)
        rows = await read(self._pool, "read_leaves", partition, after_position, page, limits=self._limits)
        return [row["leaf"] for row in rows]


def _growing(row: Row) -> GrowingHead:
    fields = dict(row)
    packed = fields.pop("frontier")
    try:
        frontier = Frontier.unpacked(packed, size=fields["position"])
    except ValueError:
        frontier = Frontier()  # leads to no root that was signed: whoever uses it finds out
    return GrowingHead(head=SignedHead(**fields), frontier=frontier)
