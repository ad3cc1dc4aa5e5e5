"""The number of slots follows their use: hours of it, on a loop whose waiting takes no time."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from actors.simulation import SimDaemon, SimWatch
from domain.roles import THREE
from eventstore.memory import MemoryTables
from eventstore.opening import Store, memory_store
from service.node import Node, NodeLimits
from service.pool_scaler import OwnScaler, PoolUse, scaling
from service.pool_size import PoolFile
from service.scaling import ScalingLimits
from tests.scaled_world import ScaledNode, SimFleet
from tests.sim_world import SimWorld, create, set_addresses, until
from tests.warp import WarpClock, WarpLoop

LIMITS = ScalingLimits()
FIRST = {f"{role.value}-0" for role in THREE}
SECOND = {f"{role.value}-1" for role in THREE}
HOUR_S = 3_600


def warped(story: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=WarpLoop) as runner:
        runner.run(story)


async def until_so(probe: Callable[[], bool]) -> float:
    """Waits until something holds and returns how long that took."""
    since = asyncio.get_running_loop().time()
    async with asyncio.timeout(HOUR_S):
        while not probe():
            await asyncio.sleep(1)
    return asyncio.get_running_loop().time() - since


def store_on_the_warp_clock() -> Store:
    return memory_store(partitions=1, tables=MemoryTables(partitions=1, clock=WarpClock().now))


def node_on(home: Path, store: Store, fleet: SimFleet, *, node_id: str = "node") -> ScaledNode:
    return ScaledNode(home, fleet=fleet, leases=store.slot_leases, clock=WarpClock(), limits=LIMITS, node_id=node_id)


def test_slots_that_are_needed_for_a_minute_become_three_more_and_idle_ones_are_ended_again(tmp_path: Path) -> None:
    async def story() -> None:
        world, fleet = SimWorld(clock=WarpClock(), limits=NodeLimits()), SimFleet()
        fleet.chain, fleet.folders, fleet.call_s = world.chain, world.folders, 0.5
        store = store_on_the_warp_clock()
        PoolFile(tmp_path).begin(least=1, most=2, keep=False)
        node = Node(
            store=store,
            clock=WarpClock(),
            network="regtest",
            slots=[fleet.slot(name) for name in sorted(FIRST)],
            daemon=SimDaemon(world.chain),
            watch=SimWatch(world.chain),
            limits=NodeLimits(),
        )
        await node.start()
        use = PoolUse(node.supervisors, leases=store.slot_leases)
        scaler = OwnScaler(use, file=PoolFile(tmp_path), fleet=fleet, node_id=store.node_id, lease_s=60)
        async with scaling(scaler, limits=use.limits):
            ids = [await create(node, escrow_id=f"esc_{number}") for number in range(20)]
            for each in ids:
                await set_addresses(node, each)
            took = await until_so(lambda: set(fleet.running) == FIRST | SECOND)
            assert LIMITS.up_s <= took <= 2 * LIMITS.up_s
            for each in ids:
                await until(node, each, "awaiting_funding", timeout_s=HOUR_S)
            await until_so(lambda: sum(counts.primed for counts in node.slot_counts().values()) == 6)
            left_open = {wallet.opened for name, wallet in fleet.running.items() if name in SECOND}
            took = await until_so(lambda: set(fleet.running) == FIRST)
            assert took <= LIMITS.down_s + LIMITS.up_s
            assert set(fleet.ended) == SECOND and dict(scaler.scalings) == {"up": 1, "down": 1}
            kept = {row.name for row in (await store.primed.free()).values()}
            assert left_open <= kept, "its fresh wallets wait for the slot to come back"
            await asyncio.sleep(2 * LIMITS.down_s)
            assert set(fleet.running) == FIRST and dict(scaler.scalings) == {"up": 1, "down": 1}
        await node.stop()

    warped(story())


def test_slots_that_left_come_back_and_serve(tmp_path: Path) -> None:
    async def story() -> None:
        fleet, store = SimFleet(), store_on_the_warp_clock()
        PoolFile(tmp_path).begin(least=1, most=2, keep=False)
        async with node_on(tmp_path, store, fleet).running() as node:
            for slots in (6, 3, 6):
                await node.scaler.scale_to(slots)
                await until_so(lambda slots=slots: len(node.names()) == len(fleet.running) == slots)  # type: ignore[misc]
            leased = [await (await node.wish(f"esc_{number}/buyer")) for number in range(2)]
            assert {each.slot.name for each in leased} == {"buyer-0", "buyer-1"}

    warped(story())


def test_a_slot_in_use_is_ended_only_when_it_is_given_back(tmp_path: Path) -> None:
    async def story() -> None:
        fleet, store = SimFleet(), store_on_the_warp_clock()
        PoolFile(tmp_path).begin(least=1, most=2, keep=False)
        async with node_on(tmp_path, store, fleet).running() as node:
            await node.scaler.scale_to(6)
            await until_so(lambda: set(fleet.running) == FIRST | SECOND)
            leased = {each.slot.name: each for each in [await (await node.wish(f"e{n}/buyer")) for n in range(2)]}
            await node.scaler.scale_to(3)
            await until_so(lambda: set(fleet.running) == {*FIRST, "buyer-1"})
            await asyncio.sleep(LIMITS.up_s / 2)
            leased["buyer-1"].hold.check()
            assert "buyer-1" in fleet.running
            node.give_back(leased["buyer-1"])
            await until_so(lambda: set(fleet.running) == FIRST)

    warped(story())


def test_nodes_that_decide_at_once_add_three_and_not_more(tmp_path: Path) -> None:
    async def story() -> None:
        fleet, store = SimFleet(), store_on_the_warp_clock()
        PoolFile(tmp_path).begin(least=1, most=4, keep=False)
        nodes = [node_on(tmp_path, store, fleet, node_id=f"n{number}") for number in range(3)]
        file = PoolFile(tmp_path)
        async with nodes[0].running(), nodes[1].running(), nodes[2].running():
            waiting = [await node.wish(f"esc_{at}_{n}/arbiter") for at in range(4) for n, node in enumerate(nodes)]
            before = file.read()
            for expected in (2, 3, 4):
                took = await until_so(lambda before=before: file.read() != before)  # type: ignore[misc]
                before = file.read()
                assert (before.slots_per_role, took >= LIMITS.up_s) == (expected, True)
            await asyncio.sleep(HOUR_S)
            assert file.read() == before, "never above the most"
            assert len(fleet.running) == 12 and sum(wish.done() for wish in waiting) == 4
            assert sum(node.scaler.scalings["up"] for node in nodes) == 3

    warped(story())


def test_a_size_asked_of_one_node_is_that_of_all_and_nothing_runs_beyond_it(tmp_path: Path) -> None:
    async def story() -> None:
        fleet, store = SimFleet(), store_on_the_warp_clock()
        PoolFile(tmp_path).begin(least=1, most=3, keep=False)
        first, second = (node_on(tmp_path, store, fleet, node_id=name) for name in ("a", "b"))
        async with first.running(), second.running():
            for slots in (9, 3, 6, 9, 3):
                await first.scaler.scale_to(slots)
                await until_so(lambda slots=slots: len(fleet.running) == slots)  # type: ignore[misc]
                await asyncio.sleep(LIMITS.look_s * 5)
                assert len(fleet.running) == slots
                assert first.names() == second.names() == set(fleet.running)

    warped(story())


def test_a_drained_slot_is_ended_on_every_node_and_comes_back_only_when_a_size_is_asked_for(tmp_path: Path) -> None:
    async def story() -> None:
        fleet, store = SimFleet(), store_on_the_warp_clock()
        PoolFile(tmp_path).begin(least=2, most=3, keep=False)
        first, second = (node_on(tmp_path, store, fleet, node_id=name) for name in ("a", "b"))
        async with first.running(), second.running():
            await until_so(lambda: len(fleet.running) == 6)
            assert await first.scaler.drain("buyer-0")
            assert not await first.scaler.drain("buyer-0") and not await second.scaler.drain("nobody")
            await until_so(lambda: "buyer-0" not in fleet.running)
            await asyncio.sleep(HOUR_S)
            assert set(fleet.running) == first.names() == second.names() == (FIRST | SECOND) - {"buyer-0"}
            await second.scaler.scale_to(6)
            await until_so(lambda: set(fleet.running) == FIRST | SECOND)

    warped(story())


def test_a_seat_whose_wallet_was_left_in_a_slot_that_is_no_more_is_served_elsewhere(tmp_path: Path) -> None:
    async def story() -> None:
        fleet, store = SimFleet(), store_on_the_warp_clock()
        PoolFile(tmp_path).begin(least=2, most=3, keep=False)
        dead = node_on(tmp_path, store, fleet)
        await until_so(lambda: len(fleet.running) == 6)
        for number in range(2):
            await (await dead.wish(f"esc_{number}/buyer"))
        rows = await store.slot_leases.held()
        seat = rows["buyer-1"].detail
        for supervisor in dead.supervisors.values():  # killed: nothing is given back
            await supervisor.actor_ref.stop(timeout_s=5)
        for name in fleet.known():  # as a world does at its start
            await fleet.end(name, fence=0)
        PoolFile(tmp_path).begin(least=1, most=3, keep=False)
        async with node_on(tmp_path, store, fleet).running() as node:
            wish = await node.wish(seat)
            await until_so(wish.done)
            assert wish.result().slot.name == "buyer-0"
            assert set(fleet.running) == FIRST

    warped(story())
