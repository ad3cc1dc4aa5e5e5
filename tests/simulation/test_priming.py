"""Free slots have a fresh wallet open; whoever sets up an escrow takes it, and nobody gets it twice."""

import asyncio

import pytest

from actors.ports import WalletRpc
from actors.simulation import SimWallet
from actors.slot_messages import DrainSlot
from actors.slots import SlotWanted
from domain.roles import THREE, Role
from domain.states import Completed, Escrow
from eventstore.api import LeaseRow
from eventstore.memory import MemoryTables
from eventstore.opening import memory_store
from eventstore.primed import PrimedRow
from service.node import Node
from tests import sim_world
from tests.patience import PATIENCE_S
from tests.sim_world import FAST, SimHost, SimWorld, create, pay_in, play_release, set_addresses, until, until_true


class Counted(SimHost):
    """Counts the wallets that are made, and can be held up."""

    made = 0
    open_to_makers = asyncio.Event()

    async def make_wallet(self, rpc: WalletRpc, name: str, *, password: str, wanted: asyncio.Event) -> None:
        go_on = asyncio.ensure_future(Counted.open_to_makers.wait())
        asked = asyncio.ensure_future(wanted.wait())
        await asyncio.wait({go_on, asked}, return_when=asyncio.FIRST_COMPLETED)
        for task in (go_on, asked):
            task.cancel()
        if wanted.is_set():
            raise SlotWanted
        Counted.made += 1
        await super().make_wallet(rpc, name, password=password, wanted=wanted)


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    monkeypatch.setattr(sim_world, "SimHost", Counted)
    Counted.made, Counted.open_to_makers = 0, asyncio.Event()
    Counted.open_to_makers.set()
    return Counted


def primed(node: Node) -> int:
    return sum(counts.primed for counts in node.slot_counts().values())


def wallets_of(state: Escrow) -> set[str]:
    return {str(state.core.seats[role].wallet_id) for role in THREE}


def opened(world: SimWorld) -> set[str | None]:
    return {wallet.opened for wallets in world.wallets.values() for wallet in wallets}


async def all_primed(node: Node, *, slots: int = 3) -> set[str]:
    """Waits until every slot is at rest with its wallet, and names the wallets."""
    async with asyncio.timeout(20):
        while True:
            free, leases = await node.store.primed.free(), await node.store.slot_leases.held()
            if len(free) == slots and all(_at_rest(leases[slot], row) for slot, row in free.items()):
                break
            await asyncio.sleep(0.01)
    await until_true(lambda: primed(node) == slots)
    return {row.name for row in free.values()}


def _at_rest(lease: LeaseRow, row: PrimedRow) -> bool:
    return lease.released and lease.fence == row.fence


async def test_a_set_up_takes_the_wallets_that_are_open_already_and_its_money_comes_out_again() -> None:
    world = SimWorld()
    async with world.running() as node:
        before = await all_primed(node)
        assert opened(world) == before
        escrow_id = await create(node)
        await set_addresses(node, escrow_id)
        assert wallets_of(await until(node, escrow_id, "awaiting_funding")) == before
        assert not before & await all_primed(node), "the slots have other wallets now"
        await pay_in(world, node, escrow_id)
        assert isinstance(await play_release(world, node, escrow_id), Completed)


async def test_every_escrow_gets_wallets_of_its_own() -> None:
    world = SimWorld(slots_per_role=2)
    async with world.running() as node:
        ids = [await create(node, escrow_id=f"esc_{number}") for number in range(8)]
        states = await asyncio.gather(*(until(node, each, "awaiting_funding") for each in ids))
        assert len(set[str]().union(*map(wallets_of, states))) == 8 * 3


async def test_a_primed_wallet_is_still_there_after_other_work_was_done_in_its_slot() -> None:
    world = SimWorld()
    async with world.running() as node:
        await all_primed(node)
        escrow_id = await create(node)
        await set_addresses(node, escrow_id)
        await until(node, escrow_id, "awaiting_funding")
        before = await all_primed(node)
        await pay_in(world, node, escrow_id)
        assert isinstance(await play_release(world, node, escrow_id), Completed)
        assert await all_primed(node) == before
    assert Counted.made == 6


async def test_a_restarted_service_goes_on_with_the_wallets_that_nobody_claimed() -> None:
    world = SimWorld()
    async with world.running() as node:
        before = await all_primed(node)
    for wallets in world.wallets.values():
        wallets[0].kill()
        wallets[0].restart()
    async with world.running() as node:
        await until_true(lambda: opened(world) == before)
        assert await all_primed(node) == before
    assert Counted.made == 3


async def test_two_nodes_prime_a_slot_once_between_them() -> None:
    world, tables = SimWorld(), MemoryTables(partitions=4)
    one, other = (memory_store(partitions=4, tables=tables, node_id=name) for name in ("one", "other"))
    async with world.running(store=one) as first, world.running(store=other) as second:
        await all_primed(first)
        await all_primed(second)
        fences = {name: row.fence for name, row in (await first.store.slot_leases.held()).items()}
        await asyncio.sleep(5 * FAST.supervisor.recheck_s)
        after = {name: row.fence for name, row in (await first.store.slot_leases.held()).items()}
        assert after == fences, "both know what the rows say, and leave the slots alone"
    assert Counted.made == 3


async def test_a_wallet_that_was_never_made_whole_is_swept_and_another_made() -> None:
    world = SimWorld()
    async with world.running() as node:
        before = await all_primed(node)
    for role in THREE:
        world.wallets[role][0].kill()
        world.wallets[role][0].restart()
        (name,) = world.folders[role].keys
        world.folders[role].caches.pop(name, None)
        world.folders[role].keys.pop(name)
    async with world.running() as node:
        await until_true(lambda: Counted.made == 6)
        assert not before & await all_primed(node)


async def test_who_needs_a_slot_does_not_wait_for_its_priming() -> None:
    world = SimWorld()
    Counted.open_to_makers.clear()
    async with world.running() as node:
        await until_true(lambda: all(counts.free == 0 for counts in node.slot_counts().values()))
        escrow_id = await create(node)
        await until(node, escrow_id, "awaiting_funding")
    assert Counted.made == 0


async def test_of_a_wallet_given_up_in_the_making_nothing_is_left_to_be_opened() -> None:
    world = SimWorld()
    Counted.open_to_makers.clear()
    async with world.running() as node:
        async with asyncio.timeout(PATIENCE_S):
            while not (begun := {row.name for row in (await node.store.primed.free()).values()}):
                await asyncio.sleep(0.01)
        await until(node, await create(node), "awaiting_funding")
        assert not begun & {row.name for row in (await node.store.primed.free()).values()}


async def test_a_slot_that_is_to_leave_does_not_wait_for_its_priming() -> None:
    world = SimWorld()
    Counted.open_to_makers.clear()
    async with world.running() as node:
        await until_true(lambda: all(counts.free == 0 for counts in node.slot_counts().values()))
        buyers = node.supervisors[Role.BUYER]
        await buyers.actor_ref.ask(DrainSlot(name="buyer-0"), timeout_s=PATIENCE_S)
        await until_true(lambda: not buyers.status())
    assert Counted.made == 0


async def test_a_free_slot_with_a_wallet_that_nobody_left_there_is_cleaned_before_it_is_used() -> None:
    world = SimWorld()
    async with world.running() as node:
        await all_primed(node)
        intruded: SimWallet = world.wallets[Role.BUYER][0]
        await intruded.close_wallet()
        await intruded.create_wallet("left", password="by somebody")
        escrow_id = await create(node)
        state = await until(node, escrow_id, "awaiting_funding")
        assert "left" not in wallets_of(state)


async def test_a_wallet_opened_by_somebody_else_in_place_of_a_claimed_one_is_never_taken_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = SimWorld()
    intruded: SimWallet = world.wallets[Role.BUYER][0]
    prepare, meddled = intruded.prepare_multisig, asyncio.Event()

    async def prepare_another() -> str:
        if not meddled.is_set():
            meddled.set()
            await intruded.close_wallet()
            await intruded.create_wallet("left", password="by somebody")
        return await prepare()

    async with world.running() as node:
        await all_primed(node)
        monkeypatch.setattr(intruded, "prepare_multisig", prepare_another)
        escrow_id = await create(node)
        state = await until(node, escrow_id, "awaiting_funding")
        assert meddled.is_set() and "left" not in wallets_of(state)
    intruded.kill()
    intruded.restart()
    await intruded.open_wallet("left", password="by somebody")
    assert not (await intruded.is_multisig()).multisig
