"""A wallet that cannot be opened is told in the log, and the turn is tried again until it can."""

import asyncio
import dataclasses

import pytest
from msgspec.structs import replace

from actors.simulation import Fault
from actors.simulation.chain import START_HEIGHT
from domain import commands as c
from domain.ids import Micros
from domain.roles import Role
from eventstore.api import Recorded
from service.node import Node
from tests.given import BUYER
from tests.sim_world import FAST, SimWorld, create, pay_in, play_release, set_addresses, tell, until, until_true


async def types_of(node: Node, escrow_id: str) -> list[str]:
    recorded: list[Recorded] = list(await node.store.log.read_stream(escrow_id))
    return [each.type for each in recorded]


async def test_a_refused_opening_is_recorded_and_tried_again():
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await create(node)
        await set_addresses(node, escrow_id)
        await until(node, escrow_id, "awaiting_funding")
        world.wallets[Role.BUYER][0].faults.plan("open_wallet", Fault.REFUSED, times=1)
        await pay_in(world, node, escrow_id)
        await play_release(world, node, escrow_id)
        assert "turn_failed" in await types_of(node, escrow_id)


async def test_a_failed_turn_that_is_asked_of_nobody_any_more_is_forgotten() -> None:
    world = SimWorld()
    async with world.running() as node:
        world.wallets[Role.BUYER][0].faults.plan("prepare_multisig", Fault.REFUSED, times=1_000_000)
        escrow_id = await create(node)
        await until_true(lambda: (escrow_id, Role.BUYER) in node._finder._pauses)
        await tell(node, escrow_id, c.CancelEscrow(at=Micros(node.clock.now()), by=BUYER))
        await until(node, escrow_id, "cancelled")
        await until_true(lambda: not node._finder._pauses)


async def test_a_wallet_made_by_a_process_that_died_half_way_is_opened_by_its_keys():
    world = SimWorld()
    folder = world.folders[Role.VENDOR]
    world.wallets[Role.VENDOR][0].faults.plan("prepare_multisig", Fault.KILLED_AFTER, times=3)
    async with world.running() as node:
        escrow_id = await create(node)
        await until_true(lambda: bool(folder.caches))
        for name, cache in folder.caches.items():
            folder.caches[name] = replace(cache, password="torn")
        await until(node, escrow_id, "awaiting_funding")


async def test_a_wallet_during_whose_making_the_daemon_went_away_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = SimWorld(limits=dataclasses.replace(FAST, prime_at_once=0))
    maker = world.wallets[Role.BUYER][0]
    create_wallet, blind = maker.create_wallet, list[str]()

    async def create_without_daemon(name: str, *, password: str) -> None:
        world.chain.online = bool(blind)
        blind.append(name)
        await create_wallet(name, password=password)
        asyncio.get_running_loop().call_later(0.2, setattr, world.chain, "online", True)

    monkeypatch.setattr(maker, "create_wallet", create_without_daemon)
    async with world.running() as node:
        escrow_id = await create(node)
        await until(node, escrow_id, "awaiting_funding")
    assert len(blind) == 2
    assert {keys.restore_height for keys in world.folders[Role.BUYER].keys.values()} == {START_HEIGHT}
