"""Wallet processes that are not ours: each illness has a name, none is waited for, and none opens a wallet twice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from actors.ailments import Ailment, SlotUnusable
from actors.clock import SystemClock
from actors.escrow import LostLease
from actors.given_slot import GivenHost, is_loopback
from actors.jsonrpc import Access
from actors.ports import WalletRefused, WalletUnknown
from actors.sealed import WalletSecrets
from actors.seat import OpenWallet, OtherWallet
from actors.simulation import SimChain, SimFiles, SimFolder, SimWallet
from actors.slot_messages import GiveBack, SupervisorLimits, TakeSlot
from actors.slots import LeasedSlot, Slot
from actors.supervisor import RoleSupervisor
from domain.roles import Role
from eventstore.memory import MemoryTables
from eventstore.opening import memory_store
from tests.sim_world import until_true
from tests.wallet_server import Illness, WalletServer, served

LIMITS = SupervisorLimits(recheck_s=0.05, renew_s=0.05, wait_s=0.02, check_s=1, patience_s=8)
LONG_S = 60.0
PASSWORD = "pw"
SECRETS = WalletSecrets(file="w", password=PASSWORD, identity_seed="00" * 32)
GRANTED: "list[asyncio.Future[LeasedSlot]]" = []
"""What this test was promised, to be disconnected at its end."""


class Given:
    """Buyers' processes that share a folder, and nodes that lease them."""

    def __init__(self, servers: list[WalletServer], folder: SimFolder) -> None:
        self.servers, self.files = servers, SimFiles(folder)
        self.now = 1_000_000
        self.tables = MemoryTables(partitions=1, clock=lambda: self.now)
        self.hosts: list[GivenHost] = []

    def node(self, name: str = "node", *, call_max_s: float = LONG_S) -> RoleSupervisor:
        self.hosts = [
            GivenHost(server.url, access=access_of(server), files=self.files, call_max_s=call_max_s)
            for server in self.servers
        ]
        slots = [
            Slot(name=f"s{number}", role=Role.BUYER, files=self.files, host=host, given=True)
            for number, host in enumerate(self.hosts)
        ]
        leases = memory_store(partitions=1, tables=self.tables).slot_leases
        return RoleSupervisor(Role.BUYER, slots, leases=leases, node_id=name, clock=SystemClock(), limits=LIMITS)

    def pass_time(self, seconds: int) -> None:
        self.now += seconds * 1_000_000


def access_of(server: WalletServer) -> Access:
    user, password = server.login or (None, None)
    return Access(user=user, password=password)


@asynccontextmanager
async def given(count: int = 1, *, login: tuple[str, str] | None = None) -> AsyncIterator[Given]:
    chain, folder = SimChain(), SimFolder()
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(served(SimWallet(chain=chain, folder=folder), login=login))
            for _ in range(count)
        ]
        yield Given(servers, folder)
        # A test that failed has more to say than its connections.
        await disconnect(GRANTED)


@asynccontextmanager
async def running(node: RoleSupervisor, *, free: int = 1) -> AsyncIterator[RoleSupervisor]:
    try:
        await until_true(lambda: node.counts().free == free)
        yield node
    finally:
        await node.actor_ref.stop(timeout_s=1)


async def wished(node: RoleSupervisor, seat: str) -> "asyncio.Future[LeasedSlot]":
    granted: asyncio.Future[LeasedSlot] = asyncio.get_running_loop().create_future()
    await node.actor_ref.ask(TakeSlot(seat=seat, granted=granted), timeout_s=5)
    GRANTED.append(granted)
    return granted


async def taken(node: RoleSupervisor, seat: str) -> LeasedSlot:
    async with asyncio.timeout(20):
        return await (await wished(node, seat))


async def disconnect(granted: "list[asyncio.Future[LeasedSlot]]") -> None:
    """Closes the connections of those who never gave their slot back."""
    for each in granted:
        if each.done() and not each.cancelled():
            await each.result().rpc.aclose()
    granted.clear()


def give_back(node: RoleSupervisor, leased: LeasedSlot, *, clean: bool) -> None:
    node.actor_ref.tell(GiveBack(leased=leased, clean=clean))


def ailing(node: RoleSupervisor) -> Callable[[Ailment | None], Callable[[], bool]]:
    return lambda ailment: lambda: node.status()[0].reason == ailment


def nothing() -> None:
    pass


# -- illnesses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("illness", "ailment"),
    [
        (Illness.GARBAGE, Ailment.GARBAGE),
        (Illness.ERROR, Ailment.GARBAGE),
        (Illness.REDIRECT, Ailment.GARBAGE),
        (Illness.UNAUTHORISED, Ailment.UNAUTHORISED),
        (Illness.CUT, Ailment.CUT),
        (Illness.SLOW, Ailment.SLOW),
        (Illness.HUNG, Ailment.SILENT),
    ],
)
async def test_an_illness_is_recognised_somebody_else_serves_and_who_is_well_again_comes_back(
    illness: Illness, ailment: Ailment
) -> None:
    async with given(2) as world, running(world.node(), free=2) as node:
        ill, _ = world.servers
        ill.fall_ill(illness)
        leased = [await taken(node, "one/buyer")]
        assert leased[0].slot.name == "s1"
        await until_true(lambda: node.status()[0].reason == ailment)
        assert node.counts().unusable == {ailment: 1}
        ill.recover()
        assert (await taken(node, "two/buyer")).slot.name == "s0"
        assert node.status()[0].reason is None


async def test_a_process_that_refuses_connections_is_recognised_and_comes_back() -> None:
    async with given() as world, running(world.node()) as node:
        await world.servers[0].stop()
        wish = await wished(node, "one/buyer")
        await until_true(ailing(node)(Ailment.REFUSED))
        await world.servers[0].start()
        async with asyncio.timeout(20):
            await wish


async def test_a_free_process_with_somebody_elses_wallet_open_is_left_alone_until_that_is_closed() -> None:
    async with given() as world, running(world.node()) as node:
        server = world.servers[0]
        await server.wallet.create_wallet("theirs", password="theirs")
        wish = await wished(node, "one/buyer")
        await until_true(ailing(node)(Ailment.OTHER_WALLET))
        await asyncio.sleep(0.2)
        assert server.wallet.opened == "theirs" and not wish.done()
        await server.wallet.close_wallet()
        async with asyncio.timeout(20):
            await wish


async def test_a_call_that_takes_longer_than_a_look_is_no_illness_of_a_slot_in_use() -> None:
    async with given() as world, running(world.node()) as node:
        leased = await taken(node, "one/buyer")
        world.servers[0].fall_ill(Illness.SLOW)
        await leased.rpc.create_wallet("w", password=PASSWORD)
        assert node.status()[0].state == "leased" and node.status()[0].reason is None


# -- who was not given back ----------------------------------------------------------------------------------------


async def test_a_holder_whose_calls_were_all_answered_is_closed_at_once_and_its_wallet_saved() -> None:
    async with given() as world, running(world.node()) as node:
        leased = await taken(node, "one/buyer")
        await leased.rpc.create_wallet("w", password=PASSWORD)
        give_back(node, leased, clean=False)
        await until_true(lambda: node.counts().free == 1)
        assert world.servers[0].wallet.opened is None
        again = await taken(node, "two/buyer")
        await again.rpc.open_wallet("w", password=PASSWORD)


async def test_a_slot_with_a_call_under_way_rests_until_the_longest_call_would_be_over() -> None:
    async with given(2) as world, running(world.node(call_max_s=5.0), free=2) as node:
        leased = await taken(node, "one/buyer")
        await leased.rpc.create_wallet("w", password=PASSWORD)
        server = world.servers[int(leased.slot.name[1])]
        server.fall_ill(Illness.HUNG)
        storing = asyncio.create_task(leased.rpc.store())
        await until_true(lambda: "store" in server.asked[-1])
        storing.cancel()
        give_back(node, leased, clean=False)
        server.recover()
        await until_true(lambda: leased.slot.ailment is Ailment.RESTING)
        wish = await wished(node, "one/buyer")
        assert (await taken(node, "two/buyer")).slot is not leased.slot
        assert not wish.done(), "its wallet may be open in the slot that rests"
        assert server.wallet.opened == "w"
        async with asyncio.timeout(20):
            assert (await wish).slot is leased.slot
        assert server.wallet.opened is None


async def test_a_slot_left_by_a_node_that_is_gone_rests_and_is_closed_before_anybody_has_it() -> None:
    async with given() as world:
        one = world.node("one")
        leased = await taken(one, "one/buyer")
        await leased.rpc.create_wallet("w", password=PASSWORD)
        await one.actor_ref.stop(timeout_s=1)  # as if it had died: nothing is given back
        two = world.node("two", call_max_s=3.0)
        wish = await wished(two, "two/buyer")
        world.pass_time(61)
        await until_true(ailing(two)(Ailment.RESTING))
        assert world.servers[0].wallet.opened == "w"
        async with asyncio.timeout(20):
            await wish
        assert world.servers[0].wallet.opened is None
        await two.actor_ref.stop(timeout_s=1)


async def test_a_hung_process_is_not_told_to_close_what_it_would_close_minutes_later() -> None:
    async with given() as world, running(world.node()) as node:
        server = world.servers[0]
        leased = await taken(node, "one/buyer")
        server.fall_ill(Illness.HUNG)
        give_back(node, leased, clean=False)
        await until_true(ailing(node)(Ailment.SILENT))
        assert not any("close_wallet" in asked for asked in server.asked)
        server.recover()
        await until_true(lambda: node.counts().free == 1)


async def test_a_login_that_was_changed_ends_the_rest_once_the_old_one_is_turned_away() -> None:
    async with given(login=("u", "old")) as world, running(world.node()) as node:
        server, host = world.servers[0], world.hosts[0]
        leased = await taken(node, "one/buyer")
        await leased.rpc.create_wallet("w", password=PASSWORD)
        server.fall_ill(Illness.CUT)
        with pytest.raises(WalletUnknown):
            await leased.rpc.store()
        server.recover()
        give_back(node, leased, clean=False)
        await until_true(ailing(node)(Ailment.RESTING))
        host.access = Access(user="u", password="new")
        await asyncio.sleep(0.2)
        assert node.status()[0].reason == Ailment.RESTING, "the process still lets the old login in"
        await server.die()
        server.login = ("u", "new")
        await server.come_back()
        await until_true(lambda: node.counts().free == 1)


# -- logins --------------------------------------------------------------------------------------------------------


async def test_a_running_lease_goes_on_with_a_login_that_was_changed_and_the_next_begins_with_it() -> None:
    async with given(login=("u", "old")) as world, running(world.node()) as node:
        server, host = world.servers[0], world.hosts[0]
        leased = await taken(node, "one/buyer")
        server.login = ("u", "new")
        with pytest.raises(WalletUnknown, match="401"):
            await leased.rpc.auto_refresh(enable=False)
        host.access = Access(user="u", password="new")
        await leased.rpc.auto_refresh(enable=False)
        give_back(node, leased, clean=True)
        await (await taken(node, "two/buyer")).rpc.get_version()


async def test_who_lost_the_lease_is_not_let_in_with_the_new_login() -> None:
    async with given(login=("u", "old")) as world:
        server = world.servers[0]
        lost = False

        def check() -> None:
            if lost:
                raise LostLease

        host = GivenHost(server.url, access=access_of(server), files=world.files)
        client = await host.reach(fence=1, clean=True, before_call=check)
        await client.get_version()
        server.login, host.access = ("u", "new"), Access(user="u", password="new")
        lost, before = True, len(server.calls)
        with pytest.raises(LostLease):
            await client.get_version()
        assert len(server.calls) == before
        await client.aclose()


# -- failover ------------------------------------------------------------------------------------------------------


async def test_the_wallet_of_a_process_that_is_gone_is_opened_from_another_slot() -> None:
    async with given(2) as world, running(world.node(), free=2) as node:
        leased = await taken(node, "one/buyer")
        await leased.rpc.create_wallet("w", password=PASSWORD)
        await world.servers[int(leased.slot.name[1])].die()
        give_back(node, leased, clean=False)
        again = await taken(node, "one/buyer")
        assert again.slot is not leased.slot
        await again.rpc.open_wallet("w", password=PASSWORD)


async def test_a_refused_connection_alone_does_not_let_a_seat_go_elsewhere() -> None:
    async with given(2) as world, running(world.node(), free=2) as node:
        leased = await taken(node, "one/buyer")
        await leased.rpc.create_wallet("w", password=PASSWORD)
        server = world.servers[int(leased.slot.name[1])]
        await server.stop()  # it listens no more, and still has the wallet open
        give_back(node, leased, clean=False)
        await until_true(lambda: leased.slot.ailment is Ailment.REFUSED)
        wish = await wished(node, "one/buyer")
        other = await taken(node, "two/buyer")
        await asyncio.sleep(1.5)
        assert not wish.done()
        with pytest.raises(WalletRefused, match="open_failed"):
            await other.rpc.open_wallet("w", password=PASSWORD)
        with pytest.raises(WalletUnknown, match="locked"):
            other.files.drop_cache("w")


async def test_a_lock_that_was_never_seen_proves_nothing_when_it_is_free() -> None:
    async with given(2) as world:
        world.files = SimFiles(SimFolder())  # another folder than that of the processes
        async with running(world.node(), free=2) as node:
            leased = await taken(node, "one/buyer")
            await leased.rpc.create_wallet("w", password=PASSWORD)
            await world.servers[int(leased.slot.name[1])].die()
            give_back(node, leased, clean=False)
            await until_true(lambda: leased.slot.ailment is Ailment.REFUSED)
            wish = await wished(node, "one/buyer")
            await asyncio.sleep(1.5)
            assert not wish.done()


async def test_a_process_elsewhere_is_never_known_to_be_gone() -> None:
    assert not is_loopback("https://wallets.example:18082")
    assert not is_loopback("http://127.0.0.1.example:18082")
    assert all(is_loopback(url) for url in ("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"))
    async with given() as world:
        host = GivenHost("http://192.0.2.1:1", access=Access(), files=world.files)
        with pytest.raises(SlotUnusable, match="resting"):
            await host.reach(fence=1, clean=False, before_call=nothing)


# -- somebody else's wallet in mid-lease ---------------------------------------------------------------------------


async def test_a_process_that_showed_another_wallet_is_left_alone_for_the_longest_call_and_its_seat_waits() -> None:
    async with given(2) as world, running(world.node(), free=2) as node:
        leased = await taken(node, "one/buyer")
        wallet = OpenWallet(rpc=leased.rpc, files=leased.files, secrets=SECRETS)
        await leased.rpc.create_wallet("w", password=PASSWORD)
        await wallet.still_ours()
        server = world.servers[int(leased.slot.name[1])]
        await server.wallet.create_wallet("theirs", password="theirs")
        with pytest.raises(OtherWallet):
            await wallet.still_ours()
        node.actor_ref.tell(GiveBack(leased=leased, clean=False, other_wallet=True))
        await until_true(lambda: leased.slot.ailment is Ailment.OTHER_WALLET)
        wish = await wished(node, "one/buyer")
        await asyncio.sleep(0.3)
        assert server.wallet.opened == "theirs" and not wish.done()
        leased.slot.rests_until = 0  # as if that time were over
        async with asyncio.timeout(20):
            await wish
        assert server.wallet.opened is None
