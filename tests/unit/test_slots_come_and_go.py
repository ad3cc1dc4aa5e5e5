"""Slots of a supervisor come, go, fall ill and recover; who waits is served in the order of coming."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from actors.ailments import Ailment, SlotUnusable
from actors.clock import SystemClock
from actors.ports import WalletRpc
from actors.simulation import SimChain, SimFiles, SimFolder, SimWallet
from actors.slot_messages import AddSlot, DrainSlot, GiveBack, SupervisorLimits, TakeSlot
from actors.slots import LeasedSlot, Slot, SlotState
from actors.supervisor import RoleSupervisor
from domain.roles import Role
from eventstore.api import LeaseRow
from eventstore.opening import memory_store
from tests.sim_world import SimHost, until_true

QUICK = SupervisorLimits(recheck_s=0.05, renew_s=0.05, wait_s=0.02)


class FrailHost(SimHost):
    """A process that can be kept from starting, and whose next looks can be made to fail or to wait."""

    def __init__(self, wallet: SimWallet) -> None:
        super().__init__(wallet)
        self.broken: SlotUnusable | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.uncleaned = 0

    async def reach(self, *, fence: int, clean: bool, before_call: Callable[[], None]) -> WalletRpc:
        await self.go_on.wait()
        if self.broken is not None:
            raise self.broken
        self.uncleaned += not clean
        return await super().reach(fence=fence, clean=clean, before_call=before_call)


class Ward:
    """One supervisor of buyers and its slots."""

    def __init__(self, slots: int) -> None:
        self.chain, self.folder = SimChain(), SimFolder()
        self.hosts: dict[str, FrailHost] = {}
        self.leases = memory_store(partitions=1).slot_leases
        made = [self.slot(f"s{number}") for number in range(slots)]
        self.supervisor = RoleSupervisor(
            Role.BUYER, made, leases=self.leases, node_id="node", clock=SystemClock(), limits=QUICK
        )

    def slot(self, name: str) -> Slot:
        host = self.hosts[name] = FrailHost(SimWallet(chain=self.chain, folder=self.folder))
        return Slot(name=name, role=Role.BUYER, files=SimFiles(self.folder), host=host)

    async def wish(self, seat: str, *, came: int | None = None) -> "asyncio.Future[LeasedSlot]":
        granted: asyncio.Future[LeasedSlot] = asyncio.get_running_loop().create_future()
        await self.supervisor.actor_ref.ask(TakeSlot(seat=seat, granted=granted, came=came), timeout_s=5)
        return granted

    async def taken(self, seat: str) -> LeasedSlot:
        async with asyncio.timeout(20):
            return await (await self.wish(seat))

    def give_back(self, leased: LeasedSlot, *, clean: bool = True) -> None:
        self.supervisor.actor_ref.tell(GiveBack(leased=leased, clean=clean))

    async def drain(self, name: str) -> bool:
        return bool(await self.supervisor.actor_ref.ask(DrainSlot(name=name), timeout_s=5))

    def shown(self) -> dict[str, tuple[str, str | None]]:
        return {each.name: (each.state, each.reason) for each in self.supervisor.status()}

    async def row(self, name: str) -> LeaseRow:
        return (await self.leases.held())[name]


@asynccontextmanager
async def ward(slots: int) -> AsyncIterator[Ward]:
    made = Ward(slots)
    try:
        await until_true(lambda: made.supervisor.counts().free == slots)
        yield made
    finally:
        await made.supervisor.actor_ref.stop(timeout_s=1)


async def test_slots_are_leased_in_turn() -> None:
    async with ward(3) as here:
        seen = []
        for number in range(6):
            leased = await here.taken(f"{number}/buyer")
            seen.append(leased.slot.name)
            here.give_back(leased)
            await until_true(lambda: here.supervisor.counts().free == 3)
        assert seen[:3] == seen[3:]
        assert len(set(seen)) == 3


async def test_a_slot_that_comes_serves_who_waits() -> None:
    async with ward(1) as here:
        await here.taken("first/buyer")
        wish = await here.wish("second/buyer")
        await here.supervisor.actor_ref.ask(AddSlot(slot=here.slot("late")), timeout_s=5)
        async with asyncio.timeout(20):
            assert (await wish).slot.name == "late"


async def test_a_drained_slot_finishes_its_lease_takes_nobody_new_and_leaves() -> None:
    async with ward(1) as here:
        leased = await here.taken("first/buyer")
        assert await here.drain("s0")
        assert here.shown() == {"s0": ("draining", None)}
        leased.hold.check()
        wish = await here.wish("second/buyer")
        here.give_back(leased)
        await until_true(lambda: not here.shown())
        assert not wish.done()


async def test_a_free_slot_that_is_drained_leaves_and_an_unknown_one_is_said_to_be_unknown() -> None:
    async with ward(2) as here:
        assert await here.drain("s1")
        await until_true(lambda: list(here.shown()) == ["s0"])
        assert not await here.drain("s1")


async def test_a_slot_given_again_while_it_drains_stays() -> None:
    async with ward(1) as here:
        leased = await here.taken("first/buyer")
        await here.drain("s0")
        await here.supervisor.actor_ref.ask(AddSlot(slot=here.slot("s0")), timeout_s=5)
        here.give_back(leased)
        assert (await here.taken("second/buyer")).slot is leased.slot


async def test_a_slot_that_has_left_can_be_taken_in_again() -> None:
    async with ward(1) as here:
        leased = await here.taken("first/buyer")
        here.give_back(leased)
        await here.drain("s0")
        await until_true(lambda: not here.shown())
        await here.supervisor.actor_ref.ask(AddSlot(slot=leased.slot), timeout_s=5)
        assert (await here.taken("second/buyer")).slot is leased.slot


async def test_a_drained_slot_with_a_wallet_in_doubt_stays_until_it_is_clean() -> None:
    async with ward(2) as here:
        leased = await here.taken("first/buyer")
        host = here.hosts[leased.slot.name]
        host.broken = SlotUnusable(Ailment.SILENT)
        await here.drain(leased.slot.name)
        here.give_back(leased, clean=False)
        await until_true(lambda: leased.slot.ailment is Ailment.SILENT)
        wish = await here.wish("first/buyer")
        await asyncio.sleep(0.2)
        assert leased.slot.name in here.shown()
        assert not wish.done(), "its wallet may be open in the slot that drains"
        host.broken = None
        async with asyncio.timeout(20):
            assert (await wish).slot is not leased.slot
        await until_true(lambda: leased.slot.name not in here.shown())


@pytest.mark.parametrize(("ended", "bound"), [(True, False), (False, True)])
async def test_a_seat_waits_for_a_broken_slot_only_while_its_wallet_may_be_open_there(ended: bool, bound: bool) -> None:
    async with ward(2) as here:
        leased = await here.taken("esc/buyer")
        host = here.hosts[leased.slot.name]
        host.broken = SlotUnusable(Ailment.NOT_STARTED, ended=ended)
        here.give_back(leased, clean=False)
        await until_true(lambda: leased.slot.ailment is Ailment.NOT_STARTED)
        wish = await here.wish("esc/buyer")
        if bound:
            await asyncio.sleep(0.2)
            assert not wish.done()
            host.broken = None
        async with asyncio.timeout(20):
            again = await wish
        assert (again.slot is leased.slot) <= bound
        assert here.shown()[leased.slot.name][0] != SlotState.LEASED or bound


async def test_a_slot_that_ails_says_since_when_and_comes_back_by_itself() -> None:
    async with ward(1) as here:
        leased = await here.taken("esc/buyer")
        host = here.hosts["s0"]
        host.broken = SlotUnusable(Ailment.UNAUTHORISED)
        here.give_back(leased, clean=False)
        await until_true(lambda: here.shown() == {"s0": ("unhealthy", "unauthorised")})
        since = leased.slot.since
        assert here.supervisor.counts().unusable == {Ailment.UNAUTHORISED: 1}
        await asyncio.sleep(0.2)  # looked at again, several times
        assert leased.slot.since == since
        host.broken = None
        await until_true(lambda: here.shown() == {"s0": ("free", None)})
        assert here.supervisor.counts().unusable == {}


async def test_who_came_first_is_served_first_also_when_its_slot_turns_out_to_be_broken() -> None:
    async with ward(2) as here:
        ill, well = (slot for slot in sorted(here.hosts))
        here.hosts[ill].go_on.clear()
        first = await here.wish("first/buyer")
        second = await here.wish("second/buyer")
        await asyncio.sleep(0.2)
        assert not second.done(), "the other slot is free, but the first is still promised one"
        here.hosts[ill].broken = SlotUnusable(Ailment.GARBAGE)
        here.hosts[ill].go_on.set()
        async with asyncio.timeout(20):
            assert (await first).slot.name == well
        assert not second.done()
        here.hosts[ill].broken = None
        async with asyncio.timeout(20):
            assert (await second).slot.name == ill


async def test_whose_set_up_began_first_is_served_first_however_late_it_asks() -> None:
    async with ward(1) as here:
        leased = await here.taken("one/buyer")
        late = await here.wish("late/buyer", came=20)
        early = await here.wish("early/buyer", came=10)
        here.give_back(leased)
        async with asyncio.timeout(20):
            served = await early
        assert not late.done()
        here.give_back(served)
        async with asyncio.timeout(20):
            await late


async def test_a_seat_that_waits_for_its_own_slot_holds_nobody_up() -> None:
    async with ward(2) as here:
        leased = await here.taken("bound/buyer")
        bound = await here.wish("bound/buyer")
        other = await here.taken("other/buyer")
        assert other.slot is not leased.slot and not bound.done()
        here.give_back(leased)
        async with asyncio.timeout(20):
            await bound
