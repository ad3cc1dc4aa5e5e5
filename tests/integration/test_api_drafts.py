"""Drafts through the doors: an assistant prepares, the arbiter reads, the parties see nothing of it."""

from typing import Any

import pytest

from domain.arbiters import DRAFTS_MAX
from eventstore.memory import MemoryTables
from eventstore.opening import memory_store
from service.audit import verify
from service.auth import Right
from service.settings import Arbiter
from tests.given import ARBITER, BUYER, VENDOR
from tests.worlds import World, house_world

ANN: dict[str, Any] = {"user": "ann", "rights": (Right.ASSISTANT,)}


async def prepared(world: World) -> tuple[str, str]:
    """A case with an assistant of its arbiter."""
    escrow_id = await world.funded()
    _, opened = await world.ask("POST", "/api/disputes/open", {"escrow_id": escrow_id, "claim": "An empty box."})
    assert (await world.ask("POST", "/api/arbiters/assistants", {"assistant": "ann"}, user=ARBITER))[0] == 200
    return escrow_id, opened["case_id"]


async def write(world: World, case_id: str, text: str, **who: Any) -> tuple[int, Any]:
    return await world.ask("POST", "/api/disputes/drafts", {"case_id": case_id, "draft": text}, **who)


async def test_what_an_assistant_prepares_the_arbiter_reads_and_the_parties_never() -> None:
    async with house_world() as world:
        escrow_id, case_id = await prepared(world)
        version = await world.version(escrow_id)
        assert (await write(world, case_id, "Ask for the receipt.", **ANN))[1]["number"] == 1
        assert (await write(world, case_id, "Done.", user=ARBITER))[1]["number"] == 2
        for who in ({"user": ARBITER}, ANN):
            _, shown = await world.ask("GET", f"/api/disputes/{case_id}/drafts", **who)
            assert [(each["by"], each["draft"]) for each in shown["drafts"]] == [
                ("ann", "Ask for the receipt."),
                (ARBITER, "Done."),
            ]
        for party in (BUYER, VENDOR):
            status, problem = await world.ask("GET", f"/api/disputes/{case_id}/drafts", user=party)
            assert (status, problem["code"]) == (404, "no_such_case")
        assert await world.version(escrow_id) == version, "nothing of it stands in what the parties read"
        assert (await verify(world.house.store.log)).findings == ()


@pytest.mark.parametrize("party", [BUYER, VENDOR])
async def test_a_party_who_assists_the_arbiter_sees_no_draft_of_the_own_case(party: str) -> None:
    async with house_world() as world:
        _, case_id = await prepared(world)
        assert (await write(world, case_id, "Ask for the receipt.", **ANN))[0] == 200
        assert (await world.ask("POST", "/api/arbiters/assistants", {"assistant": party}, user=ARBITER))[0] == 200
        who: dict[str, Any] = {"user": party, "rights": (Right.ASSISTANT,)}
        for status, problem in (
            await world.ask("GET", f"/api/disputes/{case_id}/drafts", **who),
            await write(world, case_id, "The buyer is right.", **who),
        ):
            assert (status, problem["code"]) == (404, "no_such_case")


async def test_a_draft_is_kept_once_and_sealed() -> None:
    async with house_world() as world:
        escrow_id, case_id = await prepared(world)
        first = await write(world, case_id, "Ask for the receipt.", key="k", **ANN)
        assert await write(world, case_id, "Ask for the receipt.", key="k", **ANN) == first
        assert (await write(world, case_id, "Another.", key="k", **ANN))[1]["code"] == "idempotency_key_reused"
        (draft,) = await world.house.store.log.read_stream(f"draft-{escrow_id}", after_version=0, limit=5)
        assert b"receipt" not in draft.body


async def test_assistants_write_so_many_drafts_together_and_leave_the_arbiter_room_for_its_own() -> None:
    async with house_world() as world:
        _, case_id = await prepared(world)
        ben: dict[str, Any] = {"user": "ben", "rights": (Right.ASSISTANT,)}
        assert (await world.ask("POST", "/api/arbiters/assistants", {"assistant": "ben"}, user=ARBITER))[0] == 200
        for number in range(DRAFTS_MAX):
            assert (await write(world, case_id, str(number), **ANN))[0] == 200
        for who in (ANN, ben):
            status, problem = await write(world, case_id, "one more", **who)
            assert (status, problem["code"], problem["facts"]) == (409, "drafts_full", {"drafts_max": DRAFTS_MAX})
        for number in range(DRAFTS_MAX):
            status, kept = await write(world, case_id, str(number), user=ARBITER)
            assert (status, kept["number"]) == (200, DRAFTS_MAX + number + 1)
        assert (await write(world, case_id, "one more", user=ARBITER))[1]["code"] == "drafts_full"


async def test_shredding_takes_drafts_with_it() -> None:
    tables = MemoryTables(partitions=4)
    async with house_world(store=memory_store(partitions=4, tables=tables)) as world:
        escrow_id, case_id = await prepared(world)
        assert (await write(world, case_id, "Ask for the receipt.", **ANN))[0] == 200
    del tables.keys[escrow_id]
    async with house_world(store=memory_store(partitions=4, tables=tables)) as world:
        _, shown = await world.ask("GET", f"/api/disputes/{case_id}/drafts", user=ARBITER)
        assert [(each["by"], each["draft"]) for each in shown["drafts"]] == [("ann", None)]


@pytest.mark.parametrize("path", ["x", "case_" + "0" * 32, "%00"])
async def test_where_there_is_no_case_there_are_no_drafts(path: str) -> None:
    async with house_world() as world:
        status, problem = await world.ask("GET", f"/api/disputes/{path}/drafts", user=ARBITER)
        assert (status, problem["code"]) == (404, "no_such_case")


async def test_a_look_at_the_list_is_a_sign_of_life_where_one_is_asked_for() -> None:
    pool = tuple(Arbiter(user_id=user) for user in (ARBITER,))
    async with house_world(arbiters=pool, arbiter_ready_s=3_600) as world:
        for _ in range(3):
            assert (await world.ask("GET", "/api/disputes/arbiter", user=ARBITER))[0] == 200
            assert (await world.ask("GET", "/api/disputes/arbiter", user=BUYER))[0] == 200
        (seen,) = await world.house.store.log.read_stream("arbiters", after_version=0, limit=5)
        assert seen.type == "arbiter_seen"
        await world.create()
