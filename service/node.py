"""Builds and runs one node: escrow actors, supervisors, the finder of turns, the keeper of time, the watcher."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from actors.desk import Desk
from actors.directory import Directory
from actors.escrow import EscrowActor
from actors.evidence_sweeper import EvidenceSweeper
from actors.ports import Clock, DaemonRpc, Watch
from actors.priming import Primer
from actors.runtime import AsyncioRef
from actors.seat_agent import AgentLimits, StepObserver
from actors.shredder import KeyShredder
from actors.slot_messages import SupervisorLimits
from actors.slot_status import SlotCounts
from actors.slots import Slot
from actors.supervisor import RoleSupervisor
from actors.timekeeper import Timekeeper
from actors.turn_finder import FinderLimits, TurnFinder
from actors.wallet_register import WalletRegister
from actors.watcher import ChainWatcher
from domain.events import AnyEvent
from domain.ids import EscrowId, Micros
from domain.roles import THREE, Role, SeatKind
from domain.states import Escrow
from eventstore.opening import Store
from projections.asking import ReadModels
from projections.opening import open_models
from projections.runner import Runner
from schemas.address import Network

log = structlog.get_logger(__name__)

PAGE_MAX = 1_000
"""Rows of a read model in memory at once while a node looks for work."""


@dataclass(frozen=True, kw_only=True)
class NodeLimits:
    """Bounds of a node's parts."""

    supervisor: SupervisorLimits = field(default_factory=SupervisorLimits)
    finder: FinderLimits = field(default_factory=FinderLimits)
    agent: AgentLimits = field(default_factory=AgentLimits)
    watch_poll_s: float = 1.0
    time_look_s: float = 1.0
    shred_look_s: float = 60.0
    sweep_look_s: float = 3_600.0
    stop_s: float = 10.0
    prime_at_once: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Slots primed at a time: each keeps a core busy. 0 primes none."""


class Node:
    """One node on a store. `start` brings the read models to the log's end before anything acts on them."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        network: Network,
        slots: Iterable[Slot],
        daemon: DaemonRpc,
        watch: Watch,
        limits: NodeLimits | None = None,
        observe_step: StepObserver | None = None,
    ) -> None:
        self.store, self.clock, self._network, self._limits = store, clock, network, limits or NodeLimits()
        self.problems: list[str] = []
        self.directory: Directory[EscrowId] = Directory(self._wake, clock=clock, on_parked=self._parked)
        self.desk = Desk(self.directory)
        tables, rows = open_models(store)
        self.runner = Runner(store.log, tables)
        self.models = ReadModels(store.log, rows, self.runner)
        self.supervisors = self._supervisors(tuple(slots), daemon=daemon)
        self.watcher = self._watcher(watch)
        self._finder = self._turn_finder(daemon, observe_step)
        self._timekeeper = Timekeeper(
            desk=self.desk,
            due=self._due,
            outages=self.watcher.outages,
            clock=clock,
            look_s=self._limits.time_look_s,
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Shreds what the log says is shredded, reads the log, then begins to act."""
        shredder = KeyShredder(self.store.vault, clock=self.clock, look_s=self._limits.shred_look_s)
        await shredder.apply()
        await self.runner.catch_up()
        sweeper = EvidenceSweeper(self.store.evidence, clock=self.clock, look_s=self._limits.sweep_look_s)
        own = (self.runner.run(), self._finder.run(), self._timekeeper.run(), self.watcher.run())
        work = (*own, shredder.run(), sweeper.run())
        self._tasks = [asyncio.get_running_loop().create_task(each) for each in work]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Lets messages in hand be finished and ends everything; slots keep their wallets as they are."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.directory.stop_all(timeout_s=self._limits.stop_s)
        for supervisor in self.supervisors.values():
            await supervisor.actor_ref.stop(timeout_s=self._limits.stop_s)
            await supervisor.leave()

    def slot_counts(self) -> Mapping[Role, SlotCounts]:
        """Slots by role, for the metrics."""
        return {role: supervisor.counts() for role, supervisor in self.supervisors.items()}

    def _wake(self, escrow_id: EscrowId) -> EscrowActor:
        return EscrowActor(escrow_id, event_log=self.store.log, clock=self.clock, on_appended=self._moved)

    def _moved(self, escrow_id: EscrowId, events: tuple[AnyEvent, ...], state: Escrow) -> None:
        self._finder.moved(escrow_id, events, state)

    def _parked(self, escrow_id: EscrowId, failure: BaseException) -> None:
        self.problems.append(f"{escrow_id} stopped: {type(failure).__name__}")

    def _supervisors(self, slots: Sequence[Slot], *, daemon: DaemonRpc) -> dict[Role, RoleSupervisor]:
        primer = self._primer(daemon) if self._limits.prime_at_once else None
        return {
            role: RoleSupervisor(
                role,
                [slot for slot in slots if slot.role is role],
                leases=self.store.slot_leases,
                node_id=self.store.node_id,
                clock=self.clock,
                primer=primer,
                limits=self._limits.supervisor,
            )
            for role in THREE
        }

    def _primer(self, daemon: DaemonRpc) -> Primer:
        store, limits = self.store, self._limits
        at_once, pause_s = limits.prime_at_once, limits.supervisor.recheck_s
        return Primer(store.primed, vault=store.vault, daemon=daemon, at_once=at_once, pause_s=pause_s)

    def _watcher(self, watch: Watch) -> ChainWatcher:
        return ChainWatcher(
            desk=self.desk,
            moved=self._moved_since,
            watch=watch,
            vault=self.store.vault,
            clock=self.clock,
            poll_s=self._limits.watch_poll_s,
        )

    def _turn_finder(self, daemon: DaemonRpc, observe_step: StepObserver | None) -> TurnFinder:
        refs: dict[Role, AsyncioRef] = {role: each.actor_ref for role, each in self.supervisors.items()}
        return TurnFinder(
            desk=self.desk,
            open_turns=self._open_turns,
            supervisors=refs,
            seat_leases=self.store.seat_leases,
            register=WalletRegister(self.store.log),
            vault=self.store.vault,
            daemon=daemon,
            clock=self.clock,
            node_id=self.store.node_id,
            network=self._network,
            limits=self._limits.finder,
            agent_limits=self._limits.agent,
            observe_step=observe_step,
        )

    # -- what there is to do, page by page -----------------------------------------------------------------------

    async def _open_turns(self) -> AsyncIterator[tuple[EscrowId, Role]]:
        after: tuple[EscrowId, Role] | None = None
        while page := await self.models.rows.open_turns(SeatKind.POOL, after=after, limit=PAGE_MAX):
            for turn in page:
                yield turn.escrow_id, turn.role
            after = (page[-1].escrow_id, page[-1].role)

    async def _due(self, now: Micros) -> AsyncIterator[tuple[EscrowId, str, Micros]]:
        """Yields nothing while the chain is not seen: a deposit that nobody here has looked for may be in it."""
        after = None
        while self.watcher.sees and (page := await self.models.rows.due(now, after=after, limit=PAGE_MAX)):
            for deadline in page:
                yield deadline.escrow_id, deadline.kind, deadline.due
            after = page[-1]

    async def _moved_since(self, positions: Mapping[int, int]) -> AsyncIterator[tuple[EscrowId, int, int]]:
        for partition in range(self.store.log.partitions):
            after = positions.get(partition, 0)
            while page := await self.models.rows.watched(partition, after_position=after, limit=PAGE_MAX):
                for moved in page:
                    yield moved.escrow_id, partition, moved.position
                after = page[-1].position

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()):
            log.error("node_part_ended", part=task.get_name(), exc_info=failure)
            self.problems.append(f"{task.get_name()} ended: {type(failure).__name__}")
