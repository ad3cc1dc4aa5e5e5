"""Arbiters through the doors: draws that can be repeated, holidays, conflicts, readiness."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.arbiters import DRAWS_STREAM
from domain.draw import draw_holds
from domain.events import EscrowCreated
from domain.ids import EscrowId, UserId
from eventstore.memory import Fault, MemoryTables
from eventstore.opening import memory_store
from schemas.codec import decode
from service.audit import verify
from service.auth import Right
from service.settings import Arbiter
from tests.given import ARBITER, BUYER, VENDOR
from tests.worlds import World, house_world

MARA, NOOR = "mara", "noor"
POOL = tuple(Arbiter(user_id=UserId(user)) for user in (ARBITER, MARA, NOOR))
PLENTY: dict[str, Any] = {"max_concurrent_escrows": 1_000, "max_beta_volume_atomic": 10**18}
ADMIN: dict[str, Any] = {"user": "root", "rights": (Right.ADMIN,)}
HOLIDAY = (datetime.now(UTC) + timedelta(days=7)).isoformat()


async def created(world: World, escrow_id: str) -> EscrowCreated:
    (first, *_) = await world.house.store.log.read_stream(EscrowId(escrow_id), after_version=0, limit=1)
    event = decode(type=first.type, schema_version=first.schema_version, body=first.body)
    assert isinstance(event, EscrowCreated)
    return event


async def arbiter_of(world: World, escrow_id: str) -> str:
    return (await world.state(escrow_id)).core.terms.arbiter_id


async def tell(world: World, path: str, body: object, *, user: str, **more: Any) -> tuple[int, Any]:
    return await world.ask("POST", f"/api/arbiters/{path}", body, user=user, **more)


# -- the draw --------------------------------------------------------------------------------------------------


async def test_every_draw_can_be_repeated_from_what_was_committed_before_the_order() -> None:
    async with house_world(arbiter_mode="pool", arbiters=POOL, **PLENTY) as world:
        _, before = await world.ask("GET", "/api/arbiters")
        assert [each["links_taken"] for each in before["chains"]] == [0]
        for number in range(1, 9):
            event = await created(world, await world.create())
            assert event.draw is not None and draw_holds(event.terms, event.draw)
            assert (event.draw.anchor, event.draw.link) == (before["chains"][0]["anchor"], number)
            assert event.draw.eligible == tuple(sorted((ARBITER, MARA, NOOR)))
        _, after = await world.ask("GET", "/api/arbiters")
        assert [each["links_taken"] for each in after["chains"]] == [8, 0]
        assert (await verify(world.house.store.log)).findings == ()


async def test_draws_at_once_on_two_nodes_take_each_link_once() -> None:
    tables = MemoryTables(partitions=4)
    one, two = (memory_store(partitions=4, tables=tables, node_id=node) for node in ("one", "two"))
    pool: dict[str, Any] = {"arbiter_mode": "pool", "arbiters": POOL, **PLENTY}
    async with house_world(store=one, **pool) as first, house_world(store=two, **pool) as second:
        worlds = (first, second)
        ids = await asyncio.gather(*(worlds[n % 2].create(order=f"o-{n}") for n in range(20)))
        links = sorted([event.draw.link for each in ids if (event := await created(first, each)).draw is not None])
        assert links == list(range(1, 21))
        assert (await verify(first.house.store.log)).findings == ()


async def test_a_creation_that_is_repeated_keeps_its_draw() -> None:
    async with house_world(arbiter_mode="pool", arbiters=POOL, **PLENTY) as world:
        order = {"order_id": "o-1", "buyer_id": BUYER, "vendor_id": VENDOR, "amount": 10**12}
        memory: Any = world.house.store.log
        for _ in range(5):
            memory.fail_next(Fault.LOST_AFTER_WRITE)
        for _ in range(12):
            status, answer = await world.ask("POST", "/api/escrows", order, key="k")
            if status == 201:
                break
            assert status == 503, answer
        assert status == 201
        assert (await world.ask("POST", "/api/escrows", order, key="k"))[1]["escrow_id"] == answer["escrow_id"]
        types = [each.type for each in await memory.read_stream(DRAWS_STREAM, after_version=0, limit=10)]
        assert types.count("link_taken") == 1


async def test_what_is_refused_uses_up_no_link() -> None:
    async with house_world(arbiter_mode="pool", arbiters=POOL, max_escrow_amount_atomic=10, **PLENTY) as world:
        order = {"order_id": "o-1", "buyer_id": BUYER, "vendor_id": VENDOR, "amount": 11}
        for _ in range(3):
            assert (await world.ask("POST", "/api/escrows", order))[1]["code"] == "limit_amount"
        _, shown = await world.ask("GET", "/api/arbiters")
        assert [each["links_taken"] for each in shown["chains"]] == [0]


async def test_a_single_arbiter_is_not_drawn() -> None:
    async with house_world() as world:
        assert (await created(world, await world.create())).draw is None
        assert (await world.ask("GET", "/api/arbiters"))[1]["chains"] == []


async def test_no_secret_of_a_chain_is_shown_before_its_draw() -> None:
    async with house_world(arbiter_mode="pool", arbiters=POOL, **PLENTY) as world:
        drawn = [(await created(world, await world.create())).draw for _ in range(3)]
        (first, *_) = await world.house.store.log.read_stream(DRAWS_STREAM, after_version=0, limit=10)
        assert all(draw is not None and draw.secret.encode() not in first.body for draw in drawn)
        assert b'"seed":"' in first.body


# -- holidays, delegates, readiness ----------------------------------------------------------------------------


async def test_who_is_on_holiday_gets_no_new_case_and_a_delegate_stands_in() -> None:
    async with house_world(arbiter_delegates=(UserId(MARA),)) as world:
        assert (await tell(world, "holiday", {"until": HOLIDAY}, user=ARBITER))[0] == 200
        order = {"order_id": "o-1", "buyer_id": BUYER, "vendor_id": VENDOR, "amount": 10**12}
        status, problem = await world.ask("POST", "/api/escrows", order)
        assert (status, problem["code"]) == (503, "no_arbiter")
        assert (await tell(world, "holiday", {"until": HOLIDAY, "delegate": MARA}, user=ARBITER))[0] == 200
        _, shown = await world.ask("GET", "/api/arbiters")
        assert [(each["arbiter_id"], each["delegate"]) for each in shown["arbiters"]] == [(ARBITER, MARA)]
        stood_in = await world.create()
        assert await arbiter_of(world, stood_in) == MARA
        assert (await tell(world, "holiday", {"until": None}, user=ARBITER))[0] == 200
        assert await arbiter_of(world, await world.create()) == ARBITER
        assert await arbiter_of(world, stood_in) == MARA, "what exists stays as it is"


async def test_a_creation_that_is_repeated_is_answered_as_before_though_nobody_is_free_now() -> None:
    async with house_world() as world:
        order = {"order_id": "o-1", "buyer_id": BUYER, "vendor_id": VENDOR, "amount": 10**12}
        first = await world.ask("POST", "/api/escrows", order, key="k")
        assert first[0] == 201
        assert (await tell(world, "holiday", {"until": HOLIDAY}, user=ARBITER))[0] == 200
        assert await world.ask("POST", "/api/escrows", order, key="k") == first
        assert (await world.ask("POST", "/api/escrows", order | {"order_id": "o-2"}, key="l"))[1][
            "code"
        ] == "no_arbiter"


async def test_a_holiday_lies_ahead_and_a_delegate_is_one_of_the_services_own() -> None:
    async with house_world() as world:
        for body, code in (
            ({"until": "2020-01-01T00:00:00Z"}, "deadline_invalid"),
            ({"until": HOLIDAY, "delegate": "mallory"}, "delegate_unknown"),
            ({"until": HOLIDAY, "delegate": ARBITER}, "three_must_differ"),
            ({"until": "tomorrow"}, "validation"),
        ):
            assert (await tell(world, "holiday", body, user=ARBITER))[1]["code"] == code
        assert (await world.ask("GET", "/api/arbiters"))[1]["arbiters"][0]["away_until"] is None


async def test_where_it_is_asked_only_an_arbiter_that_was_seen_gets_new_escrows() -> None:
    async with house_world(arbiter_mode="pool", arbiters=POOL, arbiter_ready_s=3_600, **PLENTY) as world:
        order = {"order_id": "o-1", "buyer_id": BUYER, "vendor_id": VENDOR, "amount": 10**12}
        assert (await world.ask("POST", "/api/escrows", order))[1]["code"] == "no_arbiter"
        for _ in range(3):
            assert (await tell(world, "heartbeat", {}, user=MARA))[0] == 200
        event = await created(world, await world.create())
        assert event.draw is not None
        assert (event.draw.eligible, event.draw.excluded) == ((MARA,), {ARBITER: "not_ready", NOOR: "not_ready"})
        assert len(await world.house.store.log.read_stream("arbiters", after_version=0, limit=10)) == 1


# -- conflicts -------------------------------------------------------------------------------------------------


async def test_an_arbiter_in_conflict_is_not_drawn_and_decides_nothing() -> None:
    async with house_world(arbiter_mode="pool", arbiters=POOL, **PLENTY) as world:
        for arbiter in (MARA, NOOR):
            assert (await tell(world, "conflicts", {"party": BUYER}, user=arbiter))[0] == 200
        escrow_id = await world.create()
        assert await arbiter_of(world, escrow_id) == ARBITER
        event = await created(world, escrow_id)
        assert event.draw is not None and event.draw.excluded == {MARA: "conflict", NOOR: "conflict"}
        assert (await tell(world, "conflicts", {"party": VENDOR}, user=ARBITER))[0] == 200
        order = {"order_id": "o-9", "buyer_id": BUYER, "vendor_id": VENDOR, "amount": 10**12}
        assert (await world.ask("POST", "/api/escrows", order))[1]["code"] == "no_arbiter"


async def test_a_conflict_found_later_forbids_the_decision_until_an_administrator_takes_it_back() -> None:
    async with house_world() as world:
        escrow_id = await world.funded()
        _, opened = await world.ask("POST", "/api/disputes/open", {"escrow_id": escrow_id, "claim": "An empty box."})
        found = {"party": VENDOR, "arbiter_id": ARBITER}
        assert (await tell(world, "conflicts", found, **ADMIN))[0] == 200
        decision = {"case_id": opened["case_id"], "decision": "refund", "reason": "It was empty."}
        status, problem = await world.ask("POST", "/api/disputes/resolve", decision, user=ARBITER)
        assert (status, problem["code"]) == (409, "conflict_of_interest")
        status, problem = await tell(world, "conflicts/withdraw", found, user=ARBITER)
        assert (status, problem["code"]) == (403, "right_missing")
        assert (await tell(world, "conflicts/withdraw", found, **ADMIN))[0] == 200
        assert (await world.ask("POST", "/api/disputes/resolve", decision, user=ARBITER))[0] == 200


async def test_a_decision_that_is_repeated_is_answered_as_before_though_a_conflict_was_found_since() -> None:
    async with house_world() as world:
        escrow_id = await world.funded()
        _, opened = await world.ask("POST", "/api/disputes/open", {"escrow_id": escrow_id, "claim": "An empty box."})
        decision = {"case_id": opened["case_id"], "decision": "refund", "reason": "It was empty."}
        first = await world.ask("POST", "/api/disputes/resolve", decision, user=ARBITER, key="k")
        assert first[0] == 200
        assert (await tell(world, "conflicts", {"party": VENDOR, "arbiter_id": ARBITER}, **ADMIN))[0] == 200
        assert await world.ask("POST", "/api/disputes/resolve", decision, user=ARBITER, key="k") == first
        status, problem = await world.ask("POST", "/api/disputes/resolve", decision, user=ARBITER)
        assert (status, problem["code"]) == (409, "case_closed")


# -- who may say so --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("heartbeat", {}),
        ("holiday", {"until": HOLIDAY}),
        ("conflicts", {"party": VENDOR}),
        ("conflicts", {"party": VENDOR, "arbiter_id": ARBITER}),
        ("conflicts/withdraw", {"party": VENDOR, "arbiter_id": ARBITER}),
        ("assistants", {"assistant": "ann"}),
    ],
)
async def test_nobody_speaks_for_an_arbiter(path: str, body: dict[str, Any]) -> None:
    async with house_world() as world:
        for user in (BUYER, "mallory"):
            status, problem = await tell(world, path, body, user=user)
            assert (status, problem["code"]) == (403, "right_missing")
        status, problem = await world.ask("POST", f"/api/arbiters/{path}", body, user=None)
        assert (status, problem["code"]) == (401, "token_missing")
        assert await world.house.store.log.read_stream("arbiters", after_version=0, limit=10) == []


async def test_what_an_arbiter_said_once_with_a_key_is_said_once() -> None:
    async with house_world() as world:
        first = await tell(world, "holiday", {"until": HOLIDAY}, user=ARBITER, key="k")
        assert (first[0], first[1]["status"]) == (200, "arbiter_away")
        assert await tell(world, "holiday", {"until": HOLIDAY}, user=ARBITER, key="k") == first
        assert (await tell(world, "holiday", {"until": None}, user=ARBITER, key="k"))[1]["code"] == (
            "idempotency_key_reused"
        )
        assert len(await world.house.store.log.read_stream("arbiters", after_version=0, limit=10)) == 1
