"""No deadline runs out over what nobody could see: a daemon that is away, a service that was."""

import asyncio

import msgspec

from actors.clock import SystemClock
from domain.ids import EscrowId
from domain.states import money_of
from eventstore.api import LogUnavailable, Vault
from eventstore.opening import memory_store
from schemas.sealing import SealedKind
from service.node import Node
from tests.given import AMOUNT
from tests.sim_world import SimWorld, create, set_addresses, until, until_true

DAYS_30 = 30 * 24 * 3_600 * 1_000_000
"""Longer than anybody waits for a deposit, in microseconds."""


class ShiftedClock(SystemClock):
    """The machine's time, and a number of microseconds that a test can change."""

    ahead = 0

    def now(self) -> int:
        return super().now() + self.ahead


async def awaiting(world: SimWorld, clock: ShiftedClock) -> EscrowId:
    """Brings an escrow to where it waits for money, and ends the node; 30 days pass."""
    async with world.running() as node:
        escrow_id = await create(node)
        await set_addresses(node, escrow_id)
        await until(node, escrow_id, "awaiting_funding")
    clock.ahead += DAYS_30
    return escrow_id


async def test_a_deposit_made_while_the_service_was_away_comes_before_the_deadline_that_ran_out_meanwhile():
    clock = ShiftedClock()
    world = SimWorld(clock=clock)
    escrow_id = await awaiting(world, clock)
    world.chain.online = False
    async with world.running() as node:
        money = money_of(await until(node, escrow_id, "awaiting_funding"))
        assert money is not None
        world.chain.pay(money.address, AMOUNT)
        world.chain.mine(10)
        await blind_for_some_looks(node)
        assert money_of(await until(node, escrow_id, "awaiting_funding")) == money
        world.chain.online = True
        await until(node, escrow_id, "funded")


async def test_without_a_deposit_the_deadline_runs_out_as_soon_as_the_chain_was_seen():
    clock = ShiftedClock()
    world = SimWorld(clock=clock)
    escrow_id = await awaiting(world, clock)
    world.chain.online = False
    async with world.running() as node:
        await blind_for_some_looks(node)
        await until(node, escrow_id, "awaiting_funding")
        world.chain.online = True
        await until(node, escrow_id, "cancelled")


async def blind_for_some_looks(node: Node) -> None:
    await until_true(lambda: node.watcher.blindness is not None)
    for _ in range(10):
        await asyncio.sleep(node._limits.time_look_s)
        assert not node.watcher.sees


class VaultAway:
    """A vault that opens no view key while it is away, and counts how often it was asked."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self.seal, self.tag, self.check, self.shred = vault.seal, vault.tag, vault.check, vault.shred
        self.away, self.asked = True, 0

    async def open(self, stream_id: str, *, event: str, field: str, sealed: str) -> bytes:
        if self.away and event == SealedKind.VIEW_KEY:
            self.asked += 1
            raise LogUnavailable("away")
        return await self._vault.open(stream_id, event=event, field=field, sealed=sealed)


async def test_an_escrow_whose_view_key_cannot_be_opened_just_now_is_not_cancelled_over_a_deposit_on_chain():
    clock = ShiftedClock()
    store = memory_store(partitions=4)
    world = SimWorld(store=lambda: store, clock=clock)
    escrow_id = await awaiting(world, clock)
    vault = VaultAway(store.vault)
    async with world.running(store=msgspec.structs.replace(store, vault=vault)) as node:
        money = money_of(await until(node, escrow_id, "awaiting_funding"))
        assert money is not None
        world.chain.pay(money.address, AMOUNT)
        world.chain.mine(10)
        before = vault.asked
        await until_true(lambda: vault.asked > before + 10)
        assert node.watcher.sees, "the others are seen"
        await until(node, escrow_id, "awaiting_funding")
        vault.away = False
        await until(node, escrow_id, "funded")
