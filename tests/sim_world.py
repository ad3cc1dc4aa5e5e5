"""A whole node on simulated wallets and a simulated chain: the log may be memory or Postgres."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from actors.clock import SystemClock
from actors.desk import derived_id
from actors.escrow import Accepted, Answer, LostLease
from actors.ports import Clock, WalletRpc, Watch
from actors.sealed import EscrowSecrets
from actors.seat_agent import AgentLimits
from actors.simulation import SimChain, SimDaemon, SimFiles, SimFolder, SimWallet, SimWatch
from actors.simulation.identity import identity_of
from actors.slot_messages import SupervisorLimits
from actors.slots import Slot
from actors.turn_finder import FinderLimits
from domain import commands as c
from domain.ids import Address, CaseId, CommandId, EscrowId, Micros, OrderId, UserId
from domain.money import Atomic
from domain.roles import THREE, Role, SeatKind
from domain.states import Escrow, money_of, name
from domain.terms import Policy, Terms
from eventstore.opening import Store, memory_store
from schemas.sealing import SealedKind
from service.node import Node, NodeLimits
from tests.given import AMOUNT, ARBITER, BUYER, USERS, VENDOR
from tests.patience import PATIENCE_S

FAST = NodeLimits(
    supervisor=SupervisorLimits(recheck_s=0.2, renew_s=0.2, prime_rest_s=0.05),
    finder=FinderLimits(look_s=0.05, retry_s=0.02, retry_max_s=0.2),
    agent=AgentLimits(slot_idle_s=1),
    watch_poll_s=0.02,
    time_look_s=0.05,
)


class SimHost:
    """Runs one simulated wallet process as `SlotPrograms` runs a real one; each node has one of these on it.

    A process is named by the lease it was started under. Who was leased the slot later ends it and starts the next,
    whose login the one before does not know.
    """

    def __init__(self, wallet: SimWallet) -> None:
        self._wallet = wallet

    async def reach(self, *, fence: int, clean: bool, before_call: Callable[[], None]) -> WalletRpc:
        """Returns a client of the process, ended politely and started again unless `clean`; raises `LostLease`."""
        wallet = self._wallet
        if wallet.running and wallet.fence > fence:
            raise LostLease
        if not clean or not wallet.running:
            await self.restart(fence)
        return wallet.client(before_call)

    async def restart(self, fence: int) -> None:
        """Ends the process politely and starts it again under a lease."""
        self._wallet.terminate()
        self._wallet.restart(fence=fence)

    async def make_wallet(self, rpc: WalletRpc, name: str, *, password: str, wanted: asyncio.Event) -> None:
        """Makes a wallet in the process itself."""
        await rpc.create_wallet(name, password=password)

    def shows(self, name: str) -> None:
        """Makes no difference: the process is ended, not waited for."""

    def silent(self) -> bool:
        """Whether the process is stopped or gone."""
        return self._wallet.stopped or not self._wallet.running


class SimWorld:
    """What outlives a node: the chain, the wallet processes and their folders, the log."""

    def __init__(
        self,
        *,
        store: Callable[[], Store] | None = None,
        slots_per_role: int = 1,
        seed: int = 0,
        clock: Clock | None = None,
        limits: NodeLimits = FAST,
    ) -> None:
        self._clock, self._limits = clock or SystemClock(), limits
        self.chain = SimChain(seed=seed)
        self.folders = {role: SimFolder() for role in THREE}
        self.wallets = {
            role: [SimWallet(chain=self.chain, folder=self.folders[role]) for _ in range(slots_per_role)]
            for role in THREE
        }
        self._memory: Store = memory_store(partitions=4)
        self._store = store or (lambda: self._memory)

    def node(self, *, store: Store | None = None, watch: Watch | None = None) -> Node:
        """Builds a node over what there is, with a watch of its own or one that is given."""
        return Node(
            store=store or self._store(),
            clock=self._clock,
            network="regtest",
            slots=list(self._slots()),
            daemon=SimDaemon(self.chain),
            watch=watch or SimWatch(self.chain),
            limits=self._limits,
        )

    def _slots(self) -> list[Slot]:
        return [
            Slot(
                name=f"{role}-{index}",
                role=role,
                files=SimFiles(self.folders[role]),
                host=SimHost(wallet),
            )
            for role in THREE
            for index, wallet in enumerate(self.wallets[role])
        ]

    @asynccontextmanager
    async def running(self, *, store: Store | None = None) -> AsyncIterator[Node]:
        """Runs a node for as long as the block lasts."""
        node = self.node(store=store)
        await node.start()
        try:
            yield node
        finally:
            await node.stop()


def payout_address(role: Role) -> Address:
    """A valid address of somebody outside, one for each role."""
    return identity_of(f"outside/{role}").address


async def tell(node: Node, escrow_id: EscrowId, command: object, *, key: str = "") -> Answer:
    """Brings a command of a person to an escrow; the same key is the same command."""
    command_id = derived_id(escrow_id, type(command).__name__, key or str(node.clock.now()))
    return await node.desk.handle(escrow_id, command, command_id=CommandId(command_id), actor="test")  # type: ignore[arg-type]


async def create(
    node: Node, *, escrow_id: str = "esc_sim", amount: int = AMOUNT, policy: Policy | None = None
) -> EscrowId:
    """Creates an escrow of hosted seats."""
    terms = Terms(
        escrow_id=EscrowId(escrow_id),
        order_id=OrderId(f"order-{escrow_id}"),
        buyer_id=BUYER,
        vendor_id=VENDOR,
        arbiter_id=ARBITER,
        amount=Atomic(amount),
        network="regtest",
        seats=dict.fromkeys(THREE, SeatKind.POOL),
        policy=policy or Policy(),
    )
    await tell(node, terms.escrow_id, c.CreateEscrow(at=moment(node), terms=terms, by=BUYER), key="create")
    return terms.escrow_id


async def set_addresses(
    node: Node, escrow_id: EscrowId, *, roles: Iterable[Role] = THREE, to: Callable[[Role], Address] = payout_address
) -> None:
    """Lets all three, or those named, say where their money goes."""
    secrets = EscrowSecrets(node.store.vault, escrow_id)
    for role in roles:
        address = to(role)
        command = c.SetPayoutAddress(
            at=moment(node),
            by=USERS[role],
            tag=await secrets.tag(SealedKind.PAYOUT_ADDRESS, address),
            address=await secrets.seal(SealedKind.PAYOUT_ADDRESS, role, address),
        )
        assert isinstance(await tell(node, escrow_id, command, key=role), Accepted)


def moment(node: Node) -> Micros:
    """The present moment."""
    return Micros(node.clock.now())


async def until(node: Node, escrow_id: EscrowId, *statuses: str, timeout_s: float = PATIENCE_S) -> Escrow:
    """Waits until an escrow is in one of these states."""
    async with asyncio.timeout(timeout_s):
        while True:
            state = await node.desk.state(escrow_id)
            if state is not None and name(state) in statuses:
                return state
            await asyncio.sleep(0.01)


async def until_true(probe: Callable[[], bool], *, timeout_s: float = PATIENCE_S) -> None:
    """Waits until something holds."""
    async with asyncio.timeout(timeout_s):
        while not probe():
            await asyncio.sleep(0.01)


async def daemon_away(chain: SimChain, seconds: float) -> None:
    """Keeps the daemon from answering for a while."""
    chain.online = False
    await asyncio.sleep(seconds)
    chain.online = True


async def pay_in(world: SimWorld, node: Node, escrow_id: EscrowId, *, amount: int = AMOUNT) -> None:
    """Pays the escrow from outside and mines until it is unlocked."""
    state = await until(node, escrow_id, "awaiting_funding")
    money = money_of(state)
    assert money is not None
    world.chain.pay(money.address, amount)
    world.chain.mine(10)


async def play_release(world: SimWorld, node: Node, escrow_id: EscrowId) -> Escrow:
    """Plays an escrow from where it stands to its release, mining all the while; every step may be repeated."""
    by = {"funded": c.Ship(at=Micros(0), by=VENDOR), "delivering": c.ConfirmDelivery(at=Micros(0), by=BUYER)}
    async with asyncio.timeout(PATIENCE_S):
        while True:
            state = await node.desk.state(escrow_id)
            assert state is not None
            if name(state) == "completed":
                return state
            if name(state) in by:
                await tell(node, escrow_id, by[name(state)], key=name(state))
            world.chain.mine(1)
            await asyncio.sleep(0.02)


__all__ = ["ARBITER", "BUYER", "VENDOR", "CaseId", "SimWorld", "UserId"]
