"""Maintenance mode: new escrows are refused with its reason, running ones go on, on every node and over restarts."""

import asyncio
from typing import Any

import pytest

from domain.limits import MAINTENANCE_STREAM
from eventstore.memory import Fault, MemoryTables
from eventstore.opening import Store, memory_store, open_store
from service.auth import Right
from tests.given import AMOUNT, BUYER, VENDOR
from tests.patience import PATIENT
from tests.worlds import World, house_world

PATH = "/api/admin/maintenance-mode"
ORDER: dict[str, Any] = {"order_id": "o-9", "buyer_id": BUYER, "vendor_id": VENDOR, "amount": AMOUNT}
ROOT: dict[str, Any] = {"user": "root", "rights": (Right.ADMIN,)}
ON: dict[str, Any] = {"enabled": True, "reason": "new disks"}


async def test_maintenance_refuses_new_escrows_with_its_reason_and_running_ones_go_on() -> None:
    async with house_world() as world:
        escrow_id = await world.create()
        await _set(world, ON)
        status, problem = await world.ask("POST", "/api/escrows", ORDER, key="m")
        assert (status, problem["code"], problem["facts"]) == (503, "maintenance", {"reason": "new disks"})
        assert (await world.ask("POST", f"/api/escrows/{escrow_id}/cancel"))[0] == 200
        await _set(world, {"enabled": False})
        assert (await world.ask("POST", "/api/escrows", ORDER, key="m"))[0] == 201


async def test_who_is_refused_is_told_when_to_come_back() -> None:
    async with house_world() as world:
        await _set(world, ON)
        headers = {"Authorization": f"Bearer {world.token(BUYER)}"}
        async with world.client.post("/api/escrows", json=ORDER, headers=headers) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_a_creation_that_was_answered_before_is_answered_the_same_during_maintenance() -> None:
    async with house_world() as world:
        first = await world.ask("POST", "/api/escrows", ORDER, key="k")
        await _set(world, ON)
        assert await world.ask("POST", "/api/escrows", ORDER, key="k") == first


async def test_its_state_says_why_since_when_and_by_whom() -> None:
    async with house_world() as world:
        nothing = {"enabled": False, "reason": "", "since": None, "by": None}
        assert await world.ask("GET", PATH, **ROOT) == (200, nothing)
        begun = await _set(world, ON)
        assert (begun["enabled"], begun["reason"], begun["by"]) == (True, "new disks", "root")
        assert (await world.ask("GET", PATH, **ROOT))[1] == begun
        ended = await _set(world, {"enabled": False, "reason": "done"})
        assert (ended["enabled"], ended["reason"]) == (False, "")
        assert ended["since"] >= begun["since"]


async def test_the_same_again_adds_no_event_and_a_new_reason_one() -> None:
    async with house_world() as world:
        first = await _set(world, ON)
        assert await _set(world, ON) == first
        assert await _set(world, ON, key="k") == first
        assert len(await world.house.store.log.read_stream(MAINTENANCE_STREAM)) == 1
        await _set(world, ON | {"reason": "still new disks"})
        assert len(await world.house.store.log.read_stream(MAINTENANCE_STREAM)) == 2


async def test_a_key_is_answered_as_at_first_though_it_ended_since() -> None:
    async with house_world() as world:
        first = await _set(world, ON, key="k")
        await _set(world, {"enabled": False}, key="l")
        assert await _set(world, ON, key="k") == first
        assert (await world.ask("GET", PATH, **ROOT))[1]["enabled"] is False
        status, problem = await world.ask("POST", PATH, ON | {"reason": "other"}, key="k", **ROOT)
        assert (status, problem["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "enabled"),
        ({"enabled": "yes"}, "enabled"),
        ({"enabled": True}, "reason"),
        ({"enabled": True, "reason": " \n"}, "reason"),
        ({"enabled": True, "reason": "x" * 501}, "reason"),
        ({"enabled": False, "until": 1}, "until"),
    ],
)
async def test_a_wish_of_the_wrong_form_is_refused_and_changes_nothing(body: dict[str, Any], path: str) -> None:
    async with house_world() as world:
        status, problem = await world.ask("POST", PATH, body, **ROOT)
        assert (status, problem["code"]) == (422, "validation")
        assert path in problem["facts"]["path"] + problem["detail"]
        assert not await world.house.store.log.read_stream(MAINTENANCE_STREAM)


@pytest.mark.parametrize("rights", [(), (Right.MARKETPLACE,), (Right.ARBITER,)])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_it_is_the_administrators_alone(method: str, rights: tuple[Right, ...]) -> None:
    async with house_world() as world:
        status, problem = await world.ask(method, PATH, ON if method == "POST" else None, rights=rights)
        assert (status, problem["code"]) == (403, "right_missing")
        assert (await world.ask(method, PATH, user=None))[0] == 401


async def test_administrators_who_come_at_once_leave_one_event_for_each_change() -> None:
    async with house_world() as world:
        await asyncio.gather(*(_set(world, ON, key=f"k-{number % 5}") for number in range(20)))
        assert len(await world.house.store.log.read_stream(MAINTENANCE_STREAM)) == 1


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE_WRITE, Fault.LOST_AFTER_WRITE, Fault.UNAVAILABLE])
async def test_an_answer_that_was_lost_is_found_by_asking_again(fault: Fault) -> None:
    async with house_world() as world:
        memory: Any = world.house.store.log
        memory.fail_next(fault)
        for _ in range(10):
            status, state = await world.ask("POST", PATH, ON, key="k", **ROOT)
            if status == 200:
                break
            assert status == 503, state
        assert state["enabled"] is True
        assert len(await memory.read_stream(MAINTENANCE_STREAM)) == 1


async def test_another_node_refuses_from_the_same_moment() -> None:
    tables = MemoryTables(partitions=4)
    async with (
        house_world(store=memory_store(partitions=4, tables=tables)) as one,
        house_world(store=memory_store(partitions=4, tables=tables)) as two,
    ):
        await two.create()
        await _set(one, ON)
        assert (await two.ask("POST", "/api/escrows", ORDER))[1]["code"] == "maintenance"


async def test_it_survives_a_restart(postgres_dsn: str) -> None:
    async with house_world(store=await _store(postgres_dsn)) as world:
        begun = await _set(world, ON)
    async with house_world(store=await _store(postgres_dsn)) as world:
        assert (await world.ask("POST", "/api/escrows", ORDER))[1]["code"] == "maintenance"
        assert (await world.ask("GET", PATH, **ROOT))[1] == begun


async def _store(dsn: str) -> Store:
    return await open_store(dsn=dsn, encryption_key=bytes(32), partitions=4, node_id="n", limits=PATIENT)


async def _set(world: World, body: dict[str, Any], *, key: str | None = None) -> Any:
    status, state = await world.ask("POST", PATH, body, key=key, **ROOT)
    assert status == 200, state
    return state
