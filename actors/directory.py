"""Which actors are awake: id to live actor, woken by mail, put to sleep when idle, parked when they keep crashing."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec
import structlog

from actors.mail import ActorStopped
from actors.ports import Clock, Timer
from actors.runtime import AsyncioActor, AsyncioRef

_log = structlog.get_logger(__name__)

Id = TypeVar("Id", bound=str)


class Parked(Exception):
    """The actor crashed too often and is not woken again until somebody has looked and calls `unpark`."""

    def __init__(self, *, id: str, failure: BaseException | None = None) -> None:
        super().__init__(f"{id} is parked")
        self.id, self.failure = id, failure


class DirectoryFull(Exception):
    """As many actors as may be awake all have work in hand: try again later; nothing was delivered."""

    def __init__(self, *, resident_max: int) -> None:
        super().__init__(f"{resident_max} actors are at work")
        self.resident_max = resident_max


class DirectoryCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Figures for the metrics: `resident` and `parked` are of now, the others since the start."""

    resident: int
    parked: int
    wakes: int
    passivations: int
    crashes: int


class Directory(Generic[Id]):
    """Knows the live actor of each id and brings mail to it.

    `factory` makes the actor of an id, at once and without waiting; what takes time (reading the log) belongs into the
    actor's `on_wake`. So waking has no moment in which a second ask could wake the same id again. Mail that waits
    behind a message that crashed its actor goes to the next actor of that id, in order. An actor that has mail is never
    put to sleep. `on_parked` is called once when an id is parked, with the exception of the last crash; a crash is
    what the actor's `survives` does not name.
    """

    def __init__(
        self,
        factory: Callable[[Id], AsyncioActor],
        *,
        clock: Clock,
        on_parked: Callable[[Id, BaseException], None],
        idle_s: float = 600,
        resident_max: int = 10_000,
        crash_limit: int = 5,
        crash_window_s: float = 60,
    ) -> None:
        self._factory, self._clock, self._on_parked = factory, clock, on_parked
        self._idle_us, self._resident_max = round(idle_s * 1_000_000), resident_max
        self._crash_limit, self._crash_window_us = crash_limit, round(crash_window_s * 1_000_000)
        self._residents: OrderedDict[Id, _Resident] = OrderedDict()  # least recently used first
        self._crashes: OrderedDict[Id, list[int]] = OrderedDict()  # moments within the window; oldest last crash first
        self._parked: dict[Id, BaseException] = {}  # with the exception of the last crash
        self._sweep_timer: Timer | None = None
        self._closed = False
        self._wakes = self._passivations = self._crash_count = 0

    async def ask(self, id: Id, message: object, *, timeout_s: float, correlation_id: str | None = None) -> Any:
        """Sends a message to the actor of an id, waking it if need be, and returns the answer.

        Raises `Parked`, `DirectoryFull` and what `AsyncioRef.ask` raises.
        """
        return await self._awake(id).ask(message, timeout_s=timeout_s, correlation_id=correlation_id)

    def tell(self, id: Id, message: object, *, correlation_id: str | None = None) -> None:
        """Sends a message to the actor of an id, waking it if need be; raises as `ask` does, save for answers."""
        self._awake(id).tell(message, correlation_id=correlation_id)

    def unpark(self, id: Id) -> None:
        """Lets a parked id be woken again, its crashes forgotten; does nothing to one that is not parked."""
        self._parked.pop(id, None)

    def parked(self) -> frozenset[Id]:
        """The ids that are not woken until they are unparked."""
        return frozenset(self._parked)

    def counts(self) -> DirectoryCounts:
        """What the metrics show."""
        return DirectoryCounts(
            resident=len(self._residents),
            parked=len(self._parked),
            wakes=self._wakes,
            passivations=self._passivations,
            crashes=self._crash_count,
        )

    async def stop_all(self, *, timeout_s: float) -> None:
        """Refuses new mail for good, lets what waits be handled, and kills what is not done after `timeout_s`."""
        self._closed = True
        self._disarm()
        actors = [resident.actor for resident in self._residents.values()]
        busy = [actor for actor in actors if actor.busy]
        for actor in actors:
            actor.stop()
        await asyncio.gather(*(actor.actor_ref.stop(timeout_s=timeout_s) for actor in busy))

    def _awake(self, id: Id) -> AsyncioRef:
        resident = self._residents.get(id) or self._wake(id)
        resident.used_at = self._clock.now()
        self._residents.move_to_end(id)
        return resident.actor.actor_ref

    def _wake(self, id: Id) -> "_Resident":
        if self._closed:
            raise ActorStopped(actor=id, begun=False)
        if id in self._parked:
            raise Parked(id=id, failure=self._parked[id])
        self._make_room()
        actor = self._factory(id)
        actor.on_end = partial(self._ended, id, actor)
        resident = self._residents[id] = _Resident(actor, used_at=self._clock.now())
        self._wakes += 1
        self._arm()
        return resident

    def _make_room(self) -> None:
        if len(self._residents) < self._resident_max:
            return
        for resident in self._residents.values():
            if not resident.actor.busy:
                self._passivate(resident)
                return
        raise DirectoryFull(resident_max=self._resident_max)

    def _passivate(self, resident: "_Resident") -> None:
        assert not resident.actor.busy
        self._passivations += 1
        resident.actor.stop()

    def _ended(self, id: Id, actor: AsyncioActor, failure: BaseException | None) -> None:
        del self._residents[id]
        if failure is not None and not isinstance(failure, actor.survives):
            self._note_crash(id, failure)
        if not actor.actor_inbox.empty():
            self._carry_over(id, actor)

    def _carry_over(self, id: Id, actor: AsyncioActor) -> None:
        try:
            successor = self._wake(id).actor
        except Exception as error:
            actor.refuse_mail(error)
        else:
            actor.hand_over(successor)

    def _note_crash(self, id: Id, failure: BaseException) -> None:
        self._crash_count += 1
        now = self._clock.now()
        recent = [at for at in self._crashes.pop(id, []) if at > now - self._crash_window_us]
        self._crashes[id] = [*recent, now]
        while self._crashes and next(iter(self._crashes.values()))[-1] <= now - self._crash_window_us:
            self._crashes.popitem(last=False)
        if len(self._crashes[id]) >= self._crash_limit:
            self._park(id, failure)

    def _park(self, id: Id, failure: BaseException) -> None:
        self._parked[id] = failure
        del self._crashes[id]
        _log.error("actor_parked", id=id, error=type(failure).__name__)
        try:
            self._on_parked(id, failure)
        except Exception as error:
            _log.error("actor_hook_failed", id=id, error=type(error).__name__)

    def _sweep(self) -> None:
        """Puts to sleep what has been idle long enough; who is at work now counts as used now."""
        self._sweep_timer = None
        now = self._clock.now()
        while self._residents:
            id, oldest = next(iter(self._residents.items()))
            if oldest.used_at + self._idle_us > now:
                break
            if oldest.actor.busy:
                oldest.used_at = now
                self._residents.move_to_end(id)
            else:
                self._passivate(oldest)
        self._arm()

    def _arm(self) -> None:
        if self._sweep_timer is None and self._residents and not self._closed:
            oldest = next(iter(self._residents.values()))
            wait_us = oldest.used_at + self._idle_us - self._clock.now()
            # Never longer than one idle time, even when somebody sets the machine's clock back.
            self._sweep_timer = self._clock.call_later(min(wait_us, self._idle_us) / 1_000_000, self._sweep)

    def _disarm(self) -> None:
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None


class _Resident:
    __slots__ = ("actor", "used_at")

    def __init__(self, actor: AsyncioActor, *, used_at: int) -> None:
        self.actor, self.used_at = actor, used_at
