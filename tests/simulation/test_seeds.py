"""Whole lives under faults drawn from a seed: whatever goes wrong on the way, the money arrives once and exactly.

Each life has a node on the memory log, with the bounds it has in earnest, on a loop whose waiting takes no time. Its
seed draws what happens: answers that come late or never, calls refused once, wallet processes that die before, in or
after a call, the daemon away for a while, the node stopped without grace and started again, the deposit paid in parts
or more than once, blocks replaced by others. Its ending is drawn as well: a release (also with the arbiter's wallet
gone for good), a refund, an agreement, a ruling whose fee is paid with the winner's part or swept afterwards, and a
payout that two make without us. As many seeds as fit into `SECONDS` are lived, from `SIM_SEED` on; the failure of one
names it.
"""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog
from msgspec.structs import replace

from actors.directory import Parked
from actors.mail import ActorStopped, AskTimeout
from actors.ports import WalletFault
from actors.simulation import Fault
from actors.simulation.chain import SimTx, outputs_of
from domain import commands as c
from domain.events import AnyEvent, CallIntended, DisputeDecided, DisputeMessageAdded, PayoutOpened, Purpose
from domain.evolve import fold
from domain.ids import EscrowId, Sealed, TxHash
from domain.payout import fee_due
from domain.roles import THREE, Role
from domain.setup import payin_address
from domain.states import Completed, Escrow, Refunded, money_of, name
from domain.steps import Step
from domain.terms import FeeSettlement, Policy, arbiter_fee
from eventstore.memory import MemoryTables
from eventstore.opening import memory_store
from projections.differences import differences
from projections.opening import open_models
from schemas.codec import decode
from service.node import Node, NodeLimits
from tests.chaos.child import do_what_is_awaited
from tests.given import AMOUNT, ARBITER, BUYER, NETWORK_FEE, VENDOR, terms
from tests.sim_world import SimWorld, daemon_away, moment, payout_address, tell
from tests.warp import WarpClock, WarpLoop

SEEDS, SECONDS = 300, 40.0
"""Lives in every test run, the same ones on any machine; how long `make soak` goes on from its seed."""
SOAKING = "SIM_SEED" in os.environ
FIRST_SEED = int(os.environ.get("SIM_SEED", "1"))
ESCROW = EscrowId("esc_seed")
LIFE_S = 2 * 3_600
"""Virtual seconds; longer is stuck. A life without faults takes about five minutes."""
BLOCKS_A_STEP = 0.2
"""One block in ten seconds or so: one between two calls of a turn is possible, and not the rule."""
ACTIONS_MAX = 8
CALLS_MAX = 10_000
DUST = Policy().dust_atomic
AGREED_BP = 4_000
SAID_MAX = 6
"""Messages in a case."""
ENDINGS = ("release", "release", "away", "grant", "agreement", "dispute", "sweep", "others")
METHODS = (
    "create_wallet",
    "open_wallet",
    "prepare_multisig",
    "make_multisig",
    "exchange_multisig_keys",
    "is_multisig",
    "get_address",
    "refresh",
    "incoming_transfers",
    "export_multisig_info",
    "import_multisig_info",
    "transfer",
    "describe_transfer",
    "sign_multisig",
    "submit_multisig",
    "store",
    "close_wallet",
)
UNHEARD = (ActorStopped, AskTimeout, Parked)
"""What a person is told while a node goes down: they ask the next one."""


def test_lives_under_drawn_faults_pay_once_and_exactly() -> None:
    structlog.configure(processors=[_drop])
    began, seed = time.monotonic(), FIRST_SEED
    try:
        while time.monotonic() - began < SECONDS if SOAKING else seed < FIRST_SEED + SEEDS:
            _live(seed)
            seed += 1
    finally:
        structlog.reset_defaults()
        print(f"{seed - FIRST_SEED} seeds from {FIRST_SEED} on in {time.monotonic() - began:.0f} s")


def _live(seed: int) -> None:
    life = Life(seed)
    try:
        with asyncio.Runner(loop_factory=WarpLoop) as runner:
            runner.run(life.lived())
    except BaseException as broken:
        broken.add_note(f"SIM_SEED={seed}: {life.ending}, {life.done}")
        raise


def _drop(*_: object) -> str:
    raise structlog.DropEvent


@dataclass
class Life:
    """One escrow under the faults of one seed."""

    seed: int
    done: list[str] = field(default_factory=list)
    gone: bool = False
    """Whether the arbiter's wallet has left for good."""

    def __post_init__(self) -> None:
        self.draw, self.pace = random.Random(self.seed), random.Random(-self.seed)
        self.ending = self.draw.choice(ENDINGS)
        self.theirs: TxHash | None = None
        self.said = 0
        self.payments = self._drawn_payments()
        self.paid: list[int] = []

    async def lived(self) -> None:
        """Lives, and checks what must be true of every life."""
        tables = MemoryTables(partitions=2, clock=WarpClock().now)
        store = memory_store(partitions=2, tables=tables)
        self.world = SimWorld(store=lambda: store, seed=self.seed, clock=WarpClock(), limits=NodeLimits())
        self._slow_down()
        self.outside = asyncio.all_tasks()  # nothing of the node runs yet
        self.node = await self._started()
        disturbing = asyncio.get_running_loop().create_task(self._disturb())
        self.outside |= {disturbing}
        async with asyncio.timeout(LIFE_S):
            state = await self._play()
        if disturbing.done():
            disturbing.result()
        disturbing.cancel()
        await self._check(state)
        await self.node.stop()

    # -- the people and the chain --------------------------------------------------------------------------------

    async def _play(self) -> Completed | Refunded:
        while True:
            try:
                state = await self.node.desk.state(ESCROW)
                if isinstance(state, Completed | Refunded) and not fee_due(state.money):
                    return state
                await self._act(state)
            except UNHEARD:
                pass
            if self.world.chain.online and self.pace.random() < BLOCKS_A_STEP:
                self.world.chain.mine(1)
            await asyncio.sleep(self.pace.uniform(1, 3))

    async def _act(self, state: Escrow | None) -> None:
        if state is not None and self.payments and (address := payin_address(state)):
            self.paid.append(self.payments.pop())
            self.world.chain.pay(address, self.paid[-1])
        match self.ending, name(state) if state is not None else "":
            case "grant", "funded" | "delivering":
                await tell(self.node, ESCROW, c.GrantRefund(at=moment(self.node), by=VENDOR), key="grant")
            case "agreement", "funded" | "delivering":
                offer = c.ProposeAgreement(at=moment(self.node), by=VENDOR, buyer_share_bp=AGREED_BP)
                await tell(self.node, ESCROW, offer, key="offer")
                accept = c.AcceptAgreement(at=moment(self.node), by=BUYER, number=1)
                await tell(self.node, ESCROW, accept, key="accept")
            case "others", "funded" | "delivering" if self.theirs is None:
                self._two_pay_out(state)
            case _:
                await self._as_usual(state)

    async def _as_usual(self, state: Escrow | None) -> None:
        if self.ending == "away" and state is not None and name(state) == "awaiting_funding" and not self.gone:
            self.gone = True
            arbiters = self.world.wallets[Role.ARBITER][0].faults
            arbiters.clear()
            arbiters.plan("*", Fault.LOST_BEFORE, times=CALLS_MAX)
        dispute = self.ending in ("dispute", "sweep")
        if dispute and state is not None and state.core.case is not None and self.said < SAID_MAX:
            await self._talk()
        policy = Policy(fee_settlement=FeeSettlement.SWEEP) if self.ending == "sweep" else None
        await do_what_is_awaited(self.node, state, dispute=dispute, escrow_id=ESCROW, policy=policy)

    async def _talk(self) -> None:
        """Lets one of the three speak, the other side answer the claim now and then; what is not heard is repeated."""
        by = (BUYER, VENDOR, ARBITER)[self.said % 3]
        text = Sealed(f"said {self.said}")
        if self.said % 4 == 1:
            claim = c.AddClaim(at=moment(self.node), by=VENDOR, claim=Sealed("the other side"))
            await tell(self.node, ESCROW, claim, key="claim")
        await tell(self.node, ESCROW, c.AddMessage(at=moment(self.node), by=by, message=text), key=text)
        self.said += 1

    def _two_pay_out(self, state: Escrow | None) -> None:
        """Lets buyer and vendor send everything that is there to the buyer, with wallets of their own."""
        money = money_of(state) if state is not None else None
        assert money is not None
        inputs = tuple(key for key, each in money.deposits.items() if each.unlocked and each.amount > DUST)
        there = sum(money.deposits[key].amount for key in inputs)
        tx_hash = TxHash(self.world.chain.fresh("theirs"))
        paid = outputs_of(tx_hash, [(payout_address(Role.BUYER), there - NETWORK_FEE)])
        if self.world.chain.relay(SimTx(hash=tx_hash, inputs=inputs, outputs=paid, fee=NETWORK_FEE)):
            self.theirs = tx_hash

    def _drawn_payments(self) -> list[int]:
        """At once, in two parts, too much, twice, or with dust beside it."""
        part = self.draw.randrange(AMOUNT // 10, AMOUNT - 2 * DUST)
        drawn = self.draw.choice(([AMOUNT], [AMOUNT], [AMOUNT - part, part], [AMOUNT + part], [AMOUNT, AMOUNT]))
        dust: list[int] = self.draw.choice(([], [], [DUST // 2]))
        # What two leave behind is settled by the three afterwards, in as many ways as there are.
        return [AMOUNT] if self.ending == "others" else [*drawn, *dust]

    def _slow_down(self) -> None:
        """Lets every wallet call take a while, so that faults meet the set-up as well."""
        seconds = self.draw.choice((0.05, 0.2, 0.5))
        for role in THREE:
            self.world.wallets[role][0].faults.plan("*", Fault.LATE, times=CALLS_MAX, seconds=seconds)

    # -- what goes wrong -----------------------------------------------------------------------------------------

    async def _disturb(self) -> None:
        actions: tuple[Callable[[], Awaitable[None]], ...] = (
            *(self._wallet_fault,) * 6,
            *(self._kill_wallet,) * 2,
            *(self._kill_node,) * 3,
            self._reorganise,
            self._daemon_away,
        )
        for _ in range(self.draw.randrange(ACTIONS_MAX + 1)):
            await asyncio.sleep(self.draw.uniform(0, 20))
            await self.draw.choice(actions)()

    async def _wallet_fault(self) -> None:
        role, method, fault = self.draw.choice(THREE), self.draw.choice(METHODS), self.draw.choice(tuple(Fault))
        self.done.append(f"{role.value} {method} {fault.value}")
        (wallet,) = self.world.wallets[role]
        seconds = self.draw.uniform(0.1, 20)
        wallet.faults.plan(method, fault, seconds=seconds, refusal=WalletFault.OTHER)

    async def _kill_wallet(self) -> None:
        role = self.draw.choice(THREE)
        self.done.append(f"{role.value} killed")
        self.world.wallets[role][0].kill()

    async def _kill_node(self) -> None:
        self.done.append("node killed")
        await kill(self.node, spare=self.outside)
        self.node = await self._started()

    async def _reorganise(self) -> None:
        # Never below the wallets' birth: a wallet overlooks what a reorganisation moves there (real ones do as well).
        births = [keys.restore_height for folder in self.world.folders.values() for keys in folder.keys.values()]
        depth = min(self.draw.randrange(1, 4), self.world.chain.height - max(births, default=self.world.chain.height))
        self.done.append(f"{depth} blocks replaced")
        if depth > 0:
            self.world.chain.reorganise(depth)

    async def _daemon_away(self) -> None:
        seconds = self.draw.uniform(1, 60)
        self.done.append(f"daemon away {seconds:.0f} s")
        await daemon_away(self.world.chain, seconds)

    async def _started(self) -> Node:
        node = self.world.node()
        await node.start()
        return node

    # -- what must be true ---------------------------------------------------------------------------------------

    async def _check(self, state: Completed | Refunded) -> None:
        self.world.chain.online = True
        self.world.chain.mine(20)
        await asyncio.sleep(60)
        assert isinstance(state, Refunded) == (self.ending in ("dispute", "sweep", "grant"))
        paid, *fees = _payouts(self.world)
        assert paid.hash == state.tx_hash
        assert len(fees) == (self.ending == "sweep" and self._fee_kept_back(paid))
        self._check_money(paid, fees)
        assert self.world.chain.nonce_reuses == []
        assert self.node.problems == []
        await self._check_log()

    def _fee_kept_back(self, paid: SimTx) -> bool:
        """Says whether no wallet could have done without one of the deposits; else the arbiter is paid together."""
        amounts = [_amounts(self.world, replace(paid, inputs=(key,))) for key in paid.inputs]
        return len(amounts) == 1 or min(amounts) > arbiter_fee(terms()) + paid.fee

    def _check_money(self, paid: SimTx, fees: list[SimTx]) -> None:
        inputs = _amounts(self.world, paid)
        rest, surplus = inputs - paid.fee, inputs - AMOUNT
        back = surplus if surplus > DUST else 0
        arbiters = arbiter_fee(terms())
        agreed = rest * AGREED_BP // 10_000
        released = {Role.BUYER: back, Role.VENDOR: rest - back, Role.ARBITER: 0}
        expected = {
            "release": released,
            "away": released,
            "grant": {Role.BUYER: rest, Role.VENDOR: 0, Role.ARBITER: 0},
            "agreement": {Role.BUYER: agreed, Role.VENDOR: rest - agreed, Role.ARBITER: 0},
            "dispute": {Role.BUYER: rest - arbiters, Role.VENDOR: 0, Role.ARBITER: arbiters},
            "sweep": {
                Role.BUYER: rest - arbiters,
                Role.VENDOR: 0,
                Role.ARBITER: arbiters - sum(each.fee for each in fees),
            },
            "others": {Role.BUYER: rest, Role.VENDOR: 0, Role.ARBITER: 0} if paid.hash == self.theirs else released,
        }
        received = {role: _received(self.world, role) for role in THREE}
        assert received == expected[self.ending]

    async def _check_log(self) -> None:
        events = await self.node.store.log.read_stream(ESCROW)
        lived = [decode(type=each.type, schema_version=each.schema_version, body=each.body) for each in events]
        _check_ruled(lived)
        said = [each.message for each in lived if isinstance(each, DisputeMessageAdded)]
        assert len(said) == len(set(said)) <= self.said, "something that was said once stands there twice"
        folded = fold(lived)
        assert folded == await self.node.desk.state(ESCROW)
        assert await self.node.models.passed_all("escrows", timeout_s=60)
        tables, _ = open_models(self.node.store)
        assert await differences(self.node.store.log, tables) == ()


def _check_ruled(lived: list[AnyEvent]) -> None:
    """From a ruling on nothing is signed but what it allows: its own payout, and the arbiter's."""
    purposes = {each.number: each.purpose for each in lived if isinstance(each, PayoutOpened)}
    ruled = next((at for at, each in enumerate(lived) if isinstance(each, DisputeDecided)), len(lived))
    for each in lived[ruled:]:
        if isinstance(each, CallIntended) and each.step is Step.COSIGN:
            assert purposes[int(each.turn_id.split(":")[1])] in (Purpose.RULING, Purpose.FEE)


async def kill(node: Node, *, spare: Iterable[asyncio.Task[Any]]) -> None:
    """Stops a node without grace: everything that runs, but what is spared, is cut off where it stands."""
    for supervisor in node.supervisors.values():
        supervisor.kill()
    for task in asyncio.all_tasks() - set(spare):
        task.cancel()
    await node.directory.stop_all(timeout_s=0)
    await asyncio.sleep(0)


def _mined(world: SimWorld) -> list[SimTx]:
    return [tx for block in world.chain.blocks_from(0) for tx in block.txs]


def _payouts(world: SimWorld) -> list[SimTx]:
    return [tx for tx in (*_mined(world), *world.chain.pool.values()) if tx.inputs]


def _amounts(world: SimWorld, paid: SimTx) -> int:
    made = {output.one_time_key: output.amount for tx in _mined(world) for output in tx.outputs}
    return sum(made[key] for key in paid.inputs)


def _received(world: SimWorld, role: Role) -> int:
    return sum(output.amount for tx in _mined(world) for output in tx.outputs if output.address == payout_address(role))
