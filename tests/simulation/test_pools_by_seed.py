"""Pools under faults drawn from a seed: whatever goes wrong, every set-up ends and every wallet serves one escrow.

Each life has several escrows that are created over time, one to three slots a role, priming, and one or two nodes with
the bounds they have in earnest, on a loop whose waiting takes no time. Its seed draws what happens: wallet processes
that are killed, ended, stopped for a while or for good, calls that hang, come late, are lost or doubled, nodes that are
killed and started again, that stand still beyond their leases and go on, also between their look at a lease and the
call, a log and a daemon that are away, slots that come and go. All is judged from outside, after every step, by
`tests/sim_watchman.py`. `make soak` lives as many seeds as fit into `SECONDS`, from `SIM_SEED` on; the failure of one
names it.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import pytest
import structlog

from actors.directory import DirectoryFull, Parked
from actors.mail import ActorStopped, AskTimeout, MailboxFull
from actors.ports import WalletFault
from actors.seat import LATER
from actors.simulation import Fault, SimWallet
from actors.simulation.files import Stage
from actors.simulation.process import NEVER
from domain.evolve import fold
from domain.ids import EscrowId
from domain.roles import THREE, Role
from domain.setup import payin_address
from domain.states import Completed, Escrow, Pending, SettingUp, SetupFailed, money_of
from eventstore.memory import Fault as LogFault
from schemas.codec import decode
from service.node import Node
from tests.chaos.child import Ending, do_what_is_awaited
from tests.given import AMOUNT
from tests.machines import MachinesLoop
from tests.sim_pool import Pool, PoolNode, PoolSlot
from tests.sim_world import daemon_away
from tests.warp import WarpClock

_T = TypeVar("_T")

SEEDS, SECONDS = 130, 40.0
"""Lives in every test run, the same ones on any machine; how long `make soak` goes on from its seed."""
SOAKING = "SIM_SEED" in os.environ
FIRST_SEED = int(os.environ.get("SIM_SEED", "1"))
CREATED_S, DISTURBED_S = 180.0, 300.0
"""Virtual seconds over which escrows are created, and things go wrong."""
CALM_S = 3 * 3_600.0
"""Virtual seconds after the last fault; longer is stuck. An hour is what a set-up may take."""
LOOK_S = 1.0
CALLS_MAX = 100_000
METHODS = (
    *("create_wallet", "open_wallet", "close_wallet", "store", "get_address", "get_version", "refresh"),
    *("prepare_multisig", "make_multisig", "exchange_multisig_keys", "is_multisig"),
    *("export_multisig_info", "import_multisig_info", "transfer", "sign_multisig", "submit_multisig"),
)
UNHEARD = (ActorStopped, AskTimeout, Parked, TimeoutError, DirectoryFull, MailboxFull, *LATER)
"""What a person is told while nodes come and go: they ask again."""


@pytest.mark.timeout(1800)
def test_pools_under_drawn_faults_serve_everybody_and_share_no_wallet() -> None:
    structlog.configure(processors=[_drop])
    began, seed, ended = time.monotonic(), FIRST_SEED, Counter[str]()
    try:
        while time.monotonic() - began < SECONDS if SOAKING else seed < FIRST_SEED + SEEDS:
            ended += _live(seed)
            seed += 1
    finally:
        structlog.reset_defaults()
        took = time.monotonic() - began
        print(f"{seed - FIRST_SEED} pools from seed {FIRST_SEED} on in {took:.0f} s: {dict(ended)}")


def _live(seed: int) -> Counter[str]:
    life = Life(seed)
    try:
        with asyncio.Runner(loop_factory=MachinesLoop) as runner:
            return runner.run(life.lived())
    except BaseException as broken:
        broken.add_note(f"SIM_SEED={seed}: {life.done}")
        raise


def _drop(*_: object) -> str:
    raise structlog.DropEvent


class Life:
    """One pool under the faults of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed, self.done = seed, list[str]()
        self.draw, self.pace = random.Random(seed), random.Random(-seed)
        self.ids = [EscrowId(f"esc_{number}") for number in range(self.draw.randrange(4, 10))]
        self.paid: set[EscrowId] = set()
        self.names = 0

    async def lived(self) -> Counter[str]:
        """Lives, looks after every step, and checks what must be true at the end; counts how the escrows ended."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MachinesLoop)
        try:
            return await self._lived(loop)
        finally:
            loop.end()

    async def _lived(self, loop: MachinesLoop) -> Counter[str]:
        self.pool = Pool(seed=self.seed, slots_per_role=self.draw.randrange(1, 4), clock=WarpClock())
        self.slow_s = self.draw.choice((0.02, 0.2, 0.5))
        for slot in self.pool.slots.values():
            self._slow_down(slot)
        for _ in range(self.draw.choice((1, 2, 2))):
            await self.pool.begin(self._new_name())
        people = [loop.create_task(self._person(each, at_s=self.draw.uniform(0, CREATED_S))) for each in self.ids]
        disturbing = loop.create_task(self._disturb())
        await self._watched(disturbing, limit_s=4 * DISTURBED_S)
        self._calm()
        everybody = loop.create_task(_all(people))
        await self._watched(everybody, limit_s=CALM_S)
        await self._watched(loop.create_task(self._rested()), limit_s=CALM_S)
        return await self._check([each.result() for each in people])

    async def _watched(self, work: "asyncio.Task[Any]", *, limit_s: float) -> None:
        """Waits for something and looks all the while."""
        until = asyncio.get_running_loop().time() + limit_s
        while not work.done():
            await asyncio.wait({work}, timeout=LOOK_S)
            if self.pace.random() < 0.1 and self.pool.chain.online:
                self.pool.chain.mine(1)
            self.pool.watchman.look()
            assert asyncio.get_running_loop().time() < until, f"stuck: {work}, {self._shown()}"
        work.result()

    # -- the people ----------------------------------------------------------------------------------------------

    async def _person(self, escrow_id: EscrowId, *, at_s: float) -> Escrow:
        """Creates an escrow and does what is awaited until its set-up, or all of it, is over."""
        whole = self.draw.random() < 0.2
        await asyncio.sleep(at_s)
        while True:
            state = await self._heard(lambda node: node.desk.state(escrow_id))
            if state is not None and self._is_over(state, whole=whole):
                return state
            if state is not None and whole and escrow_id not in self.paid and (address := payin_address(state)):
                self.paid.add(escrow_id)
                self.pool.chain.pay(address, AMOUNT)
            if state is None or whole:
                usual = partial(do_what_is_awaited, state=state, ending=Ending.RELEASE, escrow_id=escrow_id)
                await self._heard(usual)
            await asyncio.sleep(self.pace.uniform(1, 5))

    def _is_over(self, state: Escrow, *, whole: bool) -> bool:
        if whole and not isinstance(state, SetupFailed) and not self._blind(state):
            return isinstance(state, Completed)
        return not isinstance(state, Pending | SettingUp)

    def _blind(self, state: Escrow) -> bool:
        """Says whether a seat's wallet was made without a daemon: on a private chain it never sees money."""
        wallets = ((role, str(seat.wallet_id)) for role, seat in state.core.seats.items())
        keys = (self.pool.folders[role].keys.get(wallet) for role, wallet in wallets)
        return any(each is not None and each.restore_height == NEVER for each in keys)

    async def _heard(self, call: Callable[[Node], Coroutine[Any, Any, _T]]) -> _T | None:
        ready = [each for each in self.pool.nodes if each.ready]
        if not ready:
            return None
        try:
            return await self.pace.choice(ready).ask(call)
        except UNHEARD:
            return None

    # -- what goes wrong -----------------------------------------------------------------------------------------

    async def _disturb(self) -> None:
        actions: tuple[Callable[[], Awaitable[None]], ...] = (
            *(self._wallet_fault,) * 8,
            *(self._hurt_process,) * 3,
            *(self._hurt_node,) * 4,
            *(self._stumble,) * 2,
            self._log_fault,
            self._daemon_away,
            self._slot_comes,
            self._slot_goes,
        )
        until = asyncio.get_running_loop().time() + self.draw.uniform(0, DISTURBED_S)
        pause_s = self.draw.choice((2, 10, 30))
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(self.draw.uniform(0, pause_s))
            await self.draw.choice(actions)()
            self.pool.watchman.look()

    async def _wallet_fault(self) -> None:
        slot, method, fault = self._a_slot(), self.draw.choice(METHODS), self.draw.choice(tuple(Fault))
        self.done.append(f"{slot.name} {method} {fault}")
        slot.faults.plan(method, fault, seconds=self.draw.uniform(0.1, 20), refusal=WalletFault.OTHER)

    async def _hurt_process(self) -> None:
        slot = self._a_slot()
        hurt = self.draw.choice((SimWallet.kill, SimWallet.terminate, SimWallet.stop, SimWallet.go_on))
        self.done.append(f"{slot.name} {hurt.__name__}")
        for wallet in slot.running():
            hurt(wallet)

    async def _hurt_node(self) -> None:
        node = self.draw.choice(self.pool.nodes)
        if self.draw.random() < 0.5:
            seconds = self.draw.choice((2, 40, 70, 200)) * self.draw.uniform(0.5, 1.5)
            self.done.append(f"{node.name} stands still for {seconds:.0f} s")
            if node.machine.at_work:
                node.machine.stop(seconds)
            return
        name = node.name if self.draw.random() < 0.5 else self._new_name()
        self.done.append(f"{node.name} killed, then {name}")
        self.pool.kill(node)
        await asyncio.sleep(self.draw.choice((0, 5, 70)))
        await self.pool.begin(name)

    async def _stumble(self) -> None:
        seconds = self.draw.choice((2, 70, 130))
        self.done.append(f"next caller stands still for {seconds} s")
        self.pool.watchman.stumbles.append(seconds)

    async def _log_fault(self) -> None:
        node = self.draw.choice(self.pool.nodes)
        fault = self.draw.choice((LogFault.UNAVAILABLE, LogFault.LOST_BEFORE_WRITE, LogFault.LOST_AFTER_WRITE))
        self.done.append(f"log of {node.name} {fault.name}")
        if node.node is not None:
            node.node.store.log.fail_next(fault)  # type: ignore[union-attr]  # of memory

    async def _daemon_away(self) -> None:
        seconds = self.draw.uniform(1, 60)
        self.done.append(f"daemon away {seconds:.0f} s")
        await daemon_away(self.pool.chain, seconds)

    async def _slot_comes(self) -> None:
        slot = self.pool.new_slot(self.draw.choice(THREE))
        self.done.append(f"{slot.name} comes")
        self._slow_down(slot)
        for node in self._running():
            node.tell(partial(node.add, slot))

    async def _slot_goes(self) -> None:
        slot = self._a_slot()
        left = [each for each in self.pool.slots.values() if each.role is slot.role and not self._leaves(each)]
        if not self._leaves(slot) and len(left) > 1:
            self.done.append(f"{slot.name} goes")
            self.pool.leaving.add(slot.name)
            for node in self._running():
                node.tell(partial(node.drain, slot.name))

    def _running(self) -> list[PoolNode]:
        """The nodes that have started: those that are about to, find out by themselves what came and went."""
        return [node for node in self.pool.nodes if node.node is not None]

    def _a_slot(self) -> PoolSlot:
        return self.pool.slots[self.draw.choice(sorted(self.pool.slots))]

    def _leaves(self, slot: PoolSlot) -> bool:
        return slot.name in self.pool.leaving

    def _new_name(self) -> str:
        self.names += 1
        return f"node-{self.names}"

    def _slow_down(self, slot: PoolSlot) -> None:
        slot.faults.plan("*", Fault.LATE, times=CALLS_MAX, seconds=self.slow_s)

    def _calm(self) -> None:
        """Lets nothing go wrong any more; what was done before may still have its effects."""
        self.pool.watchman.stumbles.clear()
        for slot in self.pool.slots.values():
            slot.faults.clear()

    # -- what must be true ---------------------------------------------------------------------------------------

    async def _rested(self) -> None:
        """Waits until every node finds every slot free, and every slot was given back."""
        while not self._rests():
            await asyncio.sleep(5)

    def _rests(self) -> bool:
        rows = self.pool.tables.slot_leases
        stays = {name for name in self.pool.slots if name not in self.pool.leaving}
        return all(row.expires_at is None for row in rows.values()) and all(
            node.ready and {each.name for each in _slots(node) if each.state == "free"} == stays
            for node in self.pool.nodes
        )

    def _shown(self) -> str:
        slots = {node.name: [(each.name, each.state, each.reason) for each in _slots(node)] for node in self.pool.nodes}
        return f"{slots}, {self.pool.tables.slot_leases}, {self.pool.tables.seat_leases}"

    async def _check(self, states: list[Escrow]) -> Counter[str]:
        self.pool.watchman.look()
        assert self.pool.chain.nonce_reuses == []
        for node in self.pool.nodes:
            assert node.node is not None and node.node.problems == []
        for escrow_id, state in zip(self.ids, states, strict=True):
            await self._check_one(escrow_id, state)
        return Counter(type(state).__name__ for state in states) + Counter(blind=sum(map(self._blind, states)))

    async def _check_one(self, escrow_id: EscrowId, state: Escrow) -> None:
        if isinstance(state, SetupFailed):
            assert state.reason == "timeout" and state.awaited
        else:
            money = money_of(state)
            assert money is not None
            assert {await self._address(role, state) for role in THREE} == {money.address}
        for node in self.pool.nodes:
            assert node.node is not None
            log = node.node.store.log
            events = [
                decode(type=each.type, schema_version=each.schema_version, body=each.body)
                for each in await log.read_stream(escrow_id)
            ]
            assert fold(events) == await node.ask(lambda node: node.desk.state(escrow_id))

    async def _address(self, role: Role, state: Escrow) -> str:
        """Opens the seat's wallet from its files alone."""
        name = state.core.seats[role].wallet_id
        assert name is not None
        folder = self.pool.folders[role]
        assert folder.keys[name].stage is Stage.READY
        wallet = SimWallet(chain=self.pool.chain, folder=folder)
        await wallet.open_wallet(name, password=folder.keys[name].password)
        return await wallet.get_address()


def _slots(node: PoolNode) -> list[Any]:
    if node.node is None:
        return []
    return [each for supervisor in node.node.supervisors.values() for each in supervisor.status()]


async def _all(tasks: "list[asyncio.Task[Any]]") -> None:
    for task in tasks:
        await task
