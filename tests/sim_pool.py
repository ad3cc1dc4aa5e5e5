"""A pool of simulated slots that several nodes share on one set of tables, each node on a machine of its own.

A slot's processes are named by leases and have a login each, as those of `SlotPrograms`; what is asked of them and done
to their files is told to a `Watchman`, who judges by the tables and the folders alone.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import msgspec

from actors.escrow import LostLease
from actors.mail import AskTimeout
from actors.ports import Clock, WalletRpc
from actors.simulation import Faults, SimChain, SimDaemon, SimFiles, SimFolder, SimWallet, SimWatch
from actors.slot_messages import AddSlot, DrainSlot
from actors.slots import Slot, SlotWanted
from domain.roles import THREE, Role
from eventstore.memory import MemoryTables
from eventstore.opening import memory_store
from service.node import Node, NodeLimits
from tests.machines import Machine, MachinesLoop
from tests.sim_watchman import DistantLeases, WatchedPrimed, Watchman

_T = TypeVar("_T")

PARTITIONS = 2
START_S, END_S, MAKE_S = 1.0, 0.1, 2.0
"""A process takes so long to start and to end, and a wallet to be made (measured)."""
ASK_S = 30.0


class PoolSlot:
    """One slot of the world: its processes, at most one a lease; they outlive nodes."""

    def __init__(self, name: str, role: Role, *, chain: SimChain, folder: SimFolder) -> None:
        self.name, self.role, self.folder, self.faults = name, role, folder, Faults()
        self._chain, self._runs = chain, list[SimWallet]()
        self._maker: asyncio.Task[None] | None = None

    def running(self) -> list[SimWallet]:
        """Lists the processes that run, the one under the newest lease last."""
        return sorted((each for each in self._runs if each.running), key=lambda each: each.fence)

    def start(self, fence: int) -> SimWallet:
        """Starts a process under a lease."""
        wallet = SimWallet(chain=self._chain, folder=self.folder, faults=self.faults)
        wallet.restart(fence=fence)
        self._runs = [*self.running(), wallet]
        return wallet

    def end(self, fence: int) -> None:
        """Ends politely what was started under a lease or an older one."""
        for wallet in self.running():
            if wallet.fence <= fence:
                wallet.terminate()
        self.end_maker()

    def begin_maker(self, name: str, *, password: str) -> "asyncio.Task[None]":
        """Has a program beside the processes make a wallet."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MachinesLoop)
        self.end_maker()
        self._maker = loop.begin(self._make(name, password=password), on=None)
        return self._maker

    def end_maker(self) -> None:
        """Kills that program."""
        if self._maker is not None:
            self._maker.cancel()

    async def _make(self, name: str, *, password: str) -> None:
        await asyncio.sleep(MAKE_S)
        made = SimWallet(chain=self._chain, folder=self.folder)
        await made.create_wallet(name, password=password)
        made.terminate()


class PoolHost:
    """Runs a slot's processes for one node; implements `SlotHost` as `SlotPrograms` does."""

    def __init__(self, slot: PoolSlot, *, watchman: Watchman, machine: Machine) -> None:
        self._slot, self._watchman, self._machine = slot, watchman, machine
        self._one_at_a_time = asyncio.Lock()

    async def reach(self, *, fence: int, clean: bool, before_call: Callable[[], None]) -> WalletRpc:
        """Returns a client of the newest process, ended first unless `clean`; raises `LostLease`."""
        async with self._one_at_a_time:
            running = self._slot.running()
            if running and running[-1].fence > fence:
                raise LostLease
            if running and clean:
                wallet = running[-1]
            else:
                await asyncio.sleep(END_S)
                self._slot.end(fence)
                await asyncio.sleep(START_S)
                wallet = self._slot.start(fence)
            return wallet.client(partial(self._look, fence, before_call))

    async def make_wallet(self, rpc: WalletRpc, name: str, *, password: str, wanted: asyncio.Event) -> None:
        """Has a wallet made beside the process and opens it; raises `SlotWanted`."""
        maker = self._slot.begin_maker(name, password=password)
        asked = asyncio.ensure_future(wanted.wait())
        try:
            await asyncio.wait({maker, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not maker.done():
                raise SlotWanted
        finally:
            asked.cancel()
            maker.cancel()
        await rpc.open_wallet(name, password=password)

    def shows(self, name: str) -> None:
        """Needs not know."""

    def silent(self) -> bool:
        """Whether the process is stopped or gone."""
        running = self._slot.running()
        return not running or running[-1].stopped

    def _look(self, fence: int, before_call: Callable[[], None]) -> None:
        before_call()
        self._watchman.looked(self._slot.name, fence)
        self._watchman.stumble(self._machine)


class PoolFiles(SimFiles):
    """A role's folder in the hands of one node's slot."""

    def __init__(self, slot: PoolSlot, *, watchman: Watchman, node_id: str) -> None:
        super().__init__(slot.folder)
        self._slot, self._watchman, self._node_id = slot, watchman, node_id

    def save(self, name: str, *, label: str) -> None:
        self._changes()
        super().save(name, label=label)

    def restore(self, name: str, *, label: str) -> None:
        self._changes()
        super().restore(name, label=label)

    def drop_saved(self, name: str) -> None:
        self._changes()
        super().drop_saved(name)

    def remove(self, name: str) -> None:
        self._changes()
        super().remove(name)

    def drop_cache(self, name: str) -> None:
        self._changes()
        super().drop_cache(name)

    def _changes(self) -> None:
        self._watchman.changes_files(self._slot.name, self._node_id)


class PoolNode:
    """One node on its machine."""

    def __init__(self, pool: "Pool", name: str) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MachinesLoop)
        self.name, self.machine, self._pool = name, loop.machine(), pool
        self.node: Node | None = None
        self._one_change, self._changes = asyncio.Lock(), list[asyncio.Task[None]]()

    @property
    def ready(self) -> bool:
        """Whether it can be asked for something."""
        return self.node is not None and self.machine.at_work

    async def start(self) -> None:
        """Starts it."""
        await self.machine.run(self._started())

    async def ask(self, call: Callable[[Node], Coroutine[Any, Any, _T]]) -> _T:
        """Asks it for something; raises `TimeoutError` when nothing is heard of it any more."""
        assert self.node is not None
        asked = self.machine.run(call(self.node))
        async with asyncio.timeout(ASK_S):
            return await asyncio.shield(asked)

    async def _started(self) -> None:
        pool = self._pool
        store = memory_store(partitions=PARTITIONS, tables=pool.tables, node_id=self.name)
        known = list(pool.slots.values())
        watched = msgspec.structs.replace(
            store,
            primed=WatchedPrimed(store.primed, pool.watchman),
            slot_leases=DistantLeases(store.slot_leases),
            seat_leases=DistantLeases(store.seat_leases),
        )
        node = Node(
            store=watched,
            clock=pool.clock,
            network="regtest",
            slots=[self.slot(each) for each in known],
            daemon=SimDaemon(pool.chain),
            watch=SimWatch(pool.chain),
            limits=NodeLimits(prime_at_once=2),
        )
        await node.start()
        self.node = node
        for slot in list(pool.slots.values())[len(known) :]:  # what came while it started
            self.tell(partial(self.add, slot))
        for name in sorted(pool.leaving):
            self.tell(partial(self.drain, name))

    def slot(self, slot: PoolSlot) -> Slot:
        """Makes this node's view of a slot."""
        watchman = self._pool.watchman
        return Slot(
            name=slot.name,
            role=slot.role,
            files=PoolFiles(slot, watchman=watchman, node_id=self.name),
            host=PoolHost(slot, watchman=watchman, machine=self.machine),
        )

    def tell(self, change: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Has its slots changed, after the changes it was told of before."""
        self._changes.append(self.machine.run(self._in_turn(change)))

    async def add(self, slot: PoolSlot) -> None:
        """Takes a slot in."""
        await self._ask(slot.role, AddSlot(slot=self.slot(slot)))

    async def drain(self, name: str) -> None:
        """Lets a slot go."""
        await self._ask(self._pool.slots[name].role, DrainSlot(name=name))

    async def _in_turn(self, change: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with self._one_change:
            await change()

    async def _ask(self, role: Role, message: object) -> None:
        """Asks a supervisor, again when this machine stood still meanwhile."""
        assert self.node is not None
        while True:
            try:
                await self.node.supervisors[role].actor_ref.ask(message, timeout_s=ASK_S)
                return
            except AskTimeout:
                continue


class Pool:
    """What outlives nodes: chain, folders, slots, tables. And the nodes."""

    def __init__(self, *, seed: int, slots_per_role: int, clock: Clock) -> None:
        self.clock, self.chain = clock, SimChain(seed=seed)
        self.folders = {role: SimFolder() for role in THREE}
        self.tables = MemoryTables(partitions=PARTITIONS, clock=clock.now)
        self.slots: dict[str, PoolSlot] = {}
        self.leaving: set[str] = set()
        self.nodes: list[PoolNode] = []
        self.watchman = Watchman(self.tables, self.slots)
        for role in THREE:
            for _ in range(slots_per_role):
                self.new_slot(role)

    def new_slot(self, role: Role) -> PoolSlot:
        """Adds a slot to the world; nodes that run have to be told."""
        name = f"{role}-{len(self.slots)}"
        self.slots[name] = PoolSlot(name, role, chain=self.chain, folder=self.folders[role])
        return self.slots[name]

    async def begin(self, name: str) -> PoolNode:
        """Starts a node."""
        node = PoolNode(self, name)
        self.nodes.append(node)
        await node.start()
        return node

    def kill(self, node: PoolNode) -> None:
        """Kills a node without grace."""
        node.machine.kill()
        self.nodes.remove(node)
        if node.node is not None:
            log = node.node.store.log
            self.tables.nodes = [each for each in self.tables.nodes if each is not log]
