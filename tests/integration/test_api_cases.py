"""What arbiters, parties and administrators read of disputes and recovery items, through the doors."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from actors.desk import derived_id
from domain import commands as c
from domain.chain import ChainView
from domain.ids import EscrowId, Micros
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
    assert [(each["status"], each["decided_at"] is None) for each in page["cases"]] == [
        ("open", True),
        ("under_review", False),
    ]
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


async def test_an_arbiter_finds_a_case_by_its_status_its_age_and_any_name_in_it(world: World) -> None:
    (first, first_case), (_, second_case) = await _disputed(world), await _disputed(world)
    review = {"case_id": second_case}
    assert (await world.ask("POST", "/api/disputes/review", review, user=ARBITER))[0] == 200
    await _decide(world, first_case)
    order = (await world.state(first)).core.terms.order_id
    for query, found in {
        "status=open": [],
        "status=under_review": [second_case, first_case],
        "status=resolved": [],
        "status=all": [second_case, first_case],
        f"q={first_case}": [first_case],
        f"q={first[:-4].upper().replace('ESC_', 'esc_')}": [first_case],
        f"q={order}": [first_case],
        f"q={BUYER.upper()}": [second_case, first_case],
        "q=An+empty": [],
        "older_than_s=0": [second_case, first_case],
        "older_than_s=3600": [],
    }.items():
        status, page = await world.ask("GET", f"/api/disputes/arbiter?{query}", user=ARBITER)
        assert (status, [each["case_id"] for each in page["cases"]]) == (200, found), query
    await world.sign(first, proposer=Role.BUYER, cosigner=Role.ARBITER)
    await world.make_final(first)
    for query, found in {
        "status=resolved": [first_case],
        "": [second_case],
        "status=all": [second_case, first_case],
    }.items():
        _, page = await world.ask("GET", f"/api/disputes/arbiter?{query}", user=ARBITER)
        assert [each["case_id"] for each in page["cases"]] == found
    _, page = await world.ask("GET", f"/api/disputes/arbiter?status=all&limit=1&after={second_case}", user=ARBITER)
    assert ([each["case_id"] for each in page["cases"]], page["next"]) == ([first_case], None)


@pytest.mark.parametrize(
    "query", ["q=", "q=" + "x" * 129, "older_than_s=-1", "older_than_s=1.5", "status=", "status=OPEN"]
)
async def test_a_search_for_nothing_that_could_be_is_refused(query: str) -> None:
    async with house_world() as world:
        _, problem = await world.ask("GET", f"/api/disputes/arbiter?{query}", user=ARBITER)
        assert problem["code"] == "validation"


async def test_an_assistant_reads_the_cases_of_who_named_them_and_acts_in_none(world: World) -> None:
    _, case_id = await _disputed(world)
    ann: dict[str, Any] = {"user": "ann", "rights": (Right.ASSISTANT,)}
    path = f"/api/disputes/arbiter?arbiter_id={ARBITER}"
    assert (await world.ask("GET", path, **ann))[1]["code"] == "right_missing"
    assert (await world.ask("GET", f"/api/disputes/{case_id}", **ann))[1]["code"] == "no_such_case"
    assert (await world.ask("POST", "/api/arbiters/assistants", {"assistant": "ann"}, user=ARBITER))[0] == 200
    _, page = await world.ask("GET", path, **ann)
    assert [each["case_id"] for each in page["cases"]] == [case_id]
    assert (await world.ask("GET", f"/api/disputes/{case_id}", **ann))[1]["case"]["buyer_claim"] == CLAIM
    assert (await world.ask("GET", f"/api/disputes/{case_id}", user="ann"))[1]["code"] == "no_such_case"
    decision = {"case_id": case_id, "decision": "refund", "reason": "It was empty."}
    for action, body in (("resolve", decision), ("messages", {"case_id": case_id, "message": "x"})):
        assert (await world.ask("POST", f"/api/disputes/{action}", body, **ann))[1]["code"] == "no_such_case"
    gone = {"assistant": "ann", "named": False}
    assert (await world.ask("POST", "/api/arbiters/assistants", gone, user=ARBITER))[0] == 200
    assert (await world.ask("GET", f"/api/disputes/{case_id}", **ann))[1]["code"] == "no_such_case"


async def test_a_case_undecided_for_a_week_is_escalated_once_and_shown_so() -> None:
    async with house_world(figures=Policy(dispute_untouched_s=1, dispute_undecided_s=2)) as world:
        escrow_id, case_id = await _disputed(world)
        for hours in (30, 31):
            later = c.PassTime(at=Micros(world.now() + hours * HOUR))
            await world.house.desk.handle(
                EscrowId(escrow_id), later, command_id=derived_id(escrow_id, "time", hours), actor="time"
            )
        _, shown = await world.ask("GET", f"/api/disputes/{case_id}")
        assert shown["case"]["escalated_at"] is not None
        _, page = await world.ask("GET", "/api/disputes/arbiter", user=ARBITER)
        assert page["cases"][0]["escalated_at"] == shown["case"]["escalated_at"]
        types = [each.type for each in await world.house.store.log.read_stream(EscrowId(escrow_id))]
        assert types.count("dispute_escalated") == 1
        _, items = await world.ask("GET", "/api/admin/recovery/list", user="root", rights=(Right.ADMIN,))
        assert [each["reasons"] for each in items["cases"]] == [["dispute_undecided"]]


@pytest.mark.parametrize(
    "query", ["after=%00", "limit=0", "limit=101", "status=lost", "status=decided", "limit=1&limit=2"]
)
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
    assert (shown["case"]["status"], shown["case"]["winner_tx_hash"]) == ("under_review", None)
    assert shown["case"]["decided_at"] is not None
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


async def test_an_administrator_sees_in_an_escrow_that_it_is_disputed_and_nothing_that_people_wrote() -> None:
    async with house_world() as world:
        escrow_id, case_id = await _disputed(world)
        await _decide(world, case_id)
        _, mine = await world.ask("GET", f"/api/escrows/{escrow_id}")
        _, shown = await world.ask("GET", f"/api/escrows/{escrow_id}", user="root", rights=(Right.ADMIN,))
        texts = ("buyer_claim", "vendor_claim", "reason")
        assert shown["case"] == mine["case"] | dict.fromkeys(texts)
        assert mine["case"]["buyer_claim"] and mine["case"]["reason"] == "It was empty."


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
