"""The number of slots follows their use: the service's own are started and ended, of others a number is advised."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec
import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from actors.slot_messages import AddSlot, DrainSlot
from actors.slots import Slot
from actors.supervisor import RoleSupervisor
from domain.roles import THREE, Role
from eventstore.api import LeaseRow, Leases
from service.own_slots import is_own
from service.pool_size import PoolFile, PoolSize
from service.scaling import RoleUse, Sample, ScalingLimits, UseHistory, use_percent, wanted_size

log = structlog.get_logger(__name__)

ASK_S = 10.0


class Fleet(Protocol):
    """Who makes and ends the slots of a world by their names; `OwnSlots` is one."""

    def slot(self, name: str) -> Slot: ...

    def known(self) -> Collection[str]: ...

    async def end(self, name: str, *, fence: int) -> None: ...


class SizeInvalid(Exception):
    """Nobody can have so many slots here; the text says how many are possible."""


class Scaled(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one evaluation, in wallet processes of all roles together."""

    before: int
    after: int
    use_percent: int
    """Of the busiest role; above 100 while seats wait."""
    advised: bool = False
    """`after` is advice: the processes are not the service's own."""


class PoolUse:
    """Looks at the use of a node's slots: seats of all nodes that have one, seats of this node that wait."""

    def __init__(
        self, supervisors: Mapping[Role, RoleSupervisor], *, leases: Leases, limits: ScalingLimits | None = None
    ) -> None:
        self.supervisors, self.leases, self.limits = supervisors, leases, limits or ScalingLimits()
        self.history = UseHistory(self.limits)

    async def look(self) -> Sample:
        """Takes a sample now; raises `LogUnavailable`."""
        rows = await self.leases.held()
        roles = tuple(_use(supervisor, rows) for supervisor in self.supervisors.values())
        sample = Sample(asyncio.get_running_loop().time(), roles)
        self.history.see(sample)
        return sample

    def wanted(self, *, size: int, least: int, most: int) -> int:
        """Returns how many slots a role should have by what was seen so far."""
        return wanted_size(self.history.samples, size=size, least=least, most=most, limits=self.limits)


def _use(supervisor: RoleSupervisor, rows: Mapping[str, LeaseRow]) -> RoleUse:
    status = supervisor.status()
    in_use = (rows[slot.name] for slot in status if slot.name in rows)
    seats = {row.detail for row in in_use if row.detail and not row.released} | supervisor.waiting()
    return RoleUse(len(seats), sum(slot.state != "draining" for slot in status))


class OwnScaler:
    """One node's part in the size of a world's pool: it makes its supervisors follow the file, and may change it.

    A slot that is to go is drained by every node; once this one has forgotten it, its process is ended under the
    slot's lease. A node that does not know yet may start it again: it is drained and ended again then.
    """

    def __init__(self, use: PoolUse, *, file: PoolFile, fleet: Fleet, node_id: str, lease_s: float) -> None:
        self._use, self._file, self._fleet = use, file, fleet
        self._node_id, self._lease_s = node_id, lease_s
        self._seen: PoolSize | None = None
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._alone = asyncio.Lock()
        self.scalings = Counter[str]()
        """By direction, those that this node decided."""

    @property
    def wanted(self) -> int:
        """How many slots there should be."""
        return len(self._seen.names()) if self._seen else 0

    async def evaluate(self) -> Scaled:
        """Follows the file, looks at the use, and changes the file where that is due.

        Raises `NoPool`, `LogUnavailable`, `AskTimeout`.
        """
        async with self._alone:
            size, sample = await self._looked()
            wanted = self._use.wanted(size=size.slots_per_role, least=size.least, most=size.most)
            changed = self._changed(size, wanted, drained=size.drained) if wanted != size.slots_per_role else None
            if changed:
                await self._follow(changed)
            return _scaled(size, changed or size, sample)

    async def scale_to(self, slots: int) -> Scaled:
        """Sets how many wallet processes there are, and takes in again who was drained.

        Raises `SizeInvalid`, and what `evaluate` raises.
        """
        async with self._alone:
            while True:
                size, sample = await self._looked()
                wanted = _per_role(slots, size)
                if changed := self._changed(size, wanted, drained=()):
                    await self._follow(changed)
                    return _scaled(size, changed, sample)

    async def drain(self, name: str) -> bool:
        """Takes one slot out, on every node; False when there is none of that name."""
        async with self._alone:
            while True:
                size, _ = await self._looked()
                if name not in size.names():
                    return False
                if changed := self._changed(size, size.slots_per_role, drained=(*size.drained, name)):
                    await self._follow(changed)
                    return True

    async def stop(self) -> None:
        """Gives up endings under way: whoever looks next goes on with them."""
        for task in self._ending.values():
            task.cancel()
        await asyncio.gather(*self._ending.values(), return_exceptions=True)

    def _changed(self, size: PoolSize, wanted: int, *, drained: tuple[str, ...]) -> PoolSize | None:
        changed = self._file.change(size, slots_per_role=wanted, drained=drained)
        if changed and wanted != size.slots_per_role:
            self.scalings["up" if wanted > size.slots_per_role else "down"] += 1
            log.info("pool_scaled", before=_total(size), after=_total(changed))
        return changed

    async def _looked(self) -> tuple[PoolSize, Sample]:
        size = self._file.read()
        await self._follow(size)
        return size, await self._use.look()

    async def _follow(self, size: PoolSize) -> None:
        """Has this node's supervisors take in the slots there should be, and let the others go."""
        if self._seen != size:
            self._use.history.forget()
            self._seen = size
        wanted = size.names()
        for role, supervisor in self._use.supervisors.items():
            states = {slot.name: slot.state for slot in supervisor.status()}
            for name in wanted:
                absent = name not in states and name not in self._ending
                if wanted[name] is role and (absent or states.get(name) == "draining"):
                    await supervisor.actor_ref.ask(AddSlot(slot=self._fleet.slot(name)), timeout_s=ASK_S)
            for name, state in states.items():
                if name not in wanted and state != "draining":
                    await supervisor.actor_ref.ask(DrainSlot(name=name), timeout_s=ASK_S)
        await self._end_who_left(wanted)

    async def _end_who_left(self, wanted: Collection[str]) -> None:
        """Ends what runs for slots that nobody wants and this node does not use.

        A row that was not given back counts as well: the seat that it names waits for that slot.
        """
        rows = await self._use.leases.held()
        not_over = {name for name, row in rows.items() if is_own(name) and not row.released}
        used = {slot.name for supervisor in self._use.supervisors.values() for slot in supervisor.status()}
        for name in (not_over | set(self._fleet.known())) - used - set(wanted) - set(self._ending):
            self._ending[name] = asyncio.get_running_loop().create_task(self._end(name))

    async def _end(self, name: str) -> None:
        try:
            lease = await self._use.leases.acquire(name, holder=self._node_id, seconds=self._lease_s)
            if lease is None:
                return  # another node's, for now
            await self._fleet.end(name, fence=lease.fence)
            await self._use.leases.release(lease)
        except Exception as failed:  # whatever it was, the next look tries again
            log.warning("slot_not_ended", slot=name, error=type(failed).__name__)
        else:
            log.info("slot_ended", slot=name)
        finally:
            del self._ending[name]


class GivenAdviser:
    """Says how many of somebody else's wallet processes there should be; it starts and ends none."""

    def __init__(self, use: PoolUse, *, least: int, most: int) -> None:
        self._use, self._least, self._most = use, least, most
        self._slots: tuple[int, ...] = ()
        self.scalings = Counter[str]()
        self.wanted = 0

    async def evaluate(self) -> Scaled:
        """Looks at the use; raises `LogUnavailable`."""
        sample = await self._use.look()
        slots = tuple(each.slots for each in sample.roles)
        if slots != self._slots:
            self._use.history.forget()
            self._slots = slots
        size = min(slots)
        wanted = self._use.wanted(size=size, least=self._least, most=self._most)
        self.wanted = sum(slots) + len(THREE) * (wanted - size)
        return Scaled(before=sum(slots), after=self.wanted, use_percent=use_percent(sample), advised=True)

    async def stop(self) -> None:
        """Has nothing under way."""


class ScalingMetrics(Collector):
    """Shows how many slots there should be, and how often this node changed it."""

    def __init__(self, scaler: OwnScaler | GivenAdviser) -> None:
        self._scaler = scaler

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics as they are now."""
        says = "Slots there should be; for processes that are not the service's own, as it advises."
        yield GaugeMetricFamily("rpc_pool_wanted_slots", says, value=self._scaler.wanted)
        counted = CounterMetricFamily(
            "rpc_pool_scalings_total", "Changes that this node decided.", labels=["direction"]
        )
        for direction in ("up", "down"):
            counted.add_metric([direction], self._scaler.scalings[direction])
        yield counted


@asynccontextmanager
async def scaling(scaler: OwnScaler | GivenAdviser, *, limits: ScalingLimits) -> AsyncIterator[None]:
    """Evaluates again and again for the block."""
    looking = asyncio.get_running_loop().create_task(_evaluated(scaler, limits.look_s))
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await scaler.stop()


async def _evaluated(scaler: OwnScaler | GivenAdviser, look_s: float) -> None:
    while True:
        try:
            await scaler.evaluate()
        except Exception as failed:  # nobody else looks: whatever it was, the next look may do better
            log.warning("pool_not_evaluated", error=type(failed).__name__)
        await asyncio.sleep(look_s)


def _per_role(slots: int, size: PoolSize) -> int:
    per_role, rest = divmod(slots, len(THREE))
    if rest or not size.least <= per_role <= size.most:
        least, most = len(THREE) * size.least, len(THREE) * size.most
        raise SizeInvalid(f"expected a multiple of three from {least} to {most}")
    return per_role


def _total(size: PoolSize) -> int:
    return len(THREE) * size.slots_per_role


def _scaled(before: PoolSize, after: PoolSize, sample: Sample) -> Scaled:
    return Scaled(before=_total(before), after=_total(after), use_percent=use_percent(sample))
