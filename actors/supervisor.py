"""One supervisor a role: leases its slots, first come first served, and keeps them clean and healthy."""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import msgspec
import structlog

from actors.ports import Clock, DaemonDown, WalletRpc
from actors.priming import Primer
from actors.runtime import AsyncioActor
from actors.slots import Hold, LeasedSlot, NoSlot, PrimedWallet, Slot, SlotState, SlotWanted, Waiter
from domain.roles import Role
from eventstore.api import LeaseRow, Leases, LogUnavailable
from eventstore.primed import PrimedRow

log = structlog.get_logger(__name__)


class SupervisorLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of a supervisor; seconds unless the name says otherwise."""

    queue_max: int = 100
    slot_lease_s: float = 60
    renew_s: float = 15
    check_s: float = 1
    """How long a slot may take to answer before it is leased."""
    recheck_s: float = 5
    wait_s: float = 0.5
    """How soon somebody who waits here learns that another node has given a slot back."""


class TakeSlot(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for a slot, which becomes the result of `granted`; `NoSlot` is raised when the queue is full.

    The future is the asker's own, so that it can be called off even when the ask itself got no answer in time.
    `seat` is what the lease says the slot is used for.
    """

    seat: str
    granted: Any


class GiveBack(msgspec.Struct, frozen=True, kw_only=True):
    """Gives a slot back. `clean` means that its wallet was closed; otherwise the process is cleaned first."""

    leased: Any
    clean: bool


class _Reached(msgspec.Struct, frozen=True, kw_only=True):
    """What became of preparing a slot: a client of its process, or None; for somebody who waits, or for nobody."""

    slot: Any
    hold: Any
    rpc: Any
    waiter: Any
    primed: Any
    """The fresh wallet that is open in it, or None."""


class _Look(msgspec.Struct, frozen=True):
    """Time to look at the queue again."""


class _Tick(msgspec.Struct, frozen=True):
    """Time to renew leases and to look at slots again."""


SupervisorMessage = TakeSlot | GiveBack | _Reached | _Look | _Tick


class SlotCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Figures for the metrics."""

    total: int
    free: int
    busy: int
    waiting: int
    primed: int


class RoleSupervisor(AsyncioActor):
    """Leases the slots of one role to the seats of this node; all nodes share them.

    Never two leases on one slot, never a slot of another role. A lease is a fenced row, so that it outlives this
    process. A slot whose last holder did not give it back is cleaned before anything else, and until then the seat
    that its row names gets no other slot: its wallet may be open there.
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
        primer: Primer | None = None,
        limits: SupervisorLimits | None = None,
    ) -> None:
        super().__init__(clock=clock)
        assert all(slot.role is role for slot in slots)
        self._role, self._slots, self._leases, self._node_id = role, tuple(slots), leases, node_id
        self._clock, self._limits = clock, limits or SupervisorLimits()
        self._primer, self._primed, self._prime_after = primer, frozenset[str](), 0.0
        self._queue: deque[Waiter] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._due, self._due_at = clock.call_later(0, self._remind), 0.0

    def counts(self) -> SlotCounts:
        """What the metrics show."""
        states = [slot.state for slot in self._slots]
        return SlotCounts(
            total=len(states),
            free=states.count(SlotState.FREE),
            busy=states.count(SlotState.LEASED),
            waiting=len(self._queue),
            primed=len(self._primed),
        )

    async def leave(self) -> None:
        """Lets other nodes have this one's slots at once, uncleaned; for a node that ends in order."""
        self._end_work()
        for slot in self._slots:
            hold, slot.hold = slot.hold, None
            if hold is None:
                continue
            hold.end()
            try:
                # Run out now, not given back: whoever takes the slot cleans it first.
                await self._leases.renew(msgspec.structs.replace(hold.lease, seconds=0))
            except Exception as away:
                log.warning("slot_lease_not_ended", slot=slot.name, error=type(away).__name__)

    def on_stop(self) -> None:
        """Ends what runs in the background and tells those who wait."""
        self._end_work()
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
            case TakeSlot(seat=seat, granted=granted):
                await self._take(seat, granted)
            case GiveBack(leased=leased, clean=clean):
                self._background(self._take_back(leased, clean=clean))
            case _Reached():
                await self._reached(message)
            case _Look():
                await self._serve()
                await self._prime()
            case _Tick():
                await self._tick()
        return None

    # -- leasing -------------------------------------------------------------------------------------------------

    async def _take(self, seat: str, granted: "asyncio.Future[LeasedSlot]") -> None:
        self._queue = deque(waiter for waiter in self._queue if not waiter.granted.done())
        if len(self._queue) >= self._limits.queue_max:
            raise NoSlot
        self._queue.append(Waiter(seat=seat, since=self._clock.now(), granted=granted))
        await self._serve()

    async def _serve(self) -> None:
        """Leases slots for those who wait longest, in turn."""
        waiting = [waiter for waiter in self._queue if not waiter.granted.done() and not waiter.promised]
        if not waiting:
            return
        try:
            rows = await self._leases.held()
            for waiter in waiting:
                if slot := self._slot_for(waiter.seat, rows):
                    await self._lease(slot, row=rows.get(slot.name), waiter=waiter)
                else:
                    self._hurry(self._bound(waiter.seat, rows))
        except LogUnavailable:
            pass  # the next tick serves again
        self._arm(sooner=True)

    def _slot_for(self, seat: str, rows: Mapping[str, LeaseRow]) -> Slot | None:
        """Names the slot that a seat may have now: where its wallet may be open, no other."""
        for slot in self._bound(seat, rows) or sorted(self._slots, key=lambda each: each.name not in self._primed):
            row = rows.get(slot.name)
            theirs = row is None or row.released or row.detail == seat
            if slot.state is SlotState.FREE and theirs and self._takeable(row):
                return slot
        return None

    def _bound(self, seat: str, rows: Mapping[str, LeaseRow]) -> list[Slot]:
        held = {name for name, row in rows.items() if row.detail == seat and not row.released}
        return [slot for slot in self._slots if slot.name in held]

    def _takeable(self, row: LeaseRow | None) -> bool:
        return row is None or row.expired or row.holder == self._node_id

    async def _lease(
        self, slot: Slot, *, row: LeaseRow | None, waiter: Waiter | None = None, prime: bool = False
    ) -> bool:
        """Takes a slot's lease and has it prepared; False, and nothing done, when another has it."""
        seat, before = waiter.seat if waiter else "", slot.state
        slot.state = SlotState.PREPARING
        try:
            since = asyncio.get_running_loop().time()
            lease = await self._leases.acquire(
                slot.name, holder=self._node_id, seconds=self._limits.slot_lease_s, detail=seat
            )
            if lease is None:
                slot.state = SlotState.FREE
                return False
            if waiter and self._bound(seat, await self._leases.held()) != [slot]:
                # Another node was here meanwhile, for the same seat or leaving another's wallet: cleaned first.
                slot.state = SlotState.UNHEALTHY
                return False
        except BaseException:
            slot.state = before  # a lease that we may have all the same is our own to take again, uncleaned
            raise
        slot.hold = Hold(lease, since=since)
        if waiter:
            waiter.promised = True
        clean = lease.fence == (row.fence if row else 0) + 1 and (row is None or row.released)
        self._background(self._prepare(slot, slot.hold, clean=clean, waiter=waiter, prime=prime))
        return True

    async def _prepare(self, slot: Slot, hold: Hold, *, clean: bool, waiter: Waiter | None, prime: bool) -> None:
        """Brings a slot to the point where it can be used: it answers and has no wallet open but a primed one."""
        rpc = primed = None
        try:
            rpc, primed = await self._answering(slot, hold, clean=clean)
            if self._primer and prime and rpc is not None:
                await self._with_wallet(self._primer, slot, hold, rpc)
        except Exception as broken:  # whatever a process can do wrong, the slot is only not usable now
            log.warning("slot_not_prepared", slot=slot.name, error=type(broken).__name__)
            if rpc is not None:
                await rpc.aclose()
            rpc = None
        finally:
            if self._primer and prime:
                self._primer.end()
            if self.actor_ref.is_alive():
                self.actor_ref.tell(_Reached(slot=slot, hold=hold, rpc=rpc, waiter=waiter, primed=primed))

    async def _answering(self, slot: Slot, hold: Hold, *, clean: bool) -> tuple[WalletRpc | None, PrimedWallet | None]:
        for as_it_is in (True, False) if clean else (False,):
            rpc = await slot.host.reach(fence=hold.lease.fence, clean=as_it_is, before_call=hold.check)
            try:
                async with asyncio.timeout(self._limits.check_s):
                    await rpc.get_version()
                    return rpc, await self._primer.found(slot, rpc) if self._primer else None
            except Exception as ill:
                log.warning("slot_ill", slot=slot.name, error=type(ill).__name__)
                await rpc.aclose()
        return None, None

    async def _reached(self, reached: _Reached) -> None:
        slot, hold, rpc, waiter = reached.slot, reached.hold, reached.rpc, reached.waiter
        if waiter:
            waiter.promised = False
        if slot.hold is not hold or rpc is None:
            self._drop(slot, hold)
            if rpc is not None:
                await rpc.aclose()
        elif waiter is None or waiter.granted.done():
            self._background(self._release(slot, hold, rpc))
        else:
            slot.state = SlotState.LEASED
            self._queue.remove(waiter)
            waited_s = (self._clock.now() - waiter.since) / 1_000_000
            leased = LeasedSlot(slot=slot, hold=hold, rpc=rpc, waited_s=waited_s, primed=reached.primed)
            waiter.granted.set_result(leased)

    # -- priming ---------------------------------------------------------------------------------------------------

    async def _prime(self) -> None:
        """Has a fresh wallet made in slots that nobody uses, as long as nobody waits for one."""
        primer = self._primer
        if primer is None or asyncio.get_running_loop().time() < self._prime_after:
            return
        try:
            rows, noted = await self._leases.held(), await primer.noted()
            self._primed = frozenset(slot.name for slot in self._slots if _is_primed(slot, rows, noted))
            for slot in self._slots:
                row = rows.get(slot.name)
                idle = slot.state is SlotState.FREE and row is not None and row.released
                if idle and slot.name not in self._primed and not self._queue and primer.begin():
                    await self._lease_to_prime(primer, slot, row)
        except LogUnavailable:
            pass  # the next tick looks again

    async def _lease_to_prime(self, primer: Primer, slot: Slot, row: LeaseRow | None) -> None:
        begun = False
        try:
            begun = await self._lease(slot, row=row, prime=True)
        finally:
            if not begun:
                primer.end()

    async def _with_wallet(self, primer: Primer, slot: Slot, hold: Hold, rpc: WalletRpc) -> None:
        since = asyncio.get_running_loop().time()
        self._prime_after = since + self._limits.recheck_s  # whatever happens, not again at once
        slot.wanted = asyncio.Event()
        try:
            await primer.prime(slot, hold, rpc, wanted=slot.wanted)
        except (DaemonDown, SlotWanted):
            return
        finally:
            slot.wanted = None
        self._prime_after = since

    def _hurry(self, bound: Sequence[Slot]) -> None:
        """Has one slot more given up by its priming, for somebody who waits."""
        for slot in bound or self._slots:
            if slot.wanted is not None and not slot.wanted.is_set():
                slot.wanted.set()
                return

    # -- giving back ---------------------------------------------------------------------------------------------

    async def _take_back(self, leased: LeasedSlot, *, clean: bool) -> None:
        slot, hold, rpc = leased.slot, leased.hold, leased.rpc
        if slot.hold is not hold:
            await rpc.aclose()
            return
        slot.state = SlotState.PREPARING
        if clean:
            await self._release(slot, hold, rpc)
            return
        await rpc.aclose()
        await self._prepare(slot, hold, clean=False, waiter=None, prime=False)

    async def _release(self, slot: Slot, hold: Hold, rpc: WalletRpc) -> None:
        hold.end()
        await rpc.aclose()
        if slot.hold is not hold:
            return
        try:
            await self._leases.release(hold.lease)
        except Exception as away:  # still ours by the row: taken again it is cleaned first
            log.warning("slot_lease_not_released", slot=slot.name, error=type(away).__name__)
        slot.hold, slot.state = None, SlotState.FREE
        if self.actor_ref.is_alive():
            self.actor_ref.tell(_Look())

    def _drop(self, slot: Slot, hold: Hold) -> None:
        """Lets go of a slot without giving its lease back: whoever has it next cleans it."""
        hold.end()
        if slot.hold is hold:
            slot.hold, slot.state = None, SlotState.UNHEALTHY
            log.warning("slot_unhealthy", slot=slot.name)

    # -- looking after -------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        self._arm()
        for slot in self._slots:
            hold = slot.hold
            # Given back meanwhile it is not renewed either, and nothing is lost.
            if hold and not await self._renewed(hold) and slot.hold is hold:
                log.error("slot_lease_lost", slot=slot.name)
                hold.end()
                slot.hold, slot.state = None, SlotState.FREE
            if slot.hold and slot.state is SlotState.LEASED and slot.host.silent():
                log.warning("slot_silent", slot=slot.name)
                self._background(self._revive(slot, slot.hold))
        await self._serve()
        await self._mend()
        await self._prime()

    async def _renewed(self, hold: Hold) -> bool:
        since = asyncio.get_running_loop().time()
        try:
            renewed = await self._leases.renew(hold.lease)
        except LogUnavailable:
            return True  # not known; the hold is over by itself when its time is
        if renewed:
            hold.renewed(since=since)
        return renewed

    async def _revive(self, slot: Slot, hold: Hold) -> None:
        """Ends a process that answers nothing, so that the call it holds up comes to an end; its user gives it back."""
        try:
            rpc = await slot.host.reach(fence=hold.lease.fence, clean=False, before_call=hold.check)
            await rpc.aclose()
        except Exception as broken:
            log.warning("slot_not_revived", slot=slot.name, error=type(broken).__name__)

    async def _mend(self) -> None:
        """Cleans what nobody uses: slots never looked at, broken, silent, or left behind by whoever had them."""
        try:
            rows = await self._leases.held()
            for slot in self._in_need(rows):
                await self._lease(slot, row=rows.get(slot.name))
        except LogUnavailable:
            pass  # the next tick looks again

    def _in_need(self, rows: Mapping[str, LeaseRow]) -> Iterable[Slot]:
        for slot in self._slots:
            row = rows.get(slot.name)
            if slot.state in (SlotState.PREPARING, SlotState.LEASED):
                continue
            if not self._takeable(row):
                slot.state = SlotState.FREE  # in another node's hands, which looks after it
            elif slot.state is not SlotState.FREE or slot.host.silent() or (row is not None and not row.released):
                yield slot

    def _arm(self, *, sooner: bool = False) -> None:
        """Sets the next tick; `sooner` only where that is earlier than the one that is set."""
        limits = self._limits
        after_s = min(limits.renew_s, limits.recheck_s, limits.wait_s if self._queue else limits.recheck_s)
        due_at = asyncio.get_running_loop().time() + after_s
        if sooner and due_at >= self._due_at:
            return
        self._due.cancel()
        self._due, self._due_at = self._clock.call_later(after_s, self._remind), due_at

    def _remind(self) -> None:
        if self.actor_ref.is_alive():
            self.actor_ref.tell(_Tick())

    def _end_work(self) -> None:
        self._due.cancel()
        for task in self._tasks:
            task.cancel()

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_primed(slot: Slot, rows: Mapping[str, LeaseRow], noted: Mapping[str, PrimedRow]) -> bool:
    """Says whether nobody was in the slot since its wallet was opened there."""
    return slot.name in rows and slot.name in noted and rows[slot.name].fence == noted[slot.name].fence
