"""One of several service nodes on one Postgres and one simulated world, with the real API in front."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from actors.clock import SystemClock
from actors.seat_agent import AgentLimits
from actors.slot_messages import SupervisorLimits
from actors.turn_finder import FinderLimits
from domain.money import Atomic
from domain.terms import Policy
from eventstore.grouped import LogLimits
from eventstore.opening import Store, open_store
from service.commands.serve import doors
from service.node import Node, NodeLimits
from service.settings import Arbiter, Settings
from service.telemetry import Telemetry
from tests.chaos.remote import RemoteWorld
from tests.given import ARBITER
from tests.patience import PATIENCE_S

PARTITIONS = 4
REMINDED_S = 1
"""How soon a buyer is reminded to pay: the timer of these lives."""
AS_SERVED = LogLimits(connect_timeout_s=PATIENCE_S, read_timeout_s=PATIENCE_S)
"""The limits that nodes are served with, save that one starts on a machine that stands still as well: nobody starts it
again, as an operator's supervisor would."""


class NodeOrders(msgspec.Struct, frozen=True, kw_only=True):
    """What a node is: its name, its port, its database, its world, and how long its leases last."""

    name: str
    port: int
    dsn: str
    url: str
    folder: Path
    issuer: bytes
    lease_s: float
    escrows_max: int = 1_000


def run(orders: NodeOrders) -> None:
    """Serves until it is told to end."""
    asyncio.run(_serve(orders))


async def open_node_store(dsn: str, *, name: str, limits: LogLimits | None = None) -> Store:
    """Opens the store as every node does."""
    return await open_store(dsn=dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id=name, limits=limits)


async def _serve(orders: NodeOrders) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with AsyncExitStack() as stack:
        store = await open_node_store(orders.dsn, name=orders.name, limits=AS_SERVED)
        stack.push_async_callback(store.aclose)
        world = RemoteWorld(orders.url, locks=orders.folder / "locks")
        stack.push_async_callback(world.aclose)
        node = Node(
            store=store,
            clock=SystemClock(),
            network="regtest",
            slots=world.slots,
            daemon=world.daemon,
            watch=world,
            limits=_limits(orders.lease_s),
        )
        await node.start()
        stack.push_async_callback(node.stop)
        await doors(stack, _settings(orders), node=node, telemetry=Telemetry(), daemon=orders.url)
        await stop.wait()


def _limits(lease_s: float) -> NodeLimits:
    often = lease_s / 6
    return NodeLimits(
        supervisor=SupervisorLimits(slot_lease_s=lease_s, renew_s=often, recheck_s=often, wait_s=0.05, check_s=5),
        finder=FinderLimits(seat_lease_s=lease_s, renew_s=often, look_s=0.1, retry_s=0.05, retry_max_s=0.3),
        agent=AgentLimits(slot_idle_s=1, look_s=0.1),
        watch_poll_s=0.1,
        time_look_s=0.05,
    )


def _settings(orders: NodeOrders) -> Settings:
    return Settings(
        thirdkey_home=orders.folder,
        encryption_key=bytes(32),
        server_port=orders.port,
        metrics_port=0,
        issuer_public_key=orders.issuer,
        arbiters=(Arbiter(user_id=ARBITER),),
        figures=Policy(funding_remind_s=REMINDED_S),
        max_concurrent_escrows=orders.escrows_max,
        max_beta_volume_atomic=Atomic(10**18),
    )
