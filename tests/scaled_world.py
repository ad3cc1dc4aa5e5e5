"""Simulated wallet processes that come and go with the size of a pool, and nodes that follow it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from actors.ports import Clock, WalletRpc
from actors.simulation import Fault, SimChain, SimFiles, SimFolder, SimWallet
from actors.slot_messages import GiveBack, SupervisorLimits, TakeSlot
from actors.slots import LeasedSlot, Slot
from actors.supervisor import RoleSupervisor
from domain.roles import THREE, Role
from eventstore.api import Leases
from service.own_slots import role_of
from service.pool_scaler import OwnScaler, PoolUse, scaling
from service.pool_size import PoolFile
from service.scaling import ScalingLimits
from tests.patience import PATIENCE_S


class SimFleet:
    """The processes of a world by the names of their slots; all its nodes share them. A `Fleet`."""

    def __init__(self, chain: SimChain | None = None, folders: Mapping[Role, SimFolder] | None = None) -> None:
        self.chain, self.folders = chain or SimChain(), folders or {role: SimFolder() for role in THREE}
        self.running: dict[str, SimWallet] = {}
        self.started: list[str] = []
        self.ended: list[str] = []
        self.call_s = 0.0
        """How long each call to a wallet takes."""

    def slot(self, name: str) -> Slot:
        """Makes a slot of that name for one node."""
        role = role_of(name)
        return Slot(name=name, role=role, files=SimFiles(self.folders[role]), host=FleetHost(self, name))

    def known(self) -> frozenset[str]:
        """Names the slots whose processes run."""
        return frozenset(self.running)

    async def end(self, name: str, *, fence: int) -> None:
        """Ends a process politely."""
        if name in self.running:
            self.ended.append(name)
            self.running.pop(name).terminate()

    def process(self, name: str) -> SimWallet:
        """Returns the process of a slot, started where none runs."""
        if name not in self.running:
            self.started.append(name)
            self.running[name] = SimWallet(chain=self.chain, folder=self.folders[role_of(name)])
            if self.call_s:
                self.running[name].faults.plan("*", Fault.LATE, times=1_000_000, seconds=self.call_s)
        return self.running[name]


class FleetHost:
    """One slot's host on one node."""

    def __init__(self, fleet: SimFleet, name: str) -> None:
        self._fleet, self._name = fleet, name

    async def reach(self, *, fence: int, clean: bool, before_call: Callable[[], None]) -> SimWallet:
        wallet = self._fleet.process(self._name)
        if not clean:
            wallet.terminate()
            wallet.restart()
        return wallet

    async def make_wallet(self, rpc: WalletRpc, name: str, *, password: str, wanted: asyncio.Event) -> None:
        await rpc.create_wallet(name, password=password)

    def shows(self, name: str) -> None:
        pass

    def silent(self) -> bool:
        return self._name not in self._fleet.running


class ScaledNode:
    """The supervisors of one node and its scaler; seats take slots and give them back."""

    def __init__(
        self,
        home: Path,
        *,
        fleet: SimFleet,
        leases: Leases,
        clock: Clock,
        limits: ScalingLimits,
        node_id: str = "node",
        supervisor: SupervisorLimits | None = None,
    ) -> None:
        self.file, self.fleet = PoolFile(home), fleet
        self.supervisors = {
            role: RoleSupervisor(
                role,
                [fleet.slot(name) for name, of in self.file.read().names().items() if of is role],
                leases=leases,
                node_id=node_id,
                clock=clock,
                limits=supervisor,
            )
            for role in THREE
        }
        use = PoolUse(self.supervisors, leases=leases, limits=limits)
        self.scaler = OwnScaler(use, file=self.file, fleet=fleet, node_id=node_id, lease_s=60)
        self._limits = limits

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ScaledNode"]:
        """Evaluates again and again for the block."""
        async with scaling(self.scaler, limits=self._limits):
            yield self
        await self.stop()

    async def stop(self) -> None:
        """Ends it in order."""
        await self.scaler.stop()
        for supervisor in self.supervisors.values():
            await supervisor.actor_ref.stop(timeout_s=PATIENCE_S)
            await supervisor.leave()

    async def wish(self, seat: str) -> "asyncio.Future[LeasedSlot]":
        """Has a seat, named `escrow/role`, join the line."""
        granted: asyncio.Future[LeasedSlot] = asyncio.get_running_loop().create_future()
        ref = self.supervisors[Role(seat.rpartition("/")[2])].actor_ref
        await ref.ask(TakeSlot(seat=seat, granted=granted), timeout_s=PATIENCE_S)
        return granted

    def give_back(self, leased: LeasedSlot) -> None:
        """Gives a slot back with no wallet open."""
        self.supervisors[leased.slot.role].actor_ref.tell(GiveBack(leased=leased, clean=True))

    def names(self) -> set[str]:
        """Names the slots this node has, those that drain included."""
        return {slot.name for supervisor in self.supervisors.values() for slot in supervisor.status()}
