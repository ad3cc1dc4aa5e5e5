"""Where sealed evidence lies: kept under the name of its content, so that whoever hands it out is checked by it."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from domain.ids import Cid, EscrowId
from eventstore.api import LogUnavailable
from eventstore.cid import chunks_of, cid_of
from eventstore.grouped import LogLimits, partition_of
from eventstore.postgres import Pool, fetch, read


class EvidenceUnavailable(Exception):
    """The store does not answer in time, or has not got what is asked of it; nothing was changed."""


class EvidenceWrong(Exception):
    """The store names or hands out other bytes than those it was given; nothing of them is used."""


class EvidenceStore(Protocol):
    """Keeps sealed bytes. Every method raises `EvidenceUnavailable`, and may be repeated."""

    async def add(self, escrow_id: EscrowId, sealed: bytes) -> Cid:
        """Keeps bytes for as long as the escrow's events name them, and returns their name.

        Raises `EvidenceWrong` when the store names them otherwise.
        """

    async def get(self, escrow_id: EscrowId, cid: Cid) -> bytes:
        """Returns the bytes of this name; raises `EvidenceWrong` for others."""


class EvidenceBlocks(EvidenceStore, Protocol):
    """The store beside the log, which knows which of its bytes the log names."""

    async def sweep(self, *, older_than_s: float) -> Sequence[Cid]:
        """Removes what was added so long ago and is named by no event, or whose key was shredded; returns the names."""


async def named(data: bytes) -> Cid:
    """Names bytes on a thread: hashing ten megabytes takes longer than anybody should wait for the event loop."""
    return await asyncio.to_thread(cid_of, data)


async def checked(data: bytes, cid: Cid) -> bytes:
    """Returns the bytes if they bear this name; raises `EvidenceWrong`."""
    if await named(data) != cid:
        raise EvidenceWrong("other bytes than their name says")
    return data


class PostgresEvidence:
    """`EvidenceBlocks` on the table `evidence_blocks`: one row a leaf, in the partition of the escrow."""

    def __init__(self, pool: Pool, *, partitions: int, limits: LogLimits) -> None:
        self._pool, self._partitions, self._limits = pool, partitions, limits

    async def add(self, escrow_id: EscrowId, sealed: bytes) -> Cid:
        """Writes all leaves in one statement; those that are there stay as they are."""
        cid, chunks = await named(sealed), list(chunks_of(sealed))
        place = (self._partition(escrow_id), escrow_id, cid)
        try:
            await fetch(self._pool, "evidence_add", *place, list(range(len(chunks))), chunks, limits=self._limits)
        except LogUnavailable as away:
            raise EvidenceUnavailable(str(away)) from None
        return cid

    async def get(self, escrow_id: EscrowId, cid: Cid) -> bytes:
        """Reads the leaves in their order and checks them by their name."""
        try:
            rows = await read(
                self._pool, "evidence_get", self._partition(escrow_id), escrow_id, cid, limits=self._limits
            )
        except LogUnavailable as away:
            raise EvidenceUnavailable(str(away)) from None
        if not rows:
            raise EvidenceUnavailable("it is not here")
        return await checked(b"".join(row["data"] for row in rows), cid)

    async def sweep(self, *, older_than_s: float) -> Sequence[Cid]:
        """Removes what no event names, partition by partition."""
        gone: list[Cid] = []
        try:
            for partition in range(self._partitions):
                rows = await fetch(self._pool, "evidence_sweep", partition, older_than_s, limits=self._limits)
                gone += dict.fromkeys(Cid(row["cid"]) for row in rows)
        except LogUnavailable as away:
            raise EvidenceUnavailable(str(away)) from None
        return gone

    def _partition(self, escrow_id: EscrowId) -> int:
        return partition_of(escrow_id, partitions=self._partitions)
