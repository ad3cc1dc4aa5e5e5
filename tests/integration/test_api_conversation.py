"""Claims, messages and the arbiter's first act, through the doors."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.dispute import MESSAGES_MAX
from domain.roles import Role
from eventstore.opening import memory_store, open_store
from schemas.requests import CLAIM_MAX, MESSAGE_MAX
from tests.given import ARBITER, BUYER, VENDOR
from tests.patience import PATIENT
from tests.worlds import World, house_world

CLAIM, ANSWER = "An empty box.", "It was full when it left."


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    store = memory_store(partitions=4)
    if request.param == "postgres":
        dsn = request.getfixturevalue("postgres_dsn")
        store = await open_store(dsn=dsn, encryption_key=bytes(32), partitions=4, node_id="n", limits=PATIENT)
    async with house_world(store=store) as world:
        yield world


async def opened(world: World, *, by: str = BUYER) -> str:
    escrow_id = await world.funded()
    body = {"escrow_id": escrow_id, "claim": CLAIM}
    status, answer = await world.ask("POST", "/api/disputes/open", body, user=by)
    assert status == 200, answer
    return str(answer["case_id"])


async def say(world: World, case_id: str, text: str, *, user: str, **more: Any) -> tuple[int, Any]:
    body = {"case_id": case_id, "message": text}
    key = more.pop("key", None)
    return await world.ask("POST", "/api/disputes/messages", body | more, user=user, key=key)


async def shown(world: World, case_id: str, query: str = "", *, user: str = BUYER) -> Any:
    status, case = await world.ask("GET", f"/api/disputes/{case_id}{query}", user=user)
    assert status == 200, case
    return case


async def refuse(world: World, code: str, path: str, body: object, *, user: str) -> None:
    _, problem = await world.ask("POST", f"/api/disputes/{path}", body, user=user)
    assert problem["code"] == code, problem


# -- claims ----------------------------------------------------------------------------------------------------


async def test_the_other_side_adds_its_claim_and_all_three_read_both(world: World) -> None:
    case_id = await opened(world)
    status, added = await world.ask(
        "POST", "/api/disputes/vendor-response", {"case_id": case_id, "claim": ANSWER}, user=VENDOR
    )
    assert (status, added["status"], added["case_id"], added["state"]) == (200, "claim_added", case_id, "disputed")
    for user in (BUYER, VENDOR, ARBITER):
        case = (await shown(world, case_id, user=user))["case"]
        assert (case["buyer_claim"], case["vendor_claim"], case["opened_by"]) == (CLAIM, ANSWER, "buyer")


async def test_a_vendor_may_open_and_the_buyer_answers(world: World) -> None:
    case_id = await opened(world, by=VENDOR)
    status, added = await world.ask("POST", "/api/disputes/buyer-response", {"case_id": case_id, "claim": ANSWER})
    assert (status, added["status"]) == (200, "claim_added")
    case = (await shown(world, case_id))["case"]
    assert (case["vendor_claim"], case["buyer_claim"], case["opened_by"]) == (CLAIM, ANSWER, "vendor")


async def test_claims_out_of_turn_are_refused_and_change_nothing() -> None:
    async with house_world() as world:
        case_id = await opened(world)
        body = {"case_id": case_id, "claim": ANSWER}
        await refuse(world, "already_given", "buyer-response", body, user=BUYER)
        await refuse(world, "not_the_buyer", "buyer-response", body, user=VENDOR)
        await refuse(world, "not_the_vendor", "vendor-response", body, user=BUYER)
        await refuse(world, "not_the_vendor", "vendor-response", body, user=ARBITER)
        await refuse(world, "validation", "vendor-response", body | {"claim": ""}, user=VENDOR)
        await refuse(world, "validation", "vendor-response", body | {"claim": "x" * (CLAIM_MAX + 1)}, user=VENDOR)
        assert (await shown(world, case_id))["case"]["vendor_claim"] is None
        decision = {"case_id": case_id, "decision": "refund", "reason": "It was empty."}
        assert (await world.ask("POST", "/api/disputes/resolve", decision, user=ARBITER))[0] == 200
        await refuse(world, "case_closed", "vendor-response", body, user=VENDOR)


async def test_of_two_claims_at_once_one_stands(world: World) -> None:
    case_id = await opened(world)
    texts = [f"version {number}" for number in range(4)]
    answers = await asyncio.gather(
        *(
            world.ask("POST", "/api/disputes/vendor-response", {"case_id": case_id, "claim": text}, user=VENDOR)
            for text in texts
        )
    )
    stood = [text for text, (status, _) in zip(texts, answers, strict=True) if status == 200]
    assert [body["code"] for status, body in answers if status != 200] == ["already_given"] * 3
    assert [(await shown(world, case_id))["case"]["vendor_claim"]] == stood


# -- messages --------------------------------------------------------------------------------------------------


async def test_the_three_talk_and_each_reads_the_whole_thread(world: World) -> None:
    case_id = await opened(world)
    status, first = await say(world, case_id, "Look at the picture.", user=BUYER)
    assert (status, first["status"], first["number"], first["sender_role"]) == (200, "message_added", 1, "buyer")
    assert (await say(world, case_id, "Which one?", user=ARBITER, reply_to=1))[1]["reply_to"] == 1
    assert (await say(world, case_id, "It shows another box.", user=VENDOR))[0] == 200
    for user in (BUYER, VENDOR, ARBITER):
        case = await shown(world, case_id, user=user)
        assert [
            (each["number"], each["sender_role"], each["message"], each["reply_to"]) for each in case["messages"]
        ] == [
            (1, "buyer", "Look at the picture.", None),
            (2, "arbiter", "Which one?", 1),
            (3, "vendor", "It shows another box.", None),
        ]
        assert (case["case"]["status"], case["messages_next"], case["photos"]) == ("under_review", None, [])
        assert case["messages"][0]["at"] == first["at"]


async def test_a_long_thread_comes_in_pages(world: World) -> None:
    case_id = await opened(world)
    for number in range(5):
        assert (await say(world, case_id, f"text {number}", user=BUYER))[0] == 200
    first = await shown(world, case_id, "?limit=2")
    second = await shown(world, case_id, f"?limit=2&after_message={first['messages_next']}")
    rest = await shown(world, case_id, f"?limit=2&after_message={second['messages_next']}")
    pages = (first, second, rest)
    assert [each["message"] for page in pages for each in page["messages"]] == [f"text {n}" for n in range(5)]
    assert [page["messages_next"] for page in pages] == [2, 4, None]


@pytest.mark.parametrize(
    "query", ["?after_message=x", "?after_message=-1", "?limit=0", "?what=1", "?after_message=1&after_message=2"]
)
async def test_a_place_in_a_thread_is_a_number(query: str) -> None:
    async with house_world() as world:
        case_id = await opened(world)
        _, problem = await world.ask("GET", f"/api/disputes/{case_id}{query}")
        assert problem["code"] == "validation"


async def test_a_repeated_message_stands_once_and_gets_the_first_answer(world: World) -> None:
    case_id = await opened(world)
    first = await say(world, case_id, "Once.", user=ARBITER, key="k-1")
    assert (await say(world, case_id, "Between.", user=BUYER))[0] == 200
    assert await say(world, case_id, "Once.", user=ARBITER, key="k-1") == first
    assert (await say(world, case_id, "Other.", user=ARBITER, key="k-1"))[1]["code"] == "idempotency_key_reused"
    assert [each["message"] for each in (await shown(world, case_id))["messages"]] == ["Once.", "Between."]


async def test_what_cannot_be_a_message_is_refused() -> None:
    async with house_world() as world:
        case_id = await opened(world)
        for body in (
            {"message": ""},
            {"message": "x" * (MESSAGE_MAX + 1)},
            {"message": "x", "reply_to": 0},
            {"message": "x", "reply_to": "1"},
            {"message": "x", "by": "arbiter"},
            {},
        ):
            await refuse(world, "validation", "messages", {"case_id": case_id} | body, user=BUYER)
        await refuse(
            world, "message_unknown", "messages", {"case_id": case_id, "message": "x", "reply_to": 1}, user=BUYER
        )
        assert (await shown(world, case_id))["messages"] == []


async def test_messages_at_once_are_all_kept_each_under_its_own_number(world: World) -> None:
    case_id = await opened(world)
    users = (BUYER, VENDOR, ARBITER) * 3
    answers = await asyncio.gather(*(say(world, case_id, f"{n}", user=user) for n, user in enumerate(users)))
    assert sorted(answer["number"] for _, answer in answers) == list(range(1, 10))
    kept = (await shown(world, case_id))["messages"]
    assert sorted(each["message"] for each in kept) == sorted(str(n) for n in range(9))


async def test_a_sender_has_so_much_room_and_the_refusal_says_how_much() -> None:
    async with house_world() as world:
        case_id = await opened(world)
        for number in range(MESSAGES_MAX):
            assert (await say(world, case_id, str(number), user=BUYER))[0] == 200
        status, problem = await say(world, case_id, "one more", user=BUYER)
        assert (status, problem["code"], problem["facts"]) == (409, "messages_full", {"messages_max": MESSAGES_MAX})
        assert (await say(world, case_id, "still heard", user=VENDOR))[0] == 200


# -- the arbiter's first act -----------------------------------------------------------------------------------


async def test_an_arbiter_takes_a_case_up_once(world: World) -> None:
    case_id = await opened(world)
    for _ in range(2):
        status, answer = await world.ask("POST", "/api/disputes/review", {"case_id": case_id}, user=ARBITER)
        assert (status, answer["status"]) == (200, "under_review")
    for user in (BUYER, VENDOR):
        await refuse(world, "not_the_arbiter", "review", {"case_id": case_id}, user=user)
    assert (await shown(world, case_id))["case"]["status"] == "under_review"


async def test_a_resolved_case_is_closed_to_all_that_comes_late() -> None:
    async with house_world() as world:
        case_id = await opened(world)
        decision = {"case_id": case_id, "decision": "refund", "reason": "It was empty."}
        assert (await world.ask("POST", "/api/disputes/resolve", decision, user=ARBITER))[0] == 200
        await refuse(world, "case_closed", "resolve", decision, user=ARBITER)
        await refuse(world, "case_closed", "review", {"case_id": case_id}, user=ARBITER)
        assert (await say(world, case_id, "I will pay it out.", user=BUYER))[0] == 200
        escrow_id = (await shown(world, case_id))["case"]["escrow_id"]
        await world.sign(escrow_id, proposer=Role.BUYER, cosigner=Role.ARBITER)
        await world.make_final(escrow_id)
        await refuse(world, "case_closed", "messages", {"case_id": case_id, "message": "Too late."}, user=BUYER)
