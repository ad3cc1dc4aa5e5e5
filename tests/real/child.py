"""A service process on real wallets, a real chain and Postgres of its own, that is killed at wallet calls."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import msgspec

from actors.clock import SystemClock
from actors.daemon_rpc import HttpDaemon
from actors.ports import KexResult, SignedTx, WalletRpc
from actors.scan.follower import ScannerWatch
from domain.ids import Address, EscrowId, TxHash
from domain.roles import Role
from domain.setup import payin_address
from domain.states import Completed, Escrow, Refunded, money_of, name
from domain.steps import Step
from eventstore.api import Append, Outcome
from eventstore.memory import MemoryLog
from eventstore.opening import open_store
from ops.regtest.chain import RegtestChain
from service.embedded import EmbeddedWorld
from service.node import Node, NodeLimits
from tests.chaos.child import Ending, do_what_is_awaited
from tests.patience import PATIENT
from tests.real_world import WrappedHost

_T = TypeVar("_T")

ESCROW = EscrowId("esc_real")
PARTITIONS = 4
LIMITS = NodeLimits(watch_poll_s=0.2)

When = Literal["before", "middle", "after"]
MIDDLE_S: Mapping[Step, float] = {
    Step.MAKE: 0.25,
    Step.EXCHANGE_1: 0.1,
    Step.EXCHANGE_2: 0.2,
    Step.EXPORT: 0.01,
    Step.COSIGN: 0.02,
    Step.BROADCAST: 0.005,
}
"""How long into each call the middle is: make takes half a second, signing a twentieth."""


class Point(msgspec.Struct, frozen=True):
    """One moment to die at: a once call, and where in it."""

    step: Step
    when: When

    def __str__(self) -> str:
        return f"{self.step.value}/{self.when}"


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is to do; `home` holds all that outlives it, with the points died at in `home/kills`."""

    home: Path
    miner: Address
    receivers: Mapping[Role, Address]
    ending: Ending
    points: tuple[Point, ...]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a child shows the one who pays, in `home/seen.json`."""

    status: str
    daemon_url: str
    address: Address | None = None
    paid: bool = False
    tx_hash: TxHash | None = None


def run(orders: Orders) -> None:
    """Lives until the escrow has ended, or until it is killed."""
    asyncio.run(_live(orders))


async def _live(orders: Orders) -> None:
    world = EmbeddedWorld(home=orders.home)
    dsn, _ = await asyncio.gather(world.start_postgres(), world.start_chain_and_slots())
    store = await open_store(dsn=dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id="node-1", limits=PATIENT)
    death = Death(orders)
    for event in await store.log.read_stream(ESCROW):
        death.hear(event.type, event.body)
    for slot in world.slots:
        slot.host = WrappedHost(slot.host, partial(_deadly, role=slot.role, death=death))
    daemon = HttpDaemon(world.daemon_url)
    node = Node(
        store=msgspec.structs.replace(store, log=cast(MemoryLog, ListeningLog(store.log, death))),
        clock=SystemClock(),
        network="regtest",
        slots=world.slots,
        daemon=daemon,
        watch=ScannerWatch(daemon, clock=SystemClock(), network="regtest"),
        limits=LIMITS,
    )
    await node.start()
    await _play(node, world, orders)
    assert node.problems == []
    await node.stop()
    await daemon.aclose()
    await store.aclose()
    await world.stop()


async def _play(node: Node, world: EmbeddedWorld, orders: Orders) -> None:
    chain = RegtestChain(world.daemon_url)
    while True:
        state = await node.desk.state(ESCROW)
        _show(orders.home, _seen(state, world))
        if isinstance(state, (Completed, Refunded)):
            break
        await do_what_is_awaited(
            node, state, ending=orders.ending, escrow_id=ESCROW, addresses=orders.receivers.__getitem__
        )
        if state is not None and mining_helps(state):
            await chain.mine(2, to=orders.miner)
        await asyncio.sleep(0.05)
    await chain.aclose()


def mining_helps(state: Escrow) -> bool:
    """Says whether the escrow waits for blocks: its deposit is to unlock, or its payout to become final."""
    money = money_of(state)
    if money is None:
        return False
    spent = any(not spend.lost for spend in money.spends.values())
    return spent or (name(state) == "awaiting_funding" and bool(money.deposits))


def _seen(state: Escrow | None, world: EmbeddedWorld) -> Seen:
    money = money_of(state) if state is not None else None
    return Seen(
        status=name(state) if state is not None else "",
        daemon_url=world.daemon_url,
        address=payin_address(state) if state is not None else None,
        paid=money is not None and bool(money.deposits),
        tx_hash=state.tx_hash if isinstance(state, (Completed, Refunded)) else None,
    )


def _show(home: Path, seen: Seen) -> None:
    (home / "seen.new").write_bytes(msgspec.json.encode(seen))
    (home / "seen.new").replace(home / "seen.json")


# -- dying -------------------------------------------------------------------------------------------------------


class Death:
    """Knows what each seat's wallet is about to do, and at which of it the process has not died yet."""

    def __init__(self, orders: Orders) -> None:
        self._kills = orders.home / "kills"
        died = self._kills.read_text().splitlines() if self._kills.exists() else []
        self._left = [str(point) for point in orders.points if str(point) not in died]
        self._steps: dict[str, Step] = {}

    def hear(self, kind: str, body: bytes) -> None:
        """Hears of an event; the last once call announced for a seat is the one that its wallet gets next."""
        if kind == "call_intended":
            intent = msgspec.json.decode(body)
            self._steps[intent["role"]] = Step(intent["step"])

    async def around(self, role: Role, call: Awaitable[_T]) -> _T:
        """Lets a once call happen and dies before, in the middle or after it, if that is to be."""
        step = self._steps[role.value]
        when = next((each.partition("/")[2] for each in self._left if each.startswith(f"{step.value}/")), None)
        if when == "before":
            self.die(f"{step.value}/{when}")
        if when == "middle":
            asyncio.get_running_loop().call_later(MIDDLE_S[step], self.die, f"{step.value}/{when}")
        answer = await call
        if when is not None:  # also when the middle came too late
            self.die(f"{step.value}/{when}")
        return answer

    def die(self, point: str) -> None:
        """Dies, leaving its wallets, its chain and its database behind."""
        with self._kills.open("a") as file:
            file.write(f"{point}\n")
        os.kill(os.getpid(), signal.SIGKILL)


class ListeningLog:
    """A log that tells which wallet call was announced last for each seat."""

    def __init__(self, log: Any, death: Death) -> None:
        self._log, self._death = log, death

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, item: Append) -> Outcome:
        for event in item.events:
            self._death.hear(event.type, event.body)
        outcome: Outcome = await self._log.append(item)
        return outcome


def _deadly(rpc: WalletRpc, *, role: Role, death: Death) -> WalletRpc:
    return cast(WalletRpc, DeadlyWallet(rpc, role, death))


class DeadlyWallet:
    """A slot's wallet whose service may die around the calls that must not be repeated blind."""

    def __init__(self, rpc: WalletRpc, role: Role, death: Death) -> None:
        self._rpc, self._role, self._death = rpc, role, death

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rpc, name)

    async def make_multisig(self, infos: Sequence[str], *, password: str) -> str:
        return await self._death.around(self._role, self._rpc.make_multisig(infos, password=password))

    async def exchange_multisig_keys(self, infos: Sequence[str], *, password: str) -> KexResult:
        return await self._death.around(self._role, self._rpc.exchange_multisig_keys(infos, password=password))

    async def export_multisig_info(self) -> str:
        return await self._death.around(self._role, self._rpc.export_multisig_info())

    async def sign_multisig(self, tx_set: str) -> SignedTx:
        return await self._death.around(self._role, self._rpc.sign_multisig(tx_set))

    async def submit_multisig(self, tx_hex: str) -> tuple[TxHash, ...]:
        return await self._death.around(self._role, self._rpc.submit_multisig(tx_hex))
