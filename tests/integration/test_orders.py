"""Many orders at once: each has its own escrow or its own reason, and the answer waits a while for the addresses."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from domain.limits import LIVE_STREAM
from domain.roles import Role
from eventstore.memory import Fault, MemoryTables
from eventstore.opening import memory_store, open_store
from service.auth import Right
from service.node import Node
from service.settings import Arbiter
from tests.given import AMOUNT, ARBITER, BUYER, VENDOR
from tests.patience import PATIENCE_S, PATIENT
from tests.sim_world import SimWorld, until_true
from tests.worlds import World, address_of, house_world

BATCH = "/api/orders/batch-init-escrow"
LONG_S = round(2 * PATIENCE_S)
"""Longer than any wait here takes: who waits so long has not heard."""
PLENTY: dict[str, Any] = {"max_concurrent_escrows": 1_000, "max_beta_volume_atomic": 10**18}


def order(number: int, **change: Any) -> dict[str, Any]:
    return {"order_id": f"o-{number}", "buyer_id": BUYER, "vendor_id": VENDOR, "amount": AMOUNT} | change


def body(orders: Iterable[object]) -> dict[str, Any]:
    return {"orders": list(orders)}


def ids(answer: Any) -> list[str]:
    return [each["escrow_id"] for each in answer["results"]]


def codes(answer: Any) -> list[str | None]:
    return [each["error"] and each["error"]["code"] for each in answer["results"]]


@asynccontextmanager
async def with_wallets(**settings: Any) -> AsyncIterator[tuple[World, Node]]:
    """The doors on one node and simulated wallets on another, over one log."""
    tables = MemoryTables(partitions=4)
    sim = SimWorld(slots_per_role=3)
    async with (
        sim.running(store=memory_store(partitions=4, tables=tables, node_id="wallets")) as node,
        house_world(store=memory_store(partitions=4, tables=tables), **(PLENTY | settings)) as world,
    ):
        yield world, node


# -- what becomes of them ------------------------------------------------------------------------------------


async def test_many_orders_at_once_are_all_set_up_each_on_wallets_of_its_own() -> None:
    async with with_wallets(init_wait_s=LONG_S) as (world, _):
        status, answer = await world.ask("POST", BATCH, body(map(order, range(6))))
        assert status == 200
        assert [each["order_id"] for each in answer["results"]] == [f"o-{number}" for number in range(6)]
        assert {each["status"] for each in answer["results"]} == {"awaiting_funding"}
        assert codes(answer) == [None] * 6
        duration_ms = answer["summary"].pop("duration_ms")
        assert answer["summary"] == {"total": 6, "successful": 6, "failed": 0}
        assert 0 < duration_ms < LONG_S * 1_000
        states = [await world.state(escrow_id) for escrow_id in ids(answer)]
        assert len({seat.wallet_id for state in states for seat in state.core.seats.values()}) == 18


async def test_the_address_is_told_once_both_parties_can_be_paid_out() -> None:
    async with with_wallets(init_wait_s=LONG_S) as (world, _):
        batch = body(map(order, range(2)))
        _, first = await world.ask("POST", BATCH, batch, key="k")
        assert [each["multisig_address"] for each in first["results"]] == [None, None]
        one, two = ids(first)
        await world.set_addresses(one, Role.BUYER, Role.VENDOR)
        await world.set_addresses(two, Role.BUYER)
        _, again = await world.ask("POST", BATCH, batch, key="k")
        shown = (await world.ask("GET", f"/api/escrows/{one}"))[1]["payin_address"]
        assert [each["multisig_address"] for each in again["results"]] == [shown, None]
        assert shown is not None


async def test_one_order_is_set_up_as_one_of_many() -> None:
    async with with_wallets(init_wait_s=LONG_S) as (world, _):
        wish = order(1)
        del wish["order_id"]
        status, answer = await world.ask("POST", "/api/orders/o-1/init-escrow", wish, key="k")
        assert (status, answer["order_id"], answer["status"]) == (201, "o-1", "awaiting_funding")
        assert (answer["multisig_address"], answer["error"]) == (None, None)
        assert await world.ask("POST", "/api/orders/o-1/init-escrow", wish, key="k") == (201, answer)
        status, problem = await world.ask("POST", "/api/orders/o-1/init-escrow", wish)
        assert (status, problem["code"]) == (409, "order_live")
        for path in ("/api/orders/o 1/init-escrow", f"/api/orders/{'x' * 129}/init-escrow"):
            status, problem = await world.ask("POST", path, wish)
            assert (status, problem["code"], problem["facts"]) == (422, "validation", {"path": "order_id"})


async def test_one_bad_order_fails_alone() -> None:
    async with house_world(init_wait_s=0, max_escrow_amount_atomic=AMOUNT, **PLENTY) as world:
        await world.create(order="o-4")
        orders = [
            order(0),
            order(1, amount=1.5),
            order(2, buyer_id="carol", vendor_id="dave"),
            order(3, vendor_id=BUYER),
            order(4),
            order(5, amount=AMOUNT + 1),
            order(0, amount=1),
            order(7, seats={}),
            order(8, order_id="a b"),
            "order",
            order(10, amount=10**40),
            order(11),
        ]
        status, answer = await world.ask("POST", BATCH, body(orders))
        assert status == 200
        assert codes(answer) == [
            None,
            "validation",
            "not_a_party",
            "three_must_differ",
            "order_live",
            "limit_amount",
            "order_repeated",
            "validation",
            "validation",
            "validation",
            "validation",
            None,
        ]
        assert [each["status"] for each in answer["results"]] == ["setting_up", *["failed"] * 10, "setting_up"]
        assert [each["order_id"] for each in answer["results"]][6:] == ["o-0", "o-7", None, None, "o-10", "o-11"]
        assert answer["results"][1]["error"]["facts"] == {"path": "orders[1].amount"}
        assert "facts" not in answer["results"][4]["error"], "whose escrow holds the order is nobody else's business"
        assert answer["summary"] | {"duration_ms": 0} == {"total": 12, "successful": 0, "failed": 10, "duration_ms": 0}
        assert (await world.state(ids(answer)[0])).core.terms.amount == AMOUNT


async def test_a_limit_is_filled_to_its_last_place_and_the_rest_are_told_so() -> None:
    async with house_world(init_wait_s=0, max_concurrent_escrows=7, max_beta_volume_atomic=10**18) as world:
        _, answer = await world.ask("POST", BATCH, body(map(order, range(40))))
        assert sorted(map(str, codes(answer))) == ["None"] * 7 + ["limit_concurrency"] * 33
        assert {each["error"]["status"] for each in answer["results"] if each["error"]} == {503}


async def test_a_marketplace_sets_up_orders_of_others_and_the_three_follow_them_on_the_stream() -> None:
    async with with_wallets(init_wait_s=LONG_S) as (world, _):
        headers = {"Authorization": f"Bearer {world.token(VENDOR)}"}
        async with (
            world.client.ws_connect("/api/stream?after=0", headers=headers) as socket,
            asyncio.timeout(PATIENCE_S),
        ):
            asked = world.ask("POST", BATCH, body(map(order, range(3))), user="shop", rights=(Right.MARKETPLACE,))
            asking = asyncio.create_task(asked)
            agreed = set[str]()
            while len(agreed) < 3:
                message = await socket.receive_json()
                if message["type"] == "address_agreed":
                    agreed.add(message["escrow_id"])
            _, answer = await asking
        assert agreed == set(ids(answer))
        assert answer["summary"]["successful"] == 3


# -- waiting -------------------------------------------------------------------------------------------------


async def test_what_is_not_ready_in_time_is_told_as_being_set_up_and_goes_on() -> None:
    async with with_wallets(init_wait_s=0) as (world, _):
        _, answer = await world.ask("POST", BATCH, body(map(order, range(3))), key="k")
        assert codes(answer) == [None] * 3
        assert answer["summary"]["failed"] == 0
        async with asyncio.timeout(PATIENCE_S):
            while answer["summary"]["successful"] < 3:
                assert {each["status"] for each in answer["results"]} <= {"setting_up", "awaiting_funding"}
                _, later = await world.ask("POST", BATCH, body(map(order, range(3))), key="k")
                assert ids(later) == ids(answer)
                answer = later


async def test_the_answer_comes_with_the_last_set_up_and_says_which_of_them_ended_badly() -> None:
    async with house_world(init_wait_s=LONG_S, **PLENTY) as world:
        asking = asyncio.create_task(world.ask("POST", BATCH, body(map(order, range(2)))))
        one, two = await created(world, 2)
        await world.ask("POST", f"/api/escrows/{one}/cancel")
        await world.set_up(two)
        async with asyncio.timeout(PATIENCE_S):
            _, answer = await asking
        told = {each["escrow_id"]: (each["status"], each["error"]) for each in answer["results"]}
        assert told[two] == ("awaiting_funding", None)
        assert told[one][0] == "cancelled"
        assert (told[one][1]["code"], told[one][1]["facts"]) == ("setup_ended", {"reason": "by_party"})
        assert (answer["summary"]["successful"], answer["summary"]["failed"]) == (1, 1)


async def test_a_client_that_goes_away_leaves_its_set_ups_running() -> None:
    async with with_wallets(init_wait_s=LONG_S) as (world, _):
        asking = asyncio.create_task(world.ask("POST", BATCH, body(map(order, range(3)))))
        await created(world, 3)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(PATIENCE_S):
            while (await states(world)) != ["awaiting_funding"] * 3:
                await asyncio.sleep(0.05)


async def test_whoever_waits_holds_no_connection_and_keeps_nobody_waiting(postgres_dsn: str) -> None:
    limits = msgspec.structs.replace(PATIENT, pool_max=2)
    store = await open_store(dsn=postgres_dsn, encryption_key=bytes(32), partitions=4, node_id="n", limits=limits)
    async with house_world(store=store, init_wait_s=LONG_S, **PLENTY) as world:
        batches = [body([order(number)]) for number in range(20)]
        asking = [asyncio.create_task(world.ask("POST", BATCH, each)) for each in batches]
        escrows = await created(world, 20)
        async with asyncio.timeout(PATIENCE_S):
            for escrow_id in escrows:
                assert (await world.ask("GET", f"/api/escrows/{escrow_id}"))[0] == 200
            assert not any(each.done() for each in asking)
            for escrow_id in escrows:
                assert (await world.ask("POST", f"/api/escrows/{escrow_id}/cancel"))[0] == 200
            answers = await asyncio.gather(*asking)
        assert [answer["results"][0]["status"] for _, answer in answers] == ["cancelled"] * 20


async def test_a_node_that_ends_lets_those_who_wait_go_with_the_truth() -> None:
    async with house_world(init_wait_s=LONG_S) as world:
        asking = asyncio.create_task(world.ask("POST", BATCH, body([order(1)])))
        await created(world, 1)
        await world.client.app.shutdown()
        async with asyncio.timeout(PATIENCE_S):
            _, answer = await asking
        assert [each["status"] for each in answer["results"]] == ["setting_up"]


async def test_when_too_many_wait_the_next_is_answered_at_once() -> None:
    async with house_world(init_wait_s=LONG_S, init_waiting_max=2, **PLENTY) as world:
        asking = asyncio.create_task(world.ask("POST", BATCH, body([order(1), order(2)])))
        made = await created(world, 2)
        await until_true(lambda: world.telemetry.registry.get_sample_value("setups_awaited") == 2)
        async with asyncio.timeout(PATIENCE_S):
            _, answer = await world.ask("POST", BATCH, body([order(3)]))
        assert [each["status"] for each in answer["results"]] == ["setting_up"]
        assert not asking.done()
        for escrow_id in made:
            await world.set_up(escrow_id)
        assert (await asking)[1]["summary"]["successful"] == 2


# -- once ----------------------------------------------------------------------------------------------------


async def test_the_same_batch_with_the_same_key_gives_the_same_escrows() -> None:
    async with house_world(init_wait_s=0, **PLENTY) as world:
        batch = body(map(order, range(10)))
        _, first = await world.ask("POST", BATCH, batch, key="k")
        racing = await asyncio.gather(*(world.ask("POST", BATCH, batch, key="k") for _ in range(5)))
        assert all(ids(answer) == ids(first) for _, answer in racing)
        assert len(await states(world)) == 10
        _, other = await world.ask("POST", BATCH, batch, key="l")
        assert set(codes(other)) == {"order_live"}


async def test_a_key_that_comes_with_another_batch_is_refused_and_changes_nothing() -> None:
    async with house_world(init_wait_s=0, **PLENTY) as world:
        await world.ask("POST", BATCH, body([order(1)]), key="k")
        for other in ([order(1), order(2)], [order(1, amount=AMOUNT + 1)], [order(2)]):
            status, problem = await world.ask("POST", BATCH, body(other), key="k")
            assert (status, problem["code"]) == (422, "idempotency_key_reused")
        assert len(await states(world)) == 1


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE_WRITE, Fault.LOST_AFTER_WRITE, Fault.UNAVAILABLE])
@pytest.mark.parametrize("count", [1, 3, 9])
async def test_a_batch_that_was_interrupted_is_finished_by_its_key(fault: Fault, count: int) -> None:
    """The appends behind the batch's first meet lost answers; what was answered once never changes."""
    async with house_world(init_wait_s=0, arbiters=_arbiters(), **PLENTY) as world:
        memory: Any = world.house.store.log
        memory.subscribe_wake(_Failing(memory, fault, count=count))
        made: dict[str, str] = {}
        for _ in range(20):
            status, answer = await world.ask("POST", BATCH, body(map(order, range(8))), key="k")
            assert status in (200, 503), answer
            for each in answer["results"] if status == 200 else ():
                if each["escrow_id"]:
                    assert made.setdefault(each["order_id"], each["escrow_id"]) == each["escrow_id"]
                else:
                    assert each["error"]["status"] == 503
            if len(made) == 8:
                break
        assert len(made) == 8
        assert len(await states(world)) == 8
        assert len(await memory.read_stream(LIVE_STREAM)) == 8


class _Failing:
    """Lets appends fail from the next commit on."""

    def __init__(self, memory: Any, fault: Fault, *, count: int) -> None:
        self._memory, self._faults = memory, [fault] * count

    def notify(self) -> None:
        while self._faults:
            self._memory.fail_next(self._faults.pop())


async def test_orders_refused_in_maintenance_are_made_by_the_same_key_after_it() -> None:
    async with house_world(init_wait_s=0, **PLENTY) as world:
        mode: dict[str, Any] = {"user": "root", "rights": (Right.ADMIN,)}
        await world.ask("POST", "/api/admin/maintenance-mode", {"enabled": True, "reason": "disks"}, **mode)
        _, answer = await world.ask("POST", BATCH, body(map(order, range(2))), key="k")
        assert [each["error"]["facts"] for each in answer["results"]] == [{"reason": "disks"}] * 2
        await world.ask("POST", "/api/admin/maintenance-mode", {"enabled": False}, **mode)
        _, answer = await world.ask("POST", BATCH, body(map(order, range(2))), key="k")
        assert codes(answer) == [None, None]


# -- what is no batch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({}, "validation"),
        ({"orders": []}, "validation"),
        ({"orders": {}}, "validation"),
        ({"orders": [order(1)], "wait": 5}, "validation"),
        ({"orders": [order(number) for number in range(6)]}, "batch_too_long"),
    ],
)
async def test_what_is_no_batch_is_refused_whole(wrong: dict[str, Any], code: str) -> None:
    async with house_world(init_wait_s=0, batch_orders_max=5) as world:
        status, problem = await world.ask("POST", BATCH, wrong, key="k")
        assert (status, problem["code"]) == (422, code)
        assert [head.position for head in await world.house.store.log.heads()] == [0] * 4


async def test_a_batch_needs_a_token() -> None:
    async with house_world() as world:
        assert (await world.ask("POST", BATCH, body([order(1)]), user=None))[0] == 401


# -- helpers -------------------------------------------------------------------------------------------------


async def created(world: World, count: int) -> list[str]:
    """Waits until so many escrows are there and names them, oldest order first."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            _, page = await world.ask("GET", "/api/escrows")
            if len(page["escrows"]) == count:
                return [each["escrow_id"] for each in sorted(page["escrows"], key=lambda each: str(each["order_id"]))]
            await asyncio.sleep(0.02)


async def states(world: World) -> list[str]:
    _, page = await world.ask("GET", "/api/escrows")
    return [each["state"] for each in page["escrows"]]


def _arbiters() -> tuple[Arbiter, ...]:
    return (Arbiter(user_id=ARBITER, address=address_of(Role.ARBITER)),)
