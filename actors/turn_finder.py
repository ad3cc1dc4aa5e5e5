"""Finds open turns of hosted seats and sends an agent for each: turns are found, not remembered."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Set

import msgspec
import structlog

from actors.desk import Desk
from actors.escrow import LostLease
from actors.mail import ActorStopped, MailboxFull
from actors.ports import Clock, DaemonRpc
from actors.runtime import AsyncioRef
from actors.sealed import EscrowSecrets
from actors.seat import Seat, seat_name
from actors.seat_agent import EXPECTED, AgentLimits, SeatAgent, StepObserver
from actors.slots import NoSlot
from actors.wallet_register import WalletRegister
from domain.events import AnyEvent
from domain.ids import EscrowId
from domain.roles import THREE, Role, SeatKind
from domain.states import Escrow
from domain.turns import in_line, turn_of, turns
from eventstore.api import Fence, Lease, Leases, LogUnavailable, Vault
from schemas.address import Network

log = structlog.get_logger(__name__)

OpenTurns = Callable[[], AsyncIterator[tuple[EscrowId, Role]]]
"""Seats of pool wallets with a turn that may be taken now, as far as the read model is."""


class FinderLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the finder, in seconds."""

    look_s: float = 2
    seat_lease_s: float = 30
    renew_s: float = 10
    retry_s: float = 1
    retry_max_s: float = 60


class TurnFinder:
    """Looks for open turns in the read model every few seconds, and at once where an escrow moved in this process.

    One agent a seat at most; the seat lease keeps other nodes away, and its fence is checked by every append. A turn
    that could not be taken is tried again after a pause that doubles.
    """

    def __init__(
        self,
        *,
        desk: Desk,
        open_turns: OpenTurns,
        supervisors: Mapping[Role, AsyncioRef],
        seat_leases: Leases,
        register: WalletRegister,
        vault: Vault,
        daemon: DaemonRpc,
        clock: Clock,
        node_id: str,
        network: Network,
        limits: FinderLimits | None = None,
        agent_limits: AgentLimits | None = None,
        observe_step: StepObserver | None = None,
    ) -> None:
        self._desk, self._open_turns, self._supervisors, self._leases = desk, open_turns, supervisors, seat_leases
        self._register = register
        self._vault, self._daemon, self._clock, self._node_id, self._network = vault, daemon, clock, node_id, network
        self._limits, self._agent_limits, self._observe_step = limits or FinderLimits(), agent_limits, observe_step
        self._agents: dict[tuple[EscrowId, Role], SeatAgent] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pauses: dict[tuple[EscrowId, Role], tuple[int, float]] = {}
        """Not before this moment, and the pause after the next failure."""

    def moved(self, escrow_id: EscrowId, events: tuple[AnyEvent, ...], state: Escrow) -> None:
        """Hears from an escrow of this process that it has moved."""
        for role in THREE:
            if agent := self._agents.get((escrow_id, role)):
                agent.notify()
        for turn in turns(state):
            if state.core.terms.seats[turn.role] is SeatKind.POOL and in_line(state, turn):
                self._consider((escrow_id, turn.role))

    async def run(self) -> None:
        """Looks again and again until cancelled; then ends its agents."""
        try:
            while True:
                await self._look()
                await self._clock.sleep(self._limits.look_s)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self) -> None:
        found = set[tuple[EscrowId, Role]]()
        try:
            async for key in self._open_turns():
                found.add(key)
                self._consider(key)
        except LogUnavailable as broken:
            log.warning("open_turns_not_read", error=type(broken).__name__)
        else:
            self._forget_all_but(found)

    def _forget_all_but(self, asked: Set[tuple[EscrowId, Role]]) -> None:
        """Forgets pauses that are over of seats that nothing is asked of: another node, or an end, took the turn."""
        now = self._clock.now()
        self._pauses = {key: pause for key, pause in self._pauses.items() if key in asked or pause[0] > now}

    def _consider(self, key: tuple[EscrowId, Role]) -> None:
        not_before, _ = self._pauses.get(key, (0, 0.0))
        if key not in self._agents and self._clock.now() >= not_before:
            self._send(key)

    def _send(self, key: tuple[EscrowId, Role]) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(key), name=f"agent {key[0]}/{key[1]}")
        self._agents[key] = self._agent(key, fence=0)  # holds the place until the lease is there
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, key: tuple[EscrowId, Role]) -> None:
        try:
            if not await self._is_asked(key):
                return  # the read model was a moment behind
            lease = await self._leases.acquire(seat_name(*key), holder=self._node_id, seconds=self._limits.seat_lease_s)
            if lease is not None:
                await self._work(key, lease)
        except (*EXPECTED, NoSlot, MailboxFull, LogUnavailable, OSError) as broken:
            self._pause(key, broken)
        except ActorStopped:
            pass  # this node is closing
        except Exception:
            log.exception("agent_crashed", escrow=key[0], seat=key[1].value)
            self._pause(key, None)
        finally:
            self._agents.pop(key, None)

    async def _is_asked(self, key: tuple[EscrowId, Role]) -> bool:
        escrow_id, role = key
        state = await self._desk.state(escrow_id)
        turn = turn_of(state, role) if state is not None else None
        return state is not None and turn is not None and in_line(state, turn)

    async def _work(self, key: tuple[EscrowId, Role], lease: Lease) -> None:
        agent = self._agents[key] = self._agent(key, fence=lease.fence)
        working = asyncio.get_running_loop().create_task(agent.run())
        renewing = asyncio.get_running_loop().create_task(self._renew(lease))
        try:
            await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise LostLease
            await working
            self._pauses.pop(key, None)
        finally:
            for task in (working, renewing):
                task.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)
            await self._leases.release(lease)

    async def _renew(self, lease: Lease) -> None:
        """Prolongs the lease until that fails, or until it is over by this node's own clock."""
        loop = asyncio.get_running_loop()
        until = loop.time() + lease.seconds
        while loop.time() < until:
            await self._clock.sleep(self._limits.renew_s)
            since = loop.time()
            try:
                if not await self._leases.renew(lease):
                    break
                until = since + lease.seconds
            except LogUnavailable:
                continue  # not known: another node may still reach the database
        log.warning("seat_lease_lost", seat=lease.name)

    def _agent(self, key: tuple[EscrowId, Role], *, fence: int) -> SeatAgent:
        escrow_id, role = key
        seat = Seat(
            escrow_id=escrow_id,
            role=role,
            desk=self._desk,
            secrets=EscrowSecrets(self._vault, escrow_id),
            daemon=self._daemon,
            clock=self._clock,
            register=self._register,
            fence=Fence(seat=seat_name(*key), fence=fence),
            network=self._network,
        )
        return SeatAgent(seat, self._supervisors[role], limits=self._agent_limits, observe=self._observe_step)

    def _pause(self, key: tuple[EscrowId, Role], broken: BaseException | None) -> None:
        _, pause_s = self._pauses.get(key, (0, self._limits.retry_s))
        self._pauses[key] = (
            self._clock.now() + int(pause_s * 1_000_000),
            min(pause_s * 2, self._limits.retry_max_s),
        )
        reason = str(broken) if isinstance(broken, EXPECTED) else type(broken).__name__
        log.info("turn_not_taken", escrow=key[0], seat=key[1].value, reason=reason, again_in_s=pause_s)
