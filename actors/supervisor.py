"""One supervisor a role: leases its slots, first come first served, and keeps them clean and healthy."""

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any

import msgspec
import structlog

from actors.ports import Clock, WalletFault, WalletRefused, WalletUnknown
from actors.runtime import AsyncioActor
from actors.slots import LeasedSlot, NoSlot, Slot, SlotState, Waiter
from domain.roles import Role
from eventstore.api import Lease, Leases, LogUnavailable

log = structlog.get_logger(__name__)


class SupervisorLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of a supervisor; seconds unless the name says otherwise."""

    queue_max: int = 100
    slot_lease_s: float = 60
    renew_s: float = 15
    check_s: float = 1
    """How long a free slot may take to answer."""
    recheck_s: float = 5


class TakeSlot(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for a slot, which becomes the result of `granted`; `NoSlot` is raised when the queue is full.

    The future is the asker's own, so that it can be called off even when the ask itself got no answer in time.
    """

    granted: Any


class GiveBack(msgspec.Struct, frozen=True, kw_only=True):
    """Gives a slot back. `clean` means that its wallet was closed; otherwise the process is cleaned first.

    `closed`, an `asyncio.Event`, is set as soon as the wallet is known to be closed here.
    """

    leased: Any
    clean: bool
    closed: Any = None


class _Checked(msgspec.Struct, frozen=True, kw_only=True):
    slot: Any
    usable: bool


class _Tick(msgspec.Struct, frozen=True):
    """Time to renew leases and to look at slots again."""


SupervisorMessage = TakeSlot | GiveBack | _Checked | _Tick


class SlotCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Figures for the metrics."""

    total: int
    free: int
    busy: int
    waiting: int


class RoleSupervisor(AsyncioActor):
    """Owns the slots of one role on this node.

    Never two leases on one slot, never a slot of another role. A lease is a fenced row, so that it outlives this
    process; a slot whose last use is not known to have ended well is cleaned before it is leased again.
    """

    survives = (Exception,)
    """Nobody restarts a supervisor, and without one the seats of its role are never served again."""
    mailbox_max = 100_000
    """A slot given back must never be refused: askers are bounded by `queue_max` once they are heard."""

    def __init__(
        self,
        role: Role,
        slots: Sequence[Slot],
        *,
        leases: Leases,
        node_id: str,
        clock: Clock,
        limits: SupervisorLimits | None = None,
    ) -> None:
        super().__init__(clock=clock)
        assert all(slot.role is role for slot in slots)
        self._role, self._slots, self._leases, self._node_id = role, tuple(slots), leases, node_id
        self._clock, self._limits = clock, limits or SupervisorLimits()
        self._free: deque[Slot] = deque()
        self._queue: deque[Waiter] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        for slot in self._slots:
            self._background(self._check(slot, clean=False))
        self._arm()

    def counts(self) -> SlotCounts:
        """What the metrics show."""
        states = [slot.state for slot in self._slots]
        return SlotCounts(
            total=len(states),
            free=states.count(SlotState.FREE),
            busy=states.count(SlotState.LEASED),
            waiting=len(self._queue),
        )

    def on_stop(self) -> None:
        """Ends what runs in the background and tells those who wait."""
        for task in self._tasks:
            task.cancel()
        for waiter in self._queue:
            waiter.granted.cancel()

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Tells that something told came to nothing; the next tick looks at everything again."""
        log.error("supervisor_failed", role=self._role.value, error=getattr(exception_type, "__name__", ""))

    async def on_receive(self, message: SupervisorMessage) -> object:
        """Handles one request; nothing slow is awaited here."""
        match message:
            case TakeSlot(granted=granted):
                await self._take(granted)
            case GiveBack(leased=leased, clean=clean, closed=closed):
                leased.slot.closed = closed
                self._background(self._take_back(leased, clean=clean))
            case _Checked(slot=slot, usable=usable):
                self._checked(slot, usable=usable)
                await self._serve()
            case _Tick():
                await self._tick()
        return None

    async def _take(self, granted: "asyncio.Future[LeasedSlot]") -> None:
        waiting = [waiter for waiter in self._queue if not waiter.granted.done()]
        if len(waiting) >= self._limits.queue_max:
            raise NoSlot
        self._queue = deque([*waiting, Waiter(since=self._clock.now(), granted=granted)])
        await self._serve()

    async def _serve(self) -> None:
        """Gives free slots to those who wait longest, in turn."""
        while self._free and (waiter := self._next_waiter()):
            slot = self._free[0]
            try:
                lease = await self._leases.acquire(slot.name, holder=self._node_id, seconds=self._limits.slot_lease_s)
                if lease is not None and waiter.granted.done():
                    await self._leases.release(lease)  # who waited gave up meanwhile: the next one is served
                    continue
            except LogUnavailable:
                return  # the next tick serves again
            self._free.popleft()
            if lease is None:
                slot.state = SlotState.UNHEALTHY  # another node holds it; looked at again with the next tick
                continue
            slot.state, slot.lease = SlotState.LEASED, lease
            self._queue.remove(waiter)
            waited_s = (self._clock.now() - waiter.since) / 1_000_000
            waiter.granted.set_result(LeasedSlot(slot=slot, lease=lease, waited_s=waited_s))

    def _next_waiter(self) -> Waiter | None:
        while self._queue and self._queue[0].granted.done():
            self._queue.popleft()
        return self._queue[0] if self._queue else None

    async def _take_back(self, leased: LeasedSlot, *, clean: bool) -> None:
        slot = leased.slot
        if slot.lease is not leased.lease:
            return
        slot.lease, slot.state = None, SlotState.UNCHECKED
        try:
            await self._leases.release(leased.lease)
        except Exception as away:  # still ours by the row, and ours to take again; else it expires
            log.warning("slot_lease_not_released", slot=slot.name, error=type(away).__name__)
        await self._check(slot, clean=clean)

    async def _check(self, slot: Slot, *, clean: bool) -> None:
        """Brings a slot to the point where it can be leased: it answers and has no wallet open."""
        cleaned = clean or await self._cleaned(slot)
        if cleaned and slot.closed is not None:
            slot.closed.set()
        usable = cleaned and await self._answers(slot)
        self.actor_ref.tell(_Checked(slot=slot, usable=usable))

    async def _cleaned(self, slot: Slot) -> bool:
        try:
            if slot.host is not None:
                await slot.host.restart()
            else:
                await slot.rpc.close_wallet()
        except WalletRefused as refused:
            return refused.fault is WalletFault.NO_WALLET_OPEN
        except Exception as broken:  # whatever a process can do wrong, the slot is only not usable now
            log.warning("slot_not_cleaned", slot=slot.name, error=type(broken).__name__)
            return False
        return True

    async def _answers(self, slot: Slot) -> bool:
        try:
            async with asyncio.timeout(self._limits.check_s):
                await slot.rpc.get_version()
        except (WalletUnknown, WalletRefused, TimeoutError):
            return False
        return True

    def _checked(self, slot: Slot, *, usable: bool) -> None:
        if slot.state in (SlotState.LEASED, SlotState.FREE):
            return
        slot.state = SlotState.FREE if usable else SlotState.UNHEALTHY
        if usable:
            self._free.append(slot)
        else:
            log.warning("slot_unhealthy", slot=slot.name)

    async def _tick(self) -> None:
        self._arm()
        for slot in self._slots:
            if slot.state is SlotState.LEASED and slot.lease and not await self._renewed(slot.lease):
                log.error("slot_lease_lost", slot=slot.name)
            if slot.state is SlotState.UNHEALTHY:
                slot.state = SlotState.UNCHECKED
                self._background(self._check(slot, clean=False))
        await self._serve()

    async def _renewed(self, lease: Lease) -> bool:
        try:
            return await self._leases.renew(lease)
        except LogUnavailable:
            return True  # not known: while the database is away nobody else can take it either

    def _arm(self) -> None:
        self._clock.call_later(min(self._limits.renew_s, self._limits.recheck_s), self._remind)

    def _remind(self) -> None:
        if self.actor_ref.is_alive():
            self.actor_ref.tell(_Tick())

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
