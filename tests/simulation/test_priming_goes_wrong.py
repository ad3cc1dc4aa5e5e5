"""Priming that fails, is overtaken or is forgotten costs nobody a slot, a place in the line or a wallet."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from actors.ailments import Ailment
from actors.clock import SystemClock
from actors.ports import WalletFault, WalletRefused, WalletRpc, WalletUnknown
from actors.priming import Primer
from actors.simulation import Fault, SimChain, SimDaemon, SimFiles, SimFolder, SimWallet
from actors.slot_messages import GiveBack, SupervisorLimits, TakeSlot
from actors.slots import LeasedSlot, Slot, SlotState
from actors.supervisor import RoleSupervisor
from domain.roles import Role
from eventstore.memory import MemoryTables
from eventstore.opening import memory_store
from eventstore.primed import PrimedRow
from eventstore.primed_memory import MemoryPrimed
from tests.sim_world import SimHost, until_true

QUICK = SupervisorLimits(prime_rest_s=0.2, recheck_s=0.05, renew_s=0.05, wait_s=0.02, slot_lease_s=60)


class Forgetful(MemoryPrimed):
    """Rows that can be kept from noting what is open."""

    forgets = False

    async def opened(self, row: PrimedRow) -> bool:
        return not self.forgets and await super().opened(row)


class Maker(SimHost):
    """A process whose wallets are made when the test says so, or refused."""

    def __init__(self, wallet: SimWallet) -> None:
        super().__init__(wallet)
        self.go_on, self.refuses, self.begun, self.cleaned = asyncio.Event(), False, 0, 0
        self.go_on.set()
        self.shown, self.made = "", list[str]()
        self.stopped, self.ended = False, asyncio.Event()
        self.clients = list[WalletRpc]()

    def silent(self) -> bool:
        return self.stopped

    async def reach(self, *, fence: int, clean: bool, before_call: Callable[[], None]) -> WalletRpc:
        self.cleaned += not clean
        if not clean:
            self.stopped = False
            self.ended.set()
        client = await super().reach(fence=fence, clean=clean, before_call=before_call)
        self.clients.append(client)
        return client

    def shows(self, name: str) -> None:
        self.shown = name

    async def make_wallet(self, rpc: WalletRpc, name: str, *, password: str, wanted: asyncio.Event) -> None:
        self.begun += 1
        await self.go_on.wait()
        if self.stopped:  # answers nothing until somebody ends it
            await self.ended.wait()
            raise WalletUnknown(method="open_wallet", reason="cut")
        if self.refuses:
            raise WalletRefused(method="create_wallet", fault=WalletFault.OTHER, code=-1, message="disk full")
        await super().make_wallet(rpc, name, password=password, wanted=wanted)
        self.made.append(name)


class Ward:
    """One buyer's slot that is primed, on a clock of leases that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.tables = MemoryTables(partitions=1, clock=lambda: self.now)
        store = memory_store(partitions=1, tables=self.tables)
        self.leases, self.rows = store.slot_leases, Forgetful(self.tables)
        chain = self.chain = SimChain()
        folder = self.folder = SimFolder()
        self.wallet = SimWallet(chain=chain, folder=folder)
        self.host = Maker(self.wallet)
        self.slot = Slot(name="s0", role=Role.BUYER, files=SimFiles(folder), host=self.host)
        self.primer = Primer(self.rows, vault=store.vault, daemon=SimDaemon(chain), at_once=1, pause_s=0)
        self.supervisor = RoleSupervisor(
            Role.BUYER,
            [self.slot],
            leases=self.leases,
            node_id="node",
            clock=SystemClock(),
            primer=self.primer,
            limits=QUICK,
        )

    async def wish(self, seat: str) -> "asyncio.Future[LeasedSlot]":
        granted: asyncio.Future[LeasedSlot] = asyncio.get_running_loop().create_future()
        await self.supervisor.actor_ref.ask(TakeSlot(seat=seat, granted=granted), timeout_s=5)
        return granted

    async def taken(self, seat: str) -> LeasedSlot:
        async with asyncio.timeout(20):
            return await (await self.wish(seat))

    async def used(self, seat: str) -> LeasedSlot:
        """Takes the slot, claims its primed wallet and closes it, as a seat does."""
        leased = await self.taken(seat)
        assert leased.primed is not None and await leased.primed.claim(seat)
        leased.primed = None
        await leased.rpc.close_wallet()
        return leased

    def give_back(self, leased: LeasedSlot) -> None:
        self.supervisor.actor_ref.tell(GiveBack(leased=leased, clean=True))

    def primed(self) -> bool:
        return self.supervisor.counts().primed == 1 and self.slot.state is SlotState.FREE


@pytest.fixture
async def here() -> AsyncIterator[Ward]:
    made = Ward()
    try:
        yield made
    finally:
        made.host.go_on.set()
        await made.supervisor.actor_ref.stop(timeout_s=1)


async def test_a_slot_whose_lease_is_lost_while_it_is_primed_leaves_room_for_priming(here: Ward) -> None:
    here.host.go_on.clear()
    await until_true(lambda: here.host.begun == 1)
    lost = here.slot.hold
    assert lost is not None
    here.now += 61_000_000
    assert await here.leases.acquire("s0", holder="other", seconds=60, detail="") is not None
    await until_true(lambda: here.slot.hold is not lost)
    here.now += 61_000_000  # the other is gone too, and the slot is looked at again while the first maker still works
    await until_true(lambda: here.host.cleaned > 0)
    await until_true(lambda: here.slot.state is SlotState.FREE)
    here.host.go_on.set()
    await until_true(here.primed)


async def test_a_process_that_stands_still_while_its_slot_is_primed_is_ended_and_holds_nobody_up(here: Ward) -> None:
    here.host.go_on.clear()
    await until_true(lambda: here.host.begun == 1)
    here.host.stopped = True
    here.host.go_on.set()
    await until_true(lambda: here.host.cleaned > 0)
    leased = await here.taken("esc/buyer")
    here.give_back(leased)
    await until_true(here.primed)


async def test_of_a_priming_that_fails_no_client_stays_open(here: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = list[SimWallet]()

    async def aclose(client: SimWallet) -> None:
        closed.append(client)

    monkeypatch.setattr(SimWallet, "aclose", aclose)
    here.wallet.faults.plan("create_wallet", Fault.LOST_BEFORE, times=3)
    await until_true(here.primed)
    assert here.host.begun == 4
    assert [client for client in here.host.clients if client not in closed] == []


async def test_a_primed_wallet_that_could_not_be_noted_is_not_left_open_unknown(here: Ward) -> None:
    here.slot.given = True  # of one that is not ours a wallet nobody knows of is never closed
    here.rows.forgets = True
    await until_true(lambda: here.host.cleaned > 0)
    here.rows.forgets = False
    await until_true(here.primed)
    leased = await here.taken("esc/buyer")
    assert leased.primed is not None
    assert await here.wallet.get_address() == leased.primed.row.address
    assert here.host.shown == leased.primed.row.name
    here.give_back(leased)


async def test_a_slot_in_which_no_wallet_can_be_made_is_leased_all_the_same_and_never_ended(here: Ward) -> None:
    here.host.refuses = True
    await until_true(lambda: here.host.begun >= 3)
    before = here.host.cleaned
    leased = await here.taken("esc/buyer")
    assert leased.primed is None
    here.give_back(leased)
    made = here.host.begun
    await until_true(lambda: here.host.begun >= made + 2)
    assert here.host.cleaned == before == 0


async def test_a_wallet_that_was_seen_open_keeps_its_keys_when_it_opens_no_more(here: Ward) -> None:
    await until_true(here.primed)
    (name,) = here.folder.keys
    here.wallet.kill()
    here.wallet.restart()
    here.folder.lock(name, holder=object())
    here.slot.looked_at = -1e9  # as if it were time for a look
    await until_true(lambda: here.primed() and len(here.folder.keys) == 2)
    assert name in here.folder.keys


async def test_a_wallet_whose_password_cannot_be_unsealed_is_given_up_and_another_made(here: Ward) -> None:
    await until_true(here.primed)
    row = await here.rows.free_of("s0")
    assert row is not None and await here.rows.drop(row)
    await here.rows.note(PrimedRow(slot="s0", name=row.name, sealed="c2VhbGVk"))
    await here.rows.opened(row)
    here.slot.looked_at = -1e9  # as if it were time for a look
    await until_true(lambda: here.primed() and len(here.folder.keys) == 2)


async def test_a_wallet_during_whose_making_the_daemon_went_away_is_swept_and_another_made(here: Ward) -> None:
    here.host.go_on.clear()
    await until_true(lambda: here.host.begun == 1)
    here.chain.online = False
    here.host.go_on.set()
    await until_true(lambda: here.host.made != [])
    (blind,) = here.host.made
    here.chain.online = True
    await until_true(here.primed)
    assert blind not in here.folder.keys, "it would never see money"
    assert here.wallet.opened == here.host.made[-1] != blind


async def test_a_slow_process_is_not_ended_for_that(here: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    version, slow = here.wallet.get_version, True

    async def late() -> int:
        if slow:
            await asyncio.sleep(QUICK.check_s + 0.1)
        return await version()

    monkeypatch.setattr(here.wallet, "get_version", late)
    await until_true(lambda: here.slot.ailment is Ailment.SLOW)
    slow = False
    await until_true(here.primed)
    assert here.host.cleaned == 0


async def test_who_stops_waiting_does_not_keep_slots_from_being_primed(here: Ward) -> None:
    await until_true(here.primed)
    leased = await here.used("first/buyer")
    gone = await here.wish("second/buyer")
    gone.cancel()
    here.give_back(leased)
    await until_true(here.primed)
    assert here.supervisor.counts().waiting == 0


async def test_nothing_is_primed_while_somebody_waits_for_a_slot_of_any_role(here: Ward) -> None:
    await until_true(here.primed)
    line = ["somebody"]
    here.primer.heed(line.__len__, ())
    assert not here.primer.begin()
    line.clear()
    assert here.primer.begin()
    here.primer.end()


async def test_who_waits_for_a_slot_that_may_never_come_back_does_not_keep_others_from_being_primed(here: Ward) -> None:
    await until_true(here.primed)
    leased = await here.used("first/buyer")
    await here.leases.acquire("away", holder="other", seconds=60, detail="second/buyer")
    bound = await here.wish("second/buyer")
    here.give_back(leased)
    await until_true(here.primed)
    assert not bound.done()
    bound.cancel()


async def test_a_slot_just_given_back_is_left_to_who_comes_next_and_primed_after_a_while(here: Ward) -> None:
    await until_true(here.primed)
    leased = await here.used("first/buyer")
    given_back = asyncio.get_running_loop().time()
    here.give_back(leased)
    await until_true(lambda: here.host.begun == 2)
    assert asyncio.get_running_loop().time() >= given_back + QUICK.prime_rest_s


async def test_a_slot_just_given_back_is_not_primed_while_seats_work_in_other_slots(here: Ward) -> None:
    await until_true(here.primed)
    other = Slot(name="v0", role=Role.VENDOR, files=here.slot.files, host=here.host, state=SlotState.LEASED)
    here.primer.heed(lambda: 0, [other])
    leased = await here.used("first/buyer")
    here.give_back(leased)
    await until_true(lambda: here.slot.state is SlotState.FREE)
    await asyncio.sleep(QUICK.prime_rest_s + 5 * QUICK.recheck_s)
    assert here.host.begun == 1
    other.state = SlotState.FREE
    await until_true(here.primed)


async def test_who_lost_the_slot_cannot_claim_the_wallet_that_the_next_holder_opened(here: Ward) -> None:
    await until_true(here.primed)
    stalled = await here.taken("first/buyer")
    assert stalled.primed is not None
    here.now += 61_000_000
    assert await here.leases.acquire("s0", holder="other", seconds=60, detail="") is not None
    await here.rows.opened(PrimedRow(slot="s0", name=stalled.primed.row.name, sealed="", address="4", fence=99))
    assert not await stalled.primed.claim("first/buyer")
    assert await here.rows.free_of("s0") is not None
