"""A node on real wallets and a private chain of its own, with an ordinary wallet beside it that pays and is paid."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from actors.clock import SystemClock
from actors.daemon_rpc import HttpDaemon
from actors.scan.follower import ScannerWatch
from actors.slots import Slot, SlotHost
from domain.events import AnyEvent
from domain.ids import EscrowId
from domain.roles import THREE
from eventstore.opening import memory_store
from ops.regtest.chain import FunderWallet, RegtestChain
from schemas.codec import decode
from service.embedded import EmbeddedWorld
from service.node import Node, NodeLimits
from tests.real_world import FUNDER, RichChain, funder_running

LIFE_S = 400.0


@dataclass(kw_only=True)
class Stage:
    """What a test plays on."""

    home: Path
    node: Node
    daemon: HttpDaemon
    chain: RegtestChain
    funder: FunderWallet
    rich: RichChain
    slots: list[Slot]
    daemon_url: str

    async def mine(self, blocks: int = 1) -> None:
        """Mines blocks that pay the ordinary wallet."""
        await self.chain.mine(blocks, to=self.rich.miner)

    async def primed(self) -> set[str]:
        """Waits until each slot has a fresh wallet open, and names the wallets."""
        async with asyncio.timeout(LIFE_S):
            while sum(counts.primed for counts in self.node.slot_counts().values()) < len(THREE):
                await asyncio.sleep(0.1)
        return {row.name for row in (await self.node.store.primed.free()).values()}

    async def events(self, escrow_id: EscrowId) -> list[AnyEvent]:
        """Reads an escrow's whole stream."""
        recorded = await self.node.store.log.read_stream(escrow_id)
        return [decode(type=each.type, schema_version=each.schema_version, body=each.body) for each in recorded]


def pids_of(program: str, *, folder: Path) -> list[int]:
    """Finds the processes of a program that were started on something in a folder."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _runs(entry, program, folder)]


def _runs(entry: Path, program: str, folder: Path) -> bool:
    with contextlib.suppress(OSError):
        argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        return Path(argv[0]).name == program and any(each.startswith(str(folder)) for each in argv)
    return False


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def stage_running(
    home: Path, rich: RichChain, *, host: Callable[[Slot], SlotHost], limits: NodeLimits | None = None
) -> AsyncIterator[Stage]:
    """Runs everything; `host` may put something between each slot and whoever uses it."""
    async with AsyncExitStack() as stack:
        world = EmbeddedWorld(home=home)
        stack.push_async_callback(world.stop)
        await world.start_chain_and_slots()
        stack.push_async_callback(_cancelled, asyncio.create_task(world.keep_alive()))
        funder = await stack.enter_async_context(funder_running(home, daemon_url=world.daemon_url))
        await funder.open(FUNDER, password="")
        stack.push_async_callback(funder.close)
        daemon, chain = HttpDaemon(world.daemon_url), RegtestChain(world.daemon_url)
        stack.push_async_callback(daemon.aclose)
        stack.push_async_callback(chain.aclose)
        for slot in world.slots:
            slot.host = host(slot)
        node = Node(
            store=memory_store(partitions=4),
            clock=SystemClock(),
            network="regtest",
            slots=world.slots,
            daemon=daemon,
            watch=ScannerWatch(daemon, clock=SystemClock(), network="regtest"),
            limits=limits or NodeLimits(watch_poll_s=0.2),
        )
        await node.start()
        stack.push_async_callback(node.stop)
        yield Stage(
            home=home,
            node=node,
            daemon=daemon,
            chain=chain,
            funder=funder,
            rich=rich,
            slots=list(world.slots),
            daemon_url=world.daemon_url,
        )
