"""Who was stopped and goes on with an old lease touches no wallet, no file and nobody's name."""

import asyncio

import pytest

from actors.clock import SystemClock
from actors.escrow import LostLease
from actors.ports import WalletUnknown
from actors.simulation import SimChain, SimFiles, SimFolder, SimWallet
from actors.slot_messages import GiveBack, SupervisorLimits, TakeSlot
from actors.slots import HeldFiles, Hold, LeasedSlot, Slot
from actors.supervisor import RoleSupervisor
from actors.wallet_files import FolderFiles
from actors.wallet_rpc import HttpWallet
from domain.roles import Role
from eventstore.api import Lease
from eventstore.memory import MemoryTables
from eventstore.opening import Store, memory_store
from service.presence import NameTaken, present
from tests.sim_world import SimHost, until_true

LEASE = Lease(name="buyer-0", holder="here", fence=3, seconds=60)
QUICK = SupervisorLimits(recheck_s=0.05, renew_s=0.05, wait_s=0.02)


def hold_of_now() -> Hold:
    return Hold(LEASE, since=asyncio.get_running_loop().time())


async def test_a_hold_ends_before_its_lease_does_and_goes_on_when_that_is_renewed() -> None:
    now = asyncio.get_running_loop().time()
    hold = Hold(LEASE, since=now - 50)
    hold.check()
    hold = Hold(LEASE, since=now - 55)
    with pytest.raises(LostLease):
        hold.check()
    hold.renewed(since=now)
    hold.check()


async def test_a_hold_that_was_ended_is_not_brought_back_by_a_renewal_that_was_under_way() -> None:
    hold = hold_of_now()
    hold.end()
    hold.renewed(since=asyncio.get_running_loop().time())
    with pytest.raises(LostLease):
        hold.check()


async def test_a_wallet_is_not_called_once_the_lease_may_be_over() -> None:
    hold = hold_of_now()
    wallet = HttpWallet("http://127.0.0.1:1", before_call=hold.check)
    with pytest.raises(WalletUnknown):
        await wallet.store()
    hold.end()
    with pytest.raises(LostLease):
        await wallet.store()
    await wallet.aclose()


async def test_wallet_files_are_not_changed_once_the_lease_may_be_over(tmp_path) -> None:
    (tmp_path / "w.keys").write_bytes(b"keys 1")
    hold = hold_of_now()
    files = HeldFiles(FolderFiles(tmp_path), hold)
    files.save("w", label="make")
    (tmp_path / "w.keys").write_bytes(b"keys 2")
    hold.end()
    for change in (lambda: files.restore("w", label="make"), lambda: files.drop_cache("w")):
        with pytest.raises(LostLease):
            change()
    assert (tmp_path / "w.keys").read_bytes() == b"keys 2"


async def test_who_comes_while_another_changes_a_wallets_files_is_told_to_come_again(tmp_path) -> None:
    ours, theirs = (HeldFiles(FolderFiles(tmp_path), hold_of_now()) for _ in range(2))
    with theirs.alone("w"):
        with pytest.raises(WalletUnknown, match="locked"), ours.alone("w"):
            pass
        with ours.alone("another"):
            pass
    with ours.alone("w"):
        pass


# -- a wallet in one process ---------------------------------------------------------------------------------------


class Counted(SimHost):
    """A process that counts how often it was ended."""

    def __init__(self, wallet: SimWallet) -> None:
        super().__init__(wallet)
        self.ended = 0

    async def restart(self, fence: int) -> None:
        self.ended += 1
        await super().restart(fence)


class Machine:
    """Two slots of one role, and nodes on one set of leases."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.tables = MemoryTables(partitions=1, clock=lambda: self.now)
        chain, folder = SimChain(), SimFolder()
        self.hosts = [Counted(SimWallet(chain=chain, folder=folder)) for _ in range(2)]
        self.files = SimFiles(folder)

    def node(self, name: str) -> RoleSupervisor:
        slots = [
            Slot(name=f"buyer-{n}", role=Role.BUYER, files=self.files, host=host) for n, host in enumerate(self.hosts)
        ]
        leases = memory_store(partitions=1, tables=self.tables).slot_leases
        return RoleSupervisor(Role.BUYER, slots, leases=leases, node_id=name, clock=SystemClock(), limits=QUICK)

    def pass_time(self, seconds: int) -> None:
        self.now += seconds * 1_000_000


async def wished(node: RoleSupervisor, seat: str) -> "asyncio.Future[LeasedSlot]":
    granted: asyncio.Future[LeasedSlot] = asyncio.get_running_loop().create_future()
    await node.actor_ref.ask(TakeSlot(seat=seat, granted=granted), timeout_s=60)
    return granted


async def taken(node: RoleSupervisor, seat: str) -> LeasedSlot:
    async with asyncio.timeout(60):
        return await (await wished(node, seat))


async def test_a_seat_gets_no_second_slot_while_its_wallet_may_be_open_in_the_first() -> None:
    machine = Machine()
    one, two = machine.node("one"), machine.node("two")
    first = await taken(one, "esc/buyer")
    wish = await wished(two, "esc/buyer")
    assert (await taken(two, "other/buyer")).slot.name != first.slot.name, "the other slot is free for others"
    await asyncio.sleep(0.2)
    assert not wish.done()
    one.actor_ref.tell(GiveBack(leased=first, clean=True))
    async with asyncio.timeout(60):
        assert (await wish).slot.name == first.slot.name
    for node in (one, two):
        await node.actor_ref.stop(timeout_s=1)


async def test_a_slot_that_was_not_given_back_is_cleaned_by_the_next_before_anything_else() -> None:
    machine = Machine()
    one = machine.node("one")
    first = await taken(one, "esc/buyer")
    await one.actor_ref.stop(timeout_s=1)  # as if it had died: nothing is given back
    host = machine.hosts[int(first.slot.name[-1])]
    ended = host.ended
    two = machine.node("two")
    wish = await wished(two, "esc/buyer")
    await asyncio.sleep(0.2)
    assert not wish.done()
    machine.pass_time(61)
    async with asyncio.timeout(60):
        second = await wish
    assert (second.slot.name, host.ended) == (first.slot.name, ended + 1)
    assert second.hold.lease.fence > first.hold.lease.fence
    await two.actor_ref.stop(timeout_s=1)


async def test_a_slot_given_back_clean_is_not_started_anew_for_the_next_node() -> None:
    machine = Machine()
    one, two = machine.node("one"), machine.node("two")
    first = await taken(one, "esc/buyer")
    host = machine.hosts[int(first.slot.name[-1])]
    ended = host.ended
    one.actor_ref.tell(GiveBack(leased=first, clean=True))
    leases = memory_store(partitions=1, tables=machine.tables).slot_leases
    await until_true(lambda: first.slot.hold is None)
    assert (await leases.held())[first.slot.name].released
    again = {(await taken(two, f"{n}/buyer")).slot.name for n in range(2)}
    assert first.slot.name in again
    assert host.ended == ended
    for node in (one, two):
        await node.actor_ref.stop(timeout_s=1)


async def test_a_node_that_ends_in_order_leaves_its_slots_to_others_at_once_and_uncleaned() -> None:
    machine = Machine()
    one = machine.node("one")
    first = await taken(one, "esc/buyer")
    await one.actor_ref.stop(timeout_s=1)
    await one.leave()
    with pytest.raises(LostLease):
        first.hold.check()
    host = machine.hosts[int(first.slot.name[-1])]
    ended = host.ended
    two = machine.node("two")
    assert (await taken(two, "esc/buyer")).slot.name == first.slot.name
    assert host.ended == ended + 1
    await two.actor_ref.stop(timeout_s=1)


# -- names -----------------------------------------------------------------------------------------------------------


def _nobody() -> None:
    raise AssertionError("the name was lost")


async def test_a_name_is_one_folders_own_while_its_node_lives(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    store: Store = memory_store(partitions=1)
    async with present(store.seat_leases, name="n", home=tmp_path / "a", seconds=60, on_lost=_nobody):
        with pytest.raises(NameTaken):
            async with present(store.seat_leases, name="n", home=tmp_path / "b", seconds=60, on_lost=_nobody):
                pass
        async with present(store.seat_leases, name="m", home=tmp_path / "b", seconds=60, on_lost=_nobody):
            pass
    async with present(store.seat_leases, name="n", home=tmp_path / "b", seconds=60, on_lost=_nobody):
        pass


async def test_a_node_whose_name_another_has_taken_is_told(tmp_path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    tables = MemoryTables(partitions=1, clock=lambda: now)
    now, lost = 1_000_000, asyncio.Event()
    store = memory_store(partitions=1, tables=tables)
    async with present(store.seat_leases, name="n", home=tmp_path / "a", seconds=0.4, on_lost=lost.set):
        now += 1_000_000  # it was stopped for longer than its lease
        async with present(store.seat_leases, name="n", home=tmp_path / "b", seconds=60, on_lost=_nobody):
            async with asyncio.timeout(60):
                await lost.wait()
