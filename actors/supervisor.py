"""One supervisor a role: leases its slots, first come first served, and keeps them clean and healthy."""

import asyncio
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any

import msgspec
import structlog

from actors.ailments import Ailment, SlotUnusable
from actors.ports import Clock, WalletRpc
from actors.priming import Primer, primed_slots
from actors.runtime import AsyncioActor
from actors.slot_check import SlotCheck
from actors.slot_line import SlotLine, bound_to
from actors.slot_messages import AddSlot, DrainSlot, GiveBack, Look, Reached, SupervisorLimits, TakeSlot, Tick
from actors.slot_rack import SlotRack
from actors.slot_status import SlotCounts, SlotStatus, counts_of, status_of
from actors.slots import Hold, LeasedSlot, PrimedWallet, Slot, SlotState, Waiter
from domain.roles import Role
from eventstore.api import LeaseRow, Leases, LogUnavailable

log = structlog.get_logger(__name__)

SupervisorMessage = TakeSlot | GiveBack | AddSlot | DrainSlot | Reached | Look | Tick


class RoleSupervisor(AsyncioActor):
    """Leases the slots of one role to the seats of this node; all nodes share them.

    Never two leases on one slot, never a slot of another role. A lease is a fenced row, so that it outlives this
    process. A slot whose last holder did not give it back is cleaned before anything else, and until then the seat
    that its row names gets no other slot: its wallet may be open there.

    Slots come and go: one that is to leave takes no new seat and is forgotten once it is given back.
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
        self._role, self._leases, self._node_id = role, leases, node_id
        self._clock, self._limits = clock, limits or SupervisorLimits()
        self._slots = SlotRack(role, slots, node_id=node_id, look_s=self._limits.look_s)
        self._line = SlotLine(queue_max=self._limits.queue_max)
        self._check = SlotCheck(primer, check_s=self._limits.check_s, patience_s=self._limits.patience_s)
        self._primer, self._primed = primer, frozenset[str]()
        if primer is not None:
            primer.heed(self._line.unbound, self._slots)
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._due, self._due_at = clock.call_later(0, self._remind), 0.0

    def counts(self) -> SlotCounts:
        """What the metrics show."""
        return counts_of(self._slots, self._line, primed=len(self._primed))

    def waiting(self) -> frozenset[str]:
        """Names the seats of this node that wait for a slot."""
        return self._line.seats()

    def status(self) -> tuple[SlotStatus, ...]:
        """What an operator sees of each slot."""
        return tuple(status_of(slot, now=self._clock.now()) for slot in self._slots)

    async def leave(self) -> None:
        """Lets other nodes have a stopped supervisor's slots at once, uncleaned; for a node that ends in order."""
        self._end_work()
        await asyncio.gather(*self._tasks, return_exceptions=True)
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
        await self._check.close_all()

    def on_stop(self) -> None:
        """Ends what runs in the background and tells those who wait."""
        self._end_work()
        self._line.call_off()

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
            case TakeSlot():
                await self._take(message)
            case GiveBack(leased=leased, other_wallet=True):
                await self._quarantine(leased)
            case GiveBack(leased=leased, clean=clean):
                self._background(self._take_back(leased, clean=clean))
            case AddSlot(slot=slot):
                self._slots.add(slot)
                await self._mend()
            case DrainSlot(name=name):
                known = self._slots.drain(name)
                await self._mend()
                return known
            case Reached():
                await self._reached(message)
            case Look():
                await self._serve()
                await self._prime()
            case Tick():
                await self._tick()
        return None

    # -- leasing -------------------------------------------------------------------------------------------------

    async def _take(self, wish: TakeSlot) -> None:
        now = self._clock.now()
        came = now if wish.came is None else wish.came
        self._line.join(Waiter(seat=wish.seat, came=came, since=now, granted=wish.granted))
        log.info("slot_asked", role=self._role.value, seat=wish.seat, waiting=len(self._line))
        await self._serve()

    async def _serve(self) -> None:
        """Leases slots for those who wait longest, in turn."""
        if not self._line:
            return
        try:
            rows = await self._leases.held()
            for waiter in self._line.servable(rows):
                for slot in self._slots.open_to(waiter.seat, rows, best=self._primed):
                    if await self._lease(slot, row=rows.get(slot.name), waiter=waiter):
                        break
                else:
                    self._slots.hurry(waiter.seat, rows)
        except LogUnavailable:
            pass  # the next tick serves again
        self._arm(sooner=True)

    async def _lease(
        self, slot: Slot, *, row: LeaseRow | None, waiter: Waiter | None = None, prime: bool = False
    ) -> bool:
        """Takes a slot's lease and has it prepared; False when another has it."""
        seat, before, ailment = waiter.seat if waiter else "", slot.state, slot.ailment
        self._become(slot, SlotState.PREPARING, ailment)
        if waiter:
            slot.offered = False
            log.info("slot_taken", slot=slot.name, role=self._role.value, seat=seat)
        try:
            since = asyncio.get_running_loop().time()
            lease = await self._leases.acquire(
                slot.name, holder=self._node_id, seconds=self._limits.slot_lease_s, detail=seat
            )
            if lease is None:
                self._become(slot, SlotState.FREE)
                return False
            if waiter and bound_to(seat, await self._leases.held()) != {slot.name}:
                # Another node was here meanwhile, for the same seat or leaving another's wallet: cleaned first.
                self._become(slot, SlotState.UNHEALTHY)
                return True
        except BaseException:
            # A lease that we may have all the same is our own to take again, uncleaned.
            self._become(slot, before, ailment)
            raise
        slot.hold = Hold(lease, since=since, seat=seat)
        if waiter:
            self._turn += 1
            waiter.promised, slot.turn = True, self._turn
        clean = lease.fence == (row.fence if row else 0) + 1 and (row is None or row.released)
        slot.wanted = asyncio.Event() if prime else None
        self._background(self._prepare(slot, slot.hold, clean=clean, waiter=waiter))
        return True

    async def _prepare(self, slot: Slot, hold: Hold, *, clean: bool, waiter: Waiter | None = None) -> None:
        """Brings a slot to the point where it can be used: it answers and has no wallet open but a primed one."""
        became, wanted = Reached(slot=slot, hold=hold, waiter=waiter, ailment=Ailment.FAILED, ended=clean), slot.wanted
        try:
            rpc, primed = await self._check.usable(slot, hold, clean=clean, patient=waiter is None)
            if self._primer and wanted is not None and primed is None:
                became = msgspec.structs.replace(became, ended=False)  # if that fails a wallet may be open
                primed = await self._check.primed(slot, hold, rpc, wanted=wanted)
            became = msgspec.structs.replace(became, rpc=rpc, primed=primed, ailment=None)
        except SlotUnusable as unusable:
            became = msgspec.structs.replace(became, ailment=unusable.ailment, ended=clean or unusable.ended)
        except Exception as broken:  # whatever a process can do wrong, the slot is only not usable now
            log.warning("slot_not_prepared", slot=slot.name, error=type(broken).__name__)
        finally:
            if self._primer and wanted is not None:
                self._primer.end()
            if slot.wanted is wanted:  # with its lease lost the slot may be primed under another by now
                slot.wanted = None
            if self.actor_ref.is_alive():
                self.actor_ref.tell(became)

    async def _reached(self, became: Reached) -> None:
        slot, hold, rpc, waiter = became.slot, became.hold, became.rpc, became.waiter
        if rpc is None and slot.hold is hold and became.ended:
            self._background(self._give_up(became))
            return
        if waiter:
            waiter.promised = False
        if rpc is None or slot.hold is not hold:
            self._drop(slot, hold, became.ailment)
            if rpc is not None:
                await self._check.close(rpc)
        elif waiter is None or waiter.granted.done():
            self._background(self._release(slot, hold, rpc, primed=became.primed))
        else:
            waited_s = self._line.leave(waiter, now=self._clock.now())
            log.info("slot_granted", slot=slot.name, role=self._role.value, seat=waiter.seat, waited_s=waited_s)
            self._become(slot, SlotState.LEASED)
            slot.looked_at = asyncio.get_running_loop().time()
            leased = LeasedSlot(slot=slot, hold=hold, rpc=rpc, waited_s=waited_s, primed=became.primed)
            waiter.granted.set_result(leased)
        if waiter:
            await self._serve()  # whoever is next

    # -- giving back ---------------------------------------------------------------------------------------------

    async def _take_back(self, leased: LeasedSlot, *, clean: bool) -> None:
        slot, hold, rpc = leased.slot, leased.hold, leased.rpc
        if slot.hold is not hold:
            await self._check.close(rpc)
            return
        self._become(slot, SlotState.PREPARING)
        if clean:
            await self._release(slot, hold, rpc, primed=leased.primed)
            return
        await self._check.close(rpc)
        await self._prepare(slot, hold, clean=False)

    async def _quarantine(self, leased: LeasedSlot) -> None:
        """Ends a process that somebody else uses as well; one that is not ours is left alone for a while."""
        slot, hold = leased.slot, leased.hold
        log.error("other_wallet_open", slot=slot.name)
        if slot.given:
            slot.rests_until = asyncio.get_running_loop().time() + self._limits.quarantine_s
            self._drop(slot, hold, Ailment.OTHER_WALLET)
            await self._check.close(leased.rpc)
        else:
            self._background(self._take_back(leased, clean=False))

    async def _release(self, slot: Slot, hold: Hold, rpc: WalletRpc, *, primed: PrimedWallet | None) -> None:
        await self._check.close(rpc)
        if self._primer and primed and not await self._primer.leave_open(slot, hold, primed):
            self._drop(slot, hold, Ailment.FAILED)  # not given back: nobody would know whose wallet is open there
            return
        await self._hand_in(slot, hold)
        if slot.hold is hold:
            now = asyncio.get_running_loop().time()
            if not slot.offered:  # not after each look at it
                slot.offered = True
                log.info("slot_free", slot=slot.name, role=self._role.value)
            if hold.seat:
                slot.used_until = now
                self._clock.call_later(self._limits.prime_rest_s, self._look)
            slot.hold, slot.looked_at = None, now
            self._become(slot, SlotState.FREE)
        self._look()

    async def _give_up(self, became: Reached) -> None:
        """Gives back the lease of a slot that cannot be used and has no wallet open: its seat may go elsewhere."""
        await self._hand_in(became.slot, became.hold)
        self._drop(became.slot, became.hold, became.ailment)
        if became.waiter:
            became.waiter.promised = False  # not sooner: until now its seat seemed bound to this slot
        self._look()

    async def _hand_in(self, slot: Slot, hold: Hold) -> None:
        hold.end()
        if slot.hold is not hold:
            return
        try:
            await self._leases.release(hold.lease)
        except Exception as away:  # still ours by the row: taken again it is cleaned first
            log.warning("slot_lease_not_released", slot=slot.name, error=type(away).__name__)

    def _drop(self, slot: Slot, hold: Hold, ailment: Ailment | None) -> None:
        """Lets go of a slot that cannot be used; with its lease not given back whoever has it next cleans it."""
        hold.end()
        if slot.hold is hold:
            slot.hold = None
            self._become(slot, SlotState.UNHEALTHY, ailment or Ailment.FAILED)

    def _become(self, slot: Slot, state: SlotState, ailment: Ailment | None = None) -> None:
        before = slot.ailment
        slot.become(state, at=self._clock.now(), ailment=ailment)
        if ailment is not None and ailment is not before:
            slot.offered = False
            log.warning("slot_unusable", slot=slot.name, reason=ailment.value)
        elif ailment is None and before is not None:
            log.info("slot_usable_again", slot=slot.name)

    def _look(self) -> None:
        if self.actor_ref.is_alive():
            self.actor_ref.tell(Look())

    # -- looking after -------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        self._arm()
        for slot in self._slots:
            hold = slot.hold
            # One that is being given back is not renewed, and not lost either.
            if hold and not hold.ended and not await hold.renew(self._leases) and slot.hold is hold and not hold.ended:
                log.error("slot_lease_lost", slot=slot.name)
                hold.end()
                slot.hold = None
                self._become(slot, SlotState.FREE)
            # A look at a slot ends by itself after seconds; opening a wallet may take minutes.
            long_calls = slot.state is SlotState.LEASED or slot.wanted is not None
            if slot.hold and long_calls and slot.host.silent():
                log.warning("slot_silent", slot=slot.name)
                self._background(self._check.revive(slot, slot.hold))
        await self._serve()
        await self._mend()
        await self._prime()

    async def _mend(self) -> None:
        """Cleans what nobody uses: slots never looked at, broken, silent, or left behind by whoever had them."""
        try:
            rows = await self._leases.held()
            for name in self._slots.forget_who_left(rows):
                log.info("slot_left", slot=name)
            for slot in self._slots.in_other_hands(rows):
                self._become(slot, SlotState.FREE)
            for slot in self._slots.in_need(rows, now=asyncio.get_running_loop().time()):
                await self._lease(slot, row=rows.get(slot.name))
        except LogUnavailable:
            pass  # the next tick looks again

    # -- priming ---------------------------------------------------------------------------------------------------

    async def _prime(self) -> None:
        """Has a fresh wallet opened in slots that nobody uses, as long as nobody waits for one."""
        primer = self._primer
        if primer is None:
            return
        try:
            rows, noted = await self._leases.held(), await primer.noted()
            self._primed = primed_slots(self._slots, rows, noted)
            limits = self._limits
            rest_s = limits.prime_rest_busy_s if primer.at_work() else limits.prime_rest_s
            for slot in self._slots.at_rest(rows, since=asyncio.get_running_loop().time() - rest_s):
                if slot.name in self._primed or not primer.begin():
                    continue
                begun = False
                try:
                    begun = await self._lease(slot, row=rows[slot.name], prime=True)
                finally:
                    if not begun:
                        primer.end()
        except LogUnavailable:
            pass  # the next tick looks again

    def _arm(self, *, sooner: bool = False) -> None:
        """Sets the next tick; `sooner` only where that is earlier than the one that is set."""
        limits = self._limits
        after_s = min(limits.renew_s, limits.recheck_s, limits.wait_s if self._line else limits.recheck_s)
        due_at = asyncio.get_running_loop().time() + after_s
        if sooner and due_at >= self._due_at:
            return
        self._due.cancel()
        self._due, self._due_at = self._clock.call_later(after_s, self._remind), due_at

    def _remind(self) -> None:
        if self.actor_ref.is_alive():
            self.actor_ref.tell(Tick())

    def _end_work(self) -> None:
        self._due.cancel()
        for task in self._tasks:
            task.cancel()

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
