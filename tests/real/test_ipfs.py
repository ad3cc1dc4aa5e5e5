"""The contract of evidence stores on a real IPFS node, and what becomes of evidence when that is stopped or killed.

By `make soak` alone: the node has to be installed by npm, and whether a registry answers is no claim of this code.
"""

import os
import random
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from actors.ipfs import IpfsLimits
from eventstore.cid import cid_of
from eventstore.evidence import EvidenceStore, EvidenceUnavailable, EvidenceWrong
from tests.contract.test_evidence_store import (  # noqa: F401  # asked again here, of the store below
    ONE,
    test_adding_again_changes_nothing,
    test_bytes_come_back_by_the_name_of_their_content,
    test_several_pictures_of_several_escrows_lie_side_by_side,
    test_what_was_never_added_is_not_there,
)
from tests.evidence_world import disputed, fetch, lay
from tests.ipfs_server import connected
from tests.real.ipfs_peer import real_node
from tests.soak import SECONDS
from tests.unit.test_cid import VECTORS
from tests.worlds import house_world

pytestmark = [
    pytest.mark.soak,
    pytest.mark.xdist_group("real"),
    pytest.mark.skipif(not SECONDS, reason="`make soak` installs a real IPFS node"),
]
LARGE = IpfsLimits(connect_s=60.0, call_s=120.0, silent_s=60.0, file_bytes_max=64 << 20)
SHORT = IpfsLimits(connect_s=5.0, call_s=3.0, silent_s=2.0)


@pytest.fixture
async def evidence(tmp_path: Path) -> AsyncIterator[EvidenceStore]:
    async with real_node(tmp_path / "repo") as (_, url), connected(url) as store:
        yield store


async def test_a_real_node_gives_the_names_that_are_written_down(tmp_path: Path) -> None:
    async with real_node(tmp_path / "repo") as (_, url), connected(url, LARGE) as store:
        for size, name in VECTORS.items():
            data = random.Random(size).randbytes(size)
            assert await store.add(ONE, data) == name
            assert await store.get(ONE, cid_of(data)) == data


async def test_what_is_added_is_pinned(tmp_path: Path) -> None:
    async with real_node(tmp_path / "repo") as (_, url), connected(url) as store, aiohttp.ClientSession() as session:
        cid = await store.add(ONE, random.Random(1).randbytes(300_000))
        async with session.post(f"{url}/api/v0/pin/ls", params={"arg": cid, "cid-base": "base32"}) as answer:
            assert cid in await answer.text()
        async with session.post(f"{url}/api/v0/repo/gc") as answer:
            assert answer.status == 200
            await answer.read()
        assert cid_of(await store.get(ONE, cid)) == cid


async def test_a_picture_outlives_its_node_being_stopped_and_killed(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    async with (
        real_node(repo) as (process, url),
        connected(url, SHORT) as store,
        house_world(evidence=store) as world,
    ):
        _, case_id = await disputed(world)
        status, added = await lay(world, case_id, key="k")
        while status == 503:  # a machine that stands still
            status, added = await lay(world, case_id, key="k")
        assert status == 200
        os.kill(process.pid, signal.SIGSTOP)
        try:
            assert (await fetch(world, case_id, added["photo_id"]))[0].status == 503
        finally:
            os.kill(process.pid, signal.SIGCONT)
        process.kill()
        await process.wait()
        assert (await fetch(world, case_id, added["photo_id"]))[0].status == 503
        with pytest.raises(EvidenceUnavailable):
            await store.add(ONE, b"nobody is there")
    shutil.rmtree(repo / "repo.lock")  # what a killed node leaves; whoever starts it again has to see to that
    async with real_node(repo) as (_, url), connected(url, LARGE) as store:
        assert cid_of(await store.get(ONE, added["ipfs_hash"])) == added["ipfs_hash"]


async def test_bytes_that_were_changed_on_the_nodes_disk_are_noticed(tmp_path: Path) -> None:
    repo, data = tmp_path / "repo", random.Random(2).randbytes(200_000)
    async with real_node(repo) as (_, url), connected(url) as store:
        cid = await store.add(ONE, data)
        changed = [file for file in (repo / "blocks").rglob("*.data") if file.read_bytes() == data]
        assert len(changed) == 1
        changed[0].write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises((EvidenceWrong, EvidenceUnavailable)):
            await store.get(ONE, cid)
