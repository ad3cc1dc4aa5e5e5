"""A service process under load that is killed at a drawn moment, and what it was answered until then."""

import asyncio
import os
import random
import signal
from itertools import count
from pathlib import Path

import asyncpg
import msgspec

from actors.clock import SystemClock
from actors.desk import derived_id
from actors.escrow import Accepted
from actors.mail import AskTimeout, MailboxFull
from actors.simulation import SimChain, SimDaemon, SimWatch
from domain import commands as c
from domain.commands import AnyCommand
from domain.ids import EscrowId, OrderId, Sealed, UserId
from domain.money import Atomic
from domain.roles import THREE, SeatKind
from domain.terms import Policy, Terms
from eventstore.api import LogBusy, LogUnavailable, OutcomeUnknown
from eventstore.grouped import LogLimits
from eventstore.opening import Store, open_store
from service.node import Node
from tests.chaos.child import PARTITIONS
from tests.given import AMOUNT, ARBITER, BUYER, USERS, VENDOR
from tests.sim_world import FAST, moment

CUSTOMERS = 16
ACKNOWLEDGED = "acknowledged"
LATER = (LogUnavailable, LogBusy, OutcomeUnknown, AskTimeout, MailboxFull)
"""What a customer is answered while the database is down: they try again with the same command."""

DOWN = (LogUnavailable, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """On which database a child works, how long at least, and with which seed.

    Each answer that something is durable is noted in the file `acknowledged` of `folder`.
    """

    dsn: str
    folder: Path
    seed: int
    live_s: float
    """Seconds from its start, which a busy machine may need for the start alone."""
    acknowledged_min: int
    """It is not killed before it was told so often that something is durable."""


def run(load: Load) -> None:
    """Works until it is killed, by itself if nobody else does it."""
    asyncio.run(_live(load))


async def open_loaded_store(dsn: str, *, limits: LogLimits | None = None) -> Store:
    """Opens the store as every child does."""
    return await open_store(dsn=dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id="node-1", limits=limits)


def _node(store: Store) -> Node:
    """Builds a node whose escrows need no wallets: all their seats are elsewhere."""
    chain = SimChain()
    return Node(
        store=store,
        clock=SystemClock(),
        network="regtest",
        slots=[],
        daemon=SimDaemon(chain),
        watch=SimWatch(chain),
        limits=FAST,
    )


async def _live(load: Load) -> None:
    told = Told(load)
    ending = asyncio.create_task(told.end())
    try:
        node = _node(await open_loaded_store(load.dsn))
        await node.start()
    except DOWN:
        os.kill(os.getpid(), signal.SIGKILL)  # a service does not start without its database: this life is over
    draw = random.Random(load.seed)
    customers = (_customer(node, told, f"{load.seed}_{n}", draw.random()) for n in range(CUSTOMERS))
    await asyncio.gather(ending, *customers)


class Told:
    """Notes what is durable, and kills the process when it has lived long enough."""

    def __init__(self, load: Load) -> None:
        self._load, self._count, self._moved = load, 0, asyncio.Event()

    def note(self, line: str) -> None:
        descriptor = os.open(self._load.folder / ACKNOWLEDGED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        # One write to the page cache: a killed process loses nothing of it.
        os.write(descriptor, f"{line}\n".encode())
        os.close(descriptor)
        self._count += 1
        self._moved.set()

    async def end(self) -> None:
        await asyncio.sleep(self._load.live_s)
        while self._count < self._load.acknowledged_min:
            self._moved.clear()
            await self._moved.wait()
        os.kill(os.getpid(), signal.SIGKILL)


async def _customer(node: Node, told: Told, name: str, seed: float) -> None:
    draw = random.Random(seed)
    for number in count():
        escrow_id = EscrowId(f"esc_{name}_{number}")
        await _tell(node, told, escrow_id, _order(node, escrow_id))
        for role in draw.sample(THREE, k=draw.randint(0, 3)):
            address = c.SetPayoutAddress(at=moment(node), by=USERS[role], tag=f"{role} {name}", address=Sealed("x"))
            await _tell(node, told, escrow_id, address)
        if draw.random() < 0.5:
            await _tell(node, told, escrow_id, c.CancelEscrow(at=moment(node), by=draw.choice([BUYER, VENDOR])))


def _order(node: Node, escrow_id: EscrowId) -> c.CreateEscrow:
    terms = Terms(
        escrow_id=escrow_id,
        order_id=OrderId(f"order-{escrow_id}"),
        buyer_id=BUYER,
        vendor_id=VENDOR,
        arbiter_id=ARBITER,
        amount=Atomic(AMOUNT),
        network="regtest",
        seats=dict.fromkeys(THREE, SeatKind.RELAY),
        policy=Policy(),
    )
    return c.CreateEscrow(at=moment(node), terms=terms, by=UserId(BUYER))


async def _tell(node: Node, told: Told, escrow_id: EscrowId, command: AnyCommand) -> None:
    command_id = derived_id(escrow_id, msgspec.json.encode(command).hex())
    while True:
        try:
            answer = await node.desk.handle(
                escrow_id, command, command_id=command_id, actor="customer", body_hash=command_id
            )
        except LATER:
            await asyncio.sleep(0.02)
            continue
        assert isinstance(answer, Accepted), answer
        told.note(f"{escrow_id} {answer.version} {command_id}")
        return
