"""The slots of one node as operators see and change them while it runs."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import structlog

from actors.given_slot import GivenHost
from actors.slot_messages import AddSlot, DrainSlot
from actors.slot_status import SlotStatus
from actors.slots import Slot
from actors.supervisor import RoleSupervisor
from domain.roles import Role
from service.given_slots import GivenSlot
from service.pool_scaler import GivenAdviser, OwnScaler, Scaled

log = structlog.get_logger(__name__)

ASK_S = 10.0
CHANGES_ROLE = "{} to change their role, folder or scheme once they have left: reload again then"


class NotOurs(Exception):
    """The wallet processes are somebody else's: the service starts and ends none of them."""


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload changed."""

    added: int
    removed: int
    message: str


class SlotPool:
    """All slots of a node. `read` says which processes are configured now; None for a node that runs its own."""

    def __init__(
        self,
        supervisors: Mapping[Role, RoleSupervisor],
        given: Iterable[tuple[GivenSlot, Slot]] = (),
        *,
        read: Callable[[], Sequence[GivenSlot]] | None = None,
        make: Callable[[GivenSlot], Slot],
        scaler: OwnScaler | GivenAdviser,
    ) -> None:
        self._supervisors, self._read, self._make, self._scaler = supervisors, read, make, scaler
        self._given = {slot.name: (about, slot) for about, slot in given}
        self._one_at_a_time = asyncio.Lock()

    def status(self) -> tuple[SlotStatus, ...]:
        """Describes every slot, by role."""
        return tuple(status for supervisor in self._supervisors.values() for status in supervisor.status())

    def full(self) -> bool:
        """Whether as many seats of a role wait here for a slot as may."""
        return any(supervisor.counts().full for supervisor in self._supervisors.values())

    async def drain(self, name: str) -> bool:
        """Lets a slot finish its lease and leave; False when there is none of that name.

        One of the service's own leaves every node, and its process is ended; `scale_to` brings it back.
        """
        known = await (self._scaler.drain(name) if isinstance(self._scaler, OwnScaler) else self._drain_here(name))
        if known:
            log.info("slot_drained", slot=name)
        return known

    async def scale(self, slots: int | None) -> Scaled:
        """Evaluates the use once, as happens every few seconds, or has just so many processes.

        Raises `SizeInvalid`, `NotOurs` where a number is asked for and the processes are somebody else's.
        """
        if slots is None:
            return await self._scaler.evaluate()
        if isinstance(self._scaler, GivenAdviser):
            raise NotOurs
        return await self._scaler.scale_to(slots)

    async def reload(self) -> Reloaded:
        """Takes over what is configured now; raises `GivenSlotsWrong` and changes nothing when that cannot be used."""
        if self._read is None:
            return Reloaded(added=0, removed=0, message="this node runs its own wallet processes: nothing to re-read")
        async with self._one_at_a_time:  # else two that come at once each make a slot of a new process
            return await self._reloaded({each.name: each for each in self._read()}, known=self._known())

    async def _reloaded(self, wanted: Mapping[str, GivenSlot], *, known: Mapping[str, SlotStatus]) -> Reloaded:
        added, later = 0, 0
        removed = [name for name, status in known.items() if name not in wanted and status.state != "draining"]
        for name in removed:
            await self._drain_here(name)
        for name, given in wanted.items():
            if name in known and not self._same(given):
                later += 1
                await self._drain_here(name)
            else:
                added += await self._take_over(given, known.get(name))
        log.info("slots_reloaded", added=added, removed=len(removed), later=later)
        return Reloaded(added=added, removed=len(removed), message=_message(added, len(removed), later))

    async def _drain_here(self, name: str) -> bool:
        supervisors = self._supervisors.values()
        return any([await each.actor_ref.ask(DrainSlot(name=name), timeout_s=ASK_S) for each in supervisors])

    def _known(self) -> dict[str, SlotStatus]:
        return {status.name: status for status in self.status()}

    def _same(self, given: GivenSlot) -> bool:
        """Whether a slot has its role, folder and address still: else it has to leave before it comes again."""
        about, _ = self._given[given.name]
        return (about.role, about.wallet_dir, about.url) == (given.role, given.wallet_dir, given.url)

    async def _take_over(self, given: GivenSlot, status: SlotStatus | None) -> bool:
        """Adds a slot, or has the one there is use its present login from its next connection on."""
        slot = self._given[given.name][1] if status else self._make(given)
        assert isinstance(slot.host, GivenHost)
        slot.host.access = given.access
        self._given[given.name] = (given, slot)
        if status is not None and status.state != "draining":
            return False
        await self._supervisors[given.role].actor_ref.ask(AddSlot(slot=slot), timeout_s=ASK_S)
        return True


def _message(added: int, removed: int, later: int) -> str:
    said = f"{added} added, {removed} to leave once they are given back"
    return f"{said}, {CHANGES_ROLE.format(later)}" if later else said
