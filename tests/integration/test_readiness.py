"""An arbiter's readiness through the doors: no address is shown to a buyer whose arbiter is not there."""

import asyncio
from typing import Any

from domain.roles import Role
from domain.terms import Policy
from service.api.door import ARBITERS
from service.auth import Right
from service.readiness import ReadinessKeeper
from tests.given import ADDRESS, ARBITER, VENDOR
from tests.patience import PATIENCE_S
from tests.worlds import World, house_world

ASKS: dict[str, Any] = {"figures": Policy(arbiter_ready_s=3_600)}
"""Escrows ask for readiness, though none was asked for when they were created."""
ADMIN: dict[str, Any] = {"user": "root", "rights": (Right.ADMIN,)}


async def facts_of(world: World, escrow_id: str) -> Any:
    return (await world.ask("GET", f"/api/escrows/{escrow_id}"))[1]


async def say(world: World, path: str, body: object, **who: Any) -> None:
    assert (await world.ask("POST", f"/api/arbiters/{path}", body, **(who or {"user": ARBITER})))[0] == 200


async def shown(world: World, escrow_id: str) -> str:
    async with asyncio.timeout(PATIENCE_S):
        while (address := (await facts_of(world, escrow_id))["payin_address"]) is None:
            await asyncio.sleep(0.05)
    return str(address)


async def looked(world: World, escrow_id: str) -> None:
    """Returns once a keeper has seen that this escrow awaits its arbiter, and has looked for the arbiter."""
    rows, house = world.house.models.rows, world.house
    async with asyncio.timeout(PATIENCE_S):
        while escrow_id not in {row.escrow_id for row in await rows.unready(after=None, limit=10)}:
            await asyncio.sleep(0.05)
    app = world.client.app
    assert app is not None
    await ReadinessKeeper(app[ARBITERS], rows=rows, desk=house.desk, clock=house.clock).look()


async def ready_to_pay(world: World) -> str:
    escrow_id = await world.create()
    await world.set_addresses(escrow_id)
    await world.set_up(escrow_id)
    return escrow_id


async def test_the_address_comes_with_the_arbiters_sign_of_life_and_stays() -> None:
    async with house_world(**ASKS) as world:
        escrow_id = await ready_to_pay(world)
        facts = await facts_of(world, escrow_id)
        assert (facts["state"], facts["payin_address"]) == ("awaiting_funding", None)
        assert [(each["who"], each["what"]) for each in facts["awaited"]] == [("arbiter", "be_ready")]
        assert ADDRESS not in str(facts)
        await say(world, "heartbeat", {})
        assert await shown(world, escrow_id) == ADDRESS
        await say(world, "holiday", {"until": "2099-01-01T00:00:00Z", "delegate": None})
        assert (await facts_of(world, escrow_id))["payin_address"] == ADDRESS


async def test_a_conflict_or_a_holiday_said_after_the_creation_keeps_the_address_back() -> None:
    async with house_world(arbiter_ready_s=3_600) as world:
        await say(world, "heartbeat", {})
        conflicted = await world.create()
        await say(world, "conflicts", {"party": VENDOR})
        await world.set_addresses(conflicted)
        await world.set_up(conflicted)
        await looked(world, conflicted)
        assert (await facts_of(world, conflicted))["payin_address"] is None
        await say(world, "holiday", {"until": "2099-01-01T00:00:00Z", "delegate": None})
        await say(world, "conflicts/withdraw", {"party": VENDOR, "arbiter_id": ARBITER}, **ADMIN)
        await looked(world, conflicted)
        assert (await facts_of(world, conflicted))["payin_address"] is None
        await say(world, "holiday", {"until": None, "delegate": None})
        assert await shown(world, conflicted) == ADDRESS


async def test_readiness_is_asked_once_both_parties_can_be_paid() -> None:
    async with house_world(arbiter_ready_s=3_600) as world:
        await say(world, "heartbeat", {})
        escrow_id = await world.create()
        await world.set_addresses(escrow_id, Role.BUYER, Role.ARBITER)
        await world.set_up(escrow_id)
        waits = (await facts_of(world, escrow_id))["awaited"]
        assert {(each["who"], each["what"]) for each in waits} >= {("vendor", "set_payout_address")}
        assert ("arbiter", "be_ready") not in {(each["who"], each["what"]) for each in waits}
        await world.set_addresses(escrow_id, Role.VENDOR)
        assert await shown(world, escrow_id) == ADDRESS
        types = [each["type"] for each in (await facts_of(world, escrow_id))["history"]]
        assert types.count("arbiter_ready") == 1
