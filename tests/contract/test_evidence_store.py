"""What every store of evidence promises: in memory, beside the log with 1 and with 4 partitions, and in IPFS."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from domain.ids import Cid, EscrowId
from eventstore.cid import CHUNK_BYTES, cid_of
from eventstore.evidence import EvidenceStore, EvidenceUnavailable
from tests.ipfs_server import connected, played_node
from tests.store_worlds import MemoryWorld, PostgresWorld

ONE, OTHER = EscrowId("esc_one"), EscrowId("esc_other")


def sealed_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.fixture(params=["memory-1", "memory-4", "postgres-1", "postgres-4", "ipfs"])
async def evidence(request: pytest.FixtureRequest) -> AsyncIterator[EvidenceStore]:
    backend, _, partitions = request.param.partition("-")
    if backend == "ipfs":
        async with played_node() as (_, url), connected(url) as store:
            yield store
        return
    world = (
        MemoryWorld(partitions=int(partitions))
        if backend == "memory"
        else PostgresWorld(request.getfixturevalue("postgres_dsn"), partitions=int(partitions))
    )
    yield (await world.open()).evidence
    await world.aclose()


@pytest.mark.parametrize("size", [1, 29, CHUNK_BYTES, CHUNK_BYTES + 1, 3_000_000])
async def test_bytes_come_back_by_the_name_of_their_content(evidence: EvidenceStore, size: int) -> None:
    data = sealed_bytes(size)
    cid = await evidence.add(ONE, data)
    assert cid == cid_of(data)
    assert await evidence.get(ONE, cid) == data


async def test_adding_again_changes_nothing(evidence: EvidenceStore) -> None:
    data = sealed_bytes(CHUNK_BYTES * 2)
    names = {await evidence.add(ONE, data), *await asyncio.gather(*(evidence.add(ONE, data) for _ in range(3)))}
    assert names == {cid_of(data)}
    assert await evidence.get(ONE, cid_of(data)) == data


async def test_what_was_never_added_is_not_there(evidence: EvidenceStore) -> None:
    await evidence.add(ONE, b"something else")
    with pytest.raises(EvidenceUnavailable):
        await evidence.get(ONE, cid_of(b"never added"))


async def test_several_pictures_of_several_escrows_lie_side_by_side(evidence: EvidenceStore) -> None:
    files = {(escrow, number): sealed_bytes(number) for escrow in (ONE, OTHER) for number in (100, 300_000)}
    names: dict[tuple[EscrowId, int], Cid] = {}
    for (escrow, number), data in files.items():
        names[escrow, number] = await evidence.add(escrow, data)
    for (escrow, number), cid in names.items():
        assert await evidence.get(escrow, cid) == files[escrow, number]
