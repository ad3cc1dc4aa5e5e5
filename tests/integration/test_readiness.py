"""An arbiter's readiness through the doors: no address is shown to a buyer whose arbiter is not there."""

import asyncio
from typing import Any

from actors.clock import SystemClock
from actors.desk import Desk, derived_id
from actors.escrow import Answer
from domain.arbiters import ArbiterSeen
from domain.commands import AnyCommand
from domain.ids import CommandId, EscrowId, Micros
from domain.roles import Role
from domain.terms import Policy
from eventstore.api import Fence
from service.api.door import ARBITERS
from service.arbiters import Arbiters
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
    await ReadinessKeeper(arbiters_of(world), rows=rows, desk=house.desk, clock=house.clock).look()


class Listening(Desk):
    """The house's desk, and how often it was asked."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self.asked = desk, 0

    async def handle(
        self,
        escrow_id: EscrowId,
        command: AnyCommand,
        *,
        command_id: CommandId,
        actor: str,
        body_hash: str = "",
        fence: Fence | None = None,
    ) -> Answer:
        self.asked += 1
        return await self._desk.handle(
            escrow_id, command, command_id=command_id, actor=actor, body_hash=body_hash, fence=fence
        )


class Hurried(SystemClock):
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 200)


class Stumbling(ReadinessKeeper):
    """Meets something unforeseen the first time it looks."""

    looks = 0
    again: asyncio.Event

    async def look(self) -> None:
        self.looks += 1
        if self.looks == 1:
            raise RuntimeError
        await super().look()
        self.again.set()


def arbiters_of(world: World) -> Arbiters:
    assert world.client.app is not None
    return world.client.app[ARBITERS]


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


async def test_an_escrow_hears_of_each_sign_of_life_once_however_often_is_looked() -> None:
    async with house_world(**ASKS) as world:
        escrow_id = await ready_to_pay(world)
        await looked(world, escrow_id)
        long_ago = ArbiterSeen(at=Micros(world.now() - 7_200_000_000), arbiter=ARBITER)
        await arbiters_of(world).say(long_ago, by=ARBITER, command_id=derived_id("seen"))
        desk = Listening(world.house.desk)
        keeper = ReadinessKeeper(arbiters_of(world), rows=world.house.models.rows, desk=desk, clock=world.house.clock)
        for _ in range(3):
            await keeper.look()
        assert (desk.asked, (await facts_of(world, escrow_id))["payin_address"]) == (1, None)
        await say(world, "heartbeat", {})
        assert await shown(world, escrow_id) == ADDRESS


async def test_what_nobody_foresaw_ends_one_look_and_not_all_that_come() -> None:
    async with house_world(**ASKS) as world:
        house = world.house
        keeper = Stumbling(arbiters_of(world), rows=house.models.rows, desk=house.desk, clock=Hurried())
        keeper.again = asyncio.Event()
        keeping = asyncio.get_running_loop().create_task(keeper.run())
        async with asyncio.timeout(PATIENCE_S):
            await keeper.again.wait()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
