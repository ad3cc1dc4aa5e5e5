"""What arbiters, parties and administrators read of disputes and recovery items, through the doors."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from domain import commands as c
from domain.chain import ChainView
from domain.ids import Micros
from domain.roles import Role
from domain.terms import Policy
from eventstore.memory import MemoryTables
from eventstore.opening import memory_store, open_store
from schemas.cursor import decode_cursor, encode_cursor
from service.auth import Right
from tests.given import AMOUNT, ARBITER, BUYER, HOUR, VENDOR
from tests.patience import PATIENT
from tests.worlds import PAYOUT_HASH, World, deposit, house_world

CLAIM = "An empty box."


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    store = None
    if request.param == "postgres":
        dsn = request.getfixturevalue("postgres_dsn")
        store = await open_store(dsn=dsn, encryption_key=bytes(32), partitions=4, node_id="n", limits=PATIENT)
    async with house_world(store=store) as world:
        yield world


async def _disputed(world: World) -> tuple[str, str]:
    escrow_id = await world.funded()
    _, opened = await world.ask("POST", "/api/disputes/open", {"escrow_id": escrow_id, "claim": CLAIM})
    return escrow_id, opened["case_id"]


async def _decide(world: World, case_id: str) -> None:
    decision = {"case_id": case_id, "decision": "refund", "reason": "It was empty."}
    assert (await world.ask("POST", "/api/disputes/resolve", decision, user=ARBITER))[0] == 200


# -- cases -----------------------------------------------------------------------------------------------------


async def test_an_arbiter_finds_its_cases_until_they_are_resolved_newest_first(world: World) -> None:
    (first, first_case), (_, second_case) = await _disputed(world), await _disputed(world)
    _, page = await world.ask("GET", "/api/disputes/arbiter", user=ARBITER)
    assert [each["case_id"] for each in page["cases"]] == [second_case, first_case]
    assert {each["status"] for each in page["cases"]} == {"open"}
    await _decide(world, first_case)
    _, page = await world.ask("GET", "/api/disputes/arbiter", user=ARBITER)
    assert [each["status"] for each in page["cases"]] == ["open", "decided"]
    await world.sign(first, proposer=Role.BUYER, cosigner=Role.ARBITER)
    await world.make_final(first)
    _, page = await world.ask("GET", "/api/disputes/arbiter", user=ARBITER)
    assert [each["case_id"] for each in page["cases"]] == [second_case]
    assert (await world.ask("GET", "/api/disputes/arbiter", user=BUYER))[1]["cases"] == []


async def test_an_arbiters_cases_come_in_pages(world: World) -> None:
    cases = [(await _disputed(world))[1] for _ in range(3)]
    _, first = await world.ask("GET", "/api/disputes/arbiter?limit=2", user=ARBITER)
    _, rest = await world.ask("GET", f"/api/disputes/arbiter?limit=2&after={first['next']}", user=ARBITER)
    assert [each["case_id"] for each in first["cases"] + rest["cases"]] == cases[::-1]
    assert rest["next"] is None
    for after in ("case_" + "0" * 32, "x"):
        _, problem = await world.ask("GET", f"/api/disputes/arbiter?after={after}", user=ARBITER)
        assert problem["code"] == "cursor_invalid"
    _, problem = await world.ask("GET", f"/api/disputes/arbiter?after={cases[0]}", user=BUYER)
    assert problem["code"] == "cursor_invalid"


@pytest.mark.parametrize("query", ["after=%00", "limit=0", "limit=101", "status=open", "limit=1&limit=2"])
async def test_a_query_that_means_nothing_is_refused(query: str) -> None:
    async with house_world() as world:
        for path in ("/api/disputes/arbiter", "/api/admin/recovery/list"):
            _, problem = await world.ask("GET", f"{path}?{query}", rights=(Right.ADMIN,))
            assert problem["code"] == "validation"


async def test_the_three_of_a_case_see_both_claims_and_how_it_ended(world: World) -> None:
    escrow_id, case_id = await _disputed(world)
    for user in (BUYER, VENDOR, ARBITER):
        status, shown = await world.ask("GET", f"/api/disputes/{case_id}", user=user)
        assert status == 200
        assert (shown["case"]["buyer_claim"], shown["case"]["vendor_claim"]) == (CLAIM, None)
        assert (shown["messages"], shown["photos"]) == ([], [])
    await _decide(world, case_id)
    await world.sign(escrow_id, proposer=Role.BUYER, cosigner=Role.ARBITER)
    _, shown = await world.ask("GET", f"/api/disputes/{case_id}")
    assert (shown["case"]["status"], shown["case"]["winner_tx_hash"]) == ("decided", None)
    await world.make_final(escrow_id)
    _, shown = await world.ask("GET", f"/api/disputes/{case_id}")
    case = shown["case"]
    assert (case["status"], case["decision"], case["reason"]) == ("resolved", "refund", "It was empty.")
    assert case["winner_tx_hash"] == case["arbiter_fee_tx_hash"] == PAYOUT_HASH
    assert (case["state"], case["fee_atomic"]) == ("refunded", AMOUNT // 50)


@pytest.mark.parametrize("rights", [(), (Right.ADMIN,), (Right.ARBITER,)])
async def test_to_all_others_a_case_does_not_exist(rights: tuple[Right, ...]) -> None:
    async with house_world() as world:
        _, case_id = await _disputed(world)
        for path in (case_id, "case_" + "0" * 32, "case-1", "%00"):
            status, problem = await world.ask("GET", f"/api/disputes/{path}", user="mallory", rights=rights)
            assert (status, problem["code"]) == (404, "no_such_case")


async def test_without_its_key_a_case_has_no_texts_and_everything_else() -> None:
    tables = MemoryTables(partitions=4)
    async with house_world(store=memory_store(partitions=4, tables=tables)) as world:
        escrow_id, case_id = await _disputed(world)
    del tables.keys[escrow_id]
    async with house_world(store=memory_store(partitions=4, tables=tables)) as world:
        _, shown = await world.ask("GET", f"/api/disputes/{case_id}")
        assert (shown["case"]["buyer_claim"], shown["case"]["opened_by"]) == (None, "buyer")


# -- recovery --------------------------------------------------------------------------------------------------


async def test_an_item_of_an_escrow_without_a_dispute_names_its_reason() -> None:
    async with house_world(figures=Policy(funding_remind_s=1, funding_s=1)) as world:
        escrow_id = await world.create()
        await world.set_addresses(escrow_id)
        await world.set_up(escrow_id)
        pool = ChainView(height=111, outputs=(msgspec.structs.replace(deposit(amount=AMOUNT // 2), height=None),))
        await world.tell(escrow_id, await world.seen(escrow_id, pool))
        later = Micros(world.now() + 3 * HOUR)
        await world.tell(escrow_id, c.PassTime(at=later))
        _, page = await world.ask("GET", "/api/admin/recovery/list", user="root", rights=(Right.ADMIN,))
        (item,) = page["cases"]
        assert (item["reasons"], item["status"], item["case_id"]) == (["underpaid"], "awaiting_funding", None)


async def test_administrators_list_what_people_must_look_at_oldest_activity_first(world: World) -> None:
    (disputed, case_id), funded = await _disputed(world), await world.funded()
    status, page = await world.ask("GET", "/api/admin/recovery/list", user="root", rights=(Right.ADMIN,))
    assert (status, page["total_cases"]) == (200, 1)
    (item,) = page["cases"]
    assert (item["escrow_id"], item["status"], item["case_id"]) == (disputed, "disputed", case_id)
    assert (item["amount"], item["hours_stuck"], item["reasons"]) == (AMOUNT, 0, [])
    other, _ = await _disputed(world)
    _, first = await world.ask("GET", "/api/admin/recovery/list?limit=1", user="root", rights=(Right.ADMIN,))
    path = f"/api/admin/recovery/list?limit=1&after={first['next']}"
    _, rest = await world.ask("GET", path, user="root", rights=(Right.ADMIN,))
    assert [each["escrow_id"] for each in first["cases"] + rest["cases"]] == [disputed, other]
    assert (first["total_cases"], rest["next"]) == (2, None)
    assert funded not in str(page)


@pytest.mark.parametrize("rights", [(), (Right.MARKETPLACE,), (Right.ARBITER,)])
async def test_recovery_items_are_for_administrators(rights: tuple[Right, ...]) -> None:
    async with house_world() as world:
        status, problem = await world.ask("GET", "/api/admin/recovery/list", user=ARBITER, rights=rights)
        assert (status, problem["code"]) == (403, "right_missing")
        assert (await world.ask("GET", "/api/admin/recovery/list", user=None))[0] == 401


@pytest.mark.parametrize("query", ["after=1", "after=1-esc_1", "after=-1-esc_" + "0" * 32, "after=" + "9" * 40])
async def test_a_place_in_the_recovery_list_is_one_that_it_gave(query: str) -> None:
    async with house_world() as world:
        _, problem = await world.ask("GET", f"/api/admin/recovery/list?{query}", rights=(Right.ADMIN,))
        assert problem["code"] == "cursor_invalid"


# -- one's own writes ------------------------------------------------------------------------------------------


async def test_a_list_waits_for_the_cursor_that_its_caller_names(world: World) -> None:
    escrow_id = await world.create()
    _, cancelled = await world.ask("POST", f"/api/escrows/{escrow_id}/cancel")
    _, page = await world.ask("GET", f"/api/escrows?seen={cancelled['cursor']}")
    assert [each["state"] for each in page["escrows"]] == ["cancelled"]
    reached = decode_cursor(page["cursor"])
    assert all(reached[partition] >= at for partition, at in decode_cursor(cancelled["cursor"]).items())


async def test_a_cursor_from_the_future_is_waited_for_no_longer_than_the_bound() -> None:
    async with house_world(own_writes_wait_s=0) as world:
        await world.create()
        future = encode_cursor({0: 10**9})
        status, _ = await world.ask("GET", f"/api/escrows?seen={future}")
        assert status == 200
        assert (await world.ask("GET", "/api/escrows?seen=!"))[1]["code"] == "cursor_invalid"
