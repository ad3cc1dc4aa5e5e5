"""Evidence in IPFS through the doors: a node that is down, slow or lies changes nothing, and is never believed."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from actors.ipfs import EvidenceMoved, IpfsLimits
from domain.ids import Cid, EscrowId
from eventstore.cid import cid_of
from eventstore.evidence import EvidenceUnavailable, EvidenceWrong
from eventstore.memory import MemoryTables
from eventstore.opening import Store, memory_store
from tests.evidence_world import disputed, fetch, lay
from tests.ipfs_server import PlayedNode, connected, played_node
from tests.pictures import jpeg, png
from tests.worlds import house_world

ESCROW = EscrowId("esc_1")
SHORT = IpfsLimits(connect_s=5.0, call_s=1.0, silent_s=0.5, file_bytes_max=1 << 20)
ADDING = {
    "failing": (503, "evidence_unavailable"),
    "elsewhere": (503, "evidence_unavailable"),
    "other_name": (502, "evidence_wrong"),
    "garbage": (502, "evidence_wrong"),
    "nothing": (502, "evidence_wrong"),
    "other_bytes": (502, "evidence_wrong"),
    "cut": (502, "evidence_wrong"),
    "endless": (502, "evidence_wrong"),
}


@pytest.fixture
async def node() -> AsyncIterator[tuple[PlayedNode, str]]:
    async with played_node() as played:
        yield played


async def test_a_picture_goes_to_the_node_pinned_and_sealed_and_comes_back(node: tuple[PlayedNode, str]) -> None:
    played, url = node
    async with connected(url) as store, house_world(evidence=store) as world:
        _, case_id = await disputed(world)
        status, added = await lay(world, case_id)
        assert status == 200, added
        assert played.pinned == {added["ipfs_hash"]} and played.calls == ["add", "pin/add", "cat"]
        answer, content = await fetch(world, case_id, added["photo_id"])
        assert answer.status == 200
        assert content not in played.kept[added["ipfs_hash"]]
        assert cid_of(played.kept[added["ipfs_hash"]]) == added["ipfs_hash"]


@pytest.mark.parametrize("fault", ADDING)
async def test_what_a_faulty_node_takes_is_in_no_case(node: tuple[PlayedNode, str], fault: str) -> None:
    played, url = node
    async with connected(url) as store, house_world(evidence=store) as world:
        escrow_id, case_id = await disputed(world)
        version = await world.version(escrow_id)
        played.fault = fault
        status, problem = await lay(world, case_id, key="k")
        assert (status, problem["code"]) == ADDING[fault]
        assert await world.version(escrow_id) == version
        if fault in ("other_name", "garbage", "nothing"):
            assert not played.pinned
        played.fault = ""
        assert (await lay(world, case_id, key="k"))[0] == 200  # the same request goes through once the node is well


@pytest.mark.parametrize("fault", ["slow", "stalls"])
async def test_a_slow_node_is_given_up(node: tuple[PlayedNode, str], fault: str) -> None:
    played, url = node
    played.kept[cid_of(b"there")] = b"there"
    played.fault = fault
    async with connected(url, SHORT) as store:
        with pytest.raises(EvidenceUnavailable):
            await store.get(ESCROW, cid_of(b"there"))
        if fault == "slow":
            with pytest.raises(EvidenceUnavailable):
                await store.add(ESCROW, b"there")


async def test_a_node_that_is_down_is_said_to_be_and_shows_pictures_again_when_it_is_back() -> None:
    tables = MemoryTables(partitions=4)
    async with (
        played_node() as (played, url),
        connected(url) as store,
        house_world(store=_log(tables), evidence=store) as world,
    ):
        _, case_id = await disputed(world)
        _, added = await lay(world, case_id)
    async with connected(url) as store, house_world(store=_log(tables), evidence=store) as world:
        answer, body = await fetch(world, case_id, added["photo_id"])
        assert (answer.status, msgspec.json.decode(body)["code"]) == (503, "evidence_unavailable")
        assert answer.headers["Retry-After"]
        assert (await lay(world, case_id, png()))[1]["code"] == "evidence_unavailable"
        assert (await world.ask("GET", f"/api/disputes/{case_id}"))[1]["photos"][0]["photo_id"] == added["photo_id"]
    async with played_node() as (again, url), connected(url) as store:
        again.kept = played.kept
        async with house_world(store=_log(tables), evidence=store) as world:
            assert (await fetch(world, case_id, added["photo_id"]))[0].status == 200


def _log(tables: MemoryTables) -> Store:
    return memory_store(partitions=4, tables=tables)


async def test_a_node_that_lies_about_a_picture_shows_none(node: tuple[PlayedNode, str]) -> None:
    played, url = node
    async with connected(url) as store, house_world(evidence=store) as world:
        escrow_id, case_id = await disputed(world)
        _, added = await lay(world, case_id)
        version = await world.version(escrow_id)
        for fault in ("other_bytes", "cut", "endless"):
            played.fault = fault
            answer, body = await fetch(world, case_id, added["photo_id"])
            assert (answer.status, msgspec.json.decode(body)["code"]) == (502, "evidence_wrong"), fault
        assert await world.version(escrow_id) == version


async def test_what_was_kept_beside_the_log_is_shown_after_the_change_to_a_node(node: tuple[PlayedNode, str]) -> None:
    played, url = node
    tables = MemoryTables(partitions=4)
    async with house_world(store=_log(tables)) as world:
        _, case_id = await disputed(world)
        _, before = await lay(world, case_id)
    log = _log(tables)
    async with (
        connected(url) as ipfs,
        house_world(store=log, evidence=EvidenceMoved(ipfs, before=log.evidence)) as world,
    ):
        _, after = await lay(world, case_id, jpeg(seed=5))
        assert set(played.kept) == {after["ipfs_hash"]}
        for added in (before, after):
            assert (await fetch(world, case_id, added["photo_id"]))[0].status == 200


async def test_a_name_that_is_none_is_asked_of_no_node(node: tuple[PlayedNode, str]) -> None:
    played, url = node
    async with connected(url) as store:
        for name in ("", "/ipns/example", "b" * 58, "b" * 60, "../" + "b" * 56):
            with pytest.raises(EvidenceWrong):
                await store.get(ESCROW, Cid(name))
    assert played.calls == []


async def test_calls_side_by_side_are_answered_each_by_its_own(node: tuple[PlayedNode, str]) -> None:
    _, url = node
    files = [bytes([number]) * 1_000 for number in range(8)]
    async with connected(url) as store:
        names = await asyncio.gather(*(store.add(ESCROW, data) for data in files))
        assert await asyncio.gather(*(store.get(ESCROW, name) for name in names)) == files
