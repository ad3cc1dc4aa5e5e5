"""Slots never leak and their supervisor outlives whatever its callers and the database do."""

import asyncio

import pytest

from actors.clock import SystemClock
from actors.simulation import SimChain, SimFiles, SimFolder, SimWallet
from actors.slot_messages import GiveBack, SupervisorLimits, TakeSlot
from actors.slots import LeasedSlot, NoSlot, Slot
from actors.supervisor import RoleSupervisor
from domain.roles import Role
from eventstore.api import Lease, LeaseRow, Leases
from eventstore.opening import memory_store
from tests.sim_world import SimHost, until_true

QUICK = SupervisorLimits(recheck_s=0.05, renew_s=0.05)


class SlowLeases:
    """Leases whose next acquisitions wait until they are let go on."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.asked = asyncio.Event()
        self.failures = 0

    async def acquire(self, name: str, *, holder: str, seconds: float, detail: str = "") -> Lease | None:
        self.asked.set()
        await self.go_on.wait()
        return await self._leases.acquire(name, holder=holder, seconds=seconds, detail=detail)

    def _fail_if_ordered(self) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("an error nobody foresaw")

    async def renew(self, lease: Lease) -> bool:
        self._fail_if_ordered()
        return await self._leases.renew(lease)

    async def release(self, lease: Lease) -> None:
        self._fail_if_ordered()
        await self._leases.release(lease)

    async def held(self) -> dict[str, LeaseRow]:
        return dict(await self._leases.held())


def supervisor_of_one_slot() -> tuple[RoleSupervisor, SlowLeases]:
    folder = SimFolder()
    wallet = SimWallet(chain=SimChain(), folder=folder)
    slot = Slot(name="buyer-0", role=Role.BUYER, files=SimFiles(folder), host=SimHost(wallet))
    leases = SlowLeases(memory_store(partitions=1).slot_leases)
    return RoleSupervisor(
        Role.BUYER,
        [slot],
        leases=leases,
        node_id="node",
        clock=SystemClock(),
        limits=QUICK,
    ), leases


async def taken(supervisor: RoleSupervisor) -> LeasedSlot:
    async with asyncio.timeout(60):
        return await (await asked(supervisor))


async def asked(supervisor: RoleSupervisor, *, timeout_s: float = 60) -> "asyncio.Future[LeasedSlot]":
    granted: asyncio.Future[LeasedSlot] = asyncio.get_running_loop().create_future()
    try:
        await supervisor.actor_ref.ask(TakeSlot(seat="esc/buyer", granted=granted), timeout_s=timeout_s)
    except BaseException:
        granted.cancel()
        raise
    return granted


async def test_a_waiter_that_gives_up_while_its_slot_is_leased_costs_neither_the_slot_nor_the_supervisor() -> None:
    supervisor, leases = supervisor_of_one_slot()
    await until_true(lambda: supervisor.counts().free == 1)
    first = await taken(supervisor)
    granted = await asked(supervisor)
    leases.go_on.clear()
    leases.asked.clear()
    supervisor.actor_ref.tell(GiveBack(leased=first, clean=True))
    await leases.asked.wait()
    granted.cancel()
    leases.go_on.set()
    assert (await taken(supervisor)).slot is first.slot
    await supervisor.actor_ref.stop(timeout_s=1)


async def test_a_waiter_whose_ask_came_to_nothing_is_given_no_slot() -> None:
    supervisor, leases = supervisor_of_one_slot()
    await until_true(lambda: supervisor.counts().free == 1)
    leases.go_on.clear()
    with pytest.raises(Exception, match="no answer"):
        _ = await asked(supervisor, timeout_s=0.05)
    leases.go_on.set()
    await taken(supervisor)
    await supervisor.actor_ref.stop(timeout_s=1)


async def test_a_slot_can_be_given_back_however_much_mail_waits() -> None:
    supervisor, leases = supervisor_of_one_slot()
    await until_true(lambda: supervisor.counts().free == 1)
    first = await taken(supervisor)
    leases.go_on.clear()
    waiting = [asyncio.create_task(asked(supervisor)) for _ in range(300)]
    await asyncio.sleep(0)
    supervisor.actor_ref.tell(GiveBack(leased=first, clean=True))
    leases.go_on.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    granted = [answer for answer in answers if isinstance(answer, asyncio.Future)]
    assert [type(answer) for answer in answers if isinstance(answer, BaseException)] == [NoSlot] * 200
    async with asyncio.timeout(60):
        assert (await granted[0]).slot is first.slot
    await supervisor.actor_ref.stop(timeout_s=1)


async def test_a_supervisor_outlives_errors_of_the_database_that_nobody_foresaw() -> None:
    supervisor, leases = supervisor_of_one_slot()
    await until_true(lambda: supervisor.counts().free == 1)
    first = await taken(supervisor)
    leases.failures = 2
    await until_true(lambda: not leases.failures)  # renewing, at two ticks
    leases.failures = 1
    supervisor.actor_ref.tell(GiveBack(leased=first, clean=True))
    assert (await taken(supervisor)).slot is first.slot
    await supervisor.actor_ref.stop(timeout_s=1)
