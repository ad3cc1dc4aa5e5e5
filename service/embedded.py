"""The embedded defaults: Postgres, a private chain and wallet slots of the service's own, all in the data folder.

One process of a data folder runs them (`EmbeddedWorld`); other nodes of the machine join (`joined_world`).
"""

import asyncio
import fcntl
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import msgspec
import structlog

from actors.monero_programs import launch_regtest, reserved_port
from actors.processes import Process, ProcessKeeper, ProgramFailed, port_answers
from actors.slots import Slot
from actors.wallet_rpc import Observer
from eventstore.embedded import EmbeddedPostgres, start_embedded
from eventstore.embedded_os import EmbeddedFailed
from schemas.address import Network
from service.own_slots import OwnSlots
from service.pool_size import PoolFile
from service.settings import Settings
from service.whole_files import FILE_MODE, write_whole

log = structlog.get_logger(__name__)

KEEP_S = 1.0
"""How often the embedded programs are looked at."""
POSTGRES, PROGRAMS, CHAIN, WALLETS, NODES = "pg", "run", "chain", "wallets", "nodes"
WORLD_FILE = "world.json"
"""In the data folder while its world runs: what a node needs to join it."""
LOCK_FILE = "service.lock"
CHAIN_PROGRAM = "monerod"


class FolderInUse(Exception):
    """Another service runs in this data folder."""


class NoWorld(Exception):
    """Nobody runs a world in this data folder."""


class JoinedWorld(msgspec.Struct, frozen=True, kw_only=True):
    """A world as a node finds it that joins: it starts nothing of it and ends nothing."""

    dsn: str | None
    """None where the settings name the database."""
    daemon_url: str
    network: Network


def joined_world(home: Path) -> JoinedWorld:
    """Reads how the world of a data folder is joined; raises `NoWorld`."""
    try:
        return msgspec.json.decode((home / WORLD_FILE).read_bytes(), type=JoinedWorld)
    except (FileNotFoundError, msgspec.DecodeError):
        raise NoWorld(f"no world runs in {home}: start one with `thirdkey world`") from None


def own_slots(home: Path, world: JoinedWorld, *, observer: Observer | None = None) -> OwnSlots:
    """Returns who makes and ends a world's slots for one node."""
    return OwnSlots(
        programs=home / PROGRAMS,
        wallets=home / WALLETS,
        network=world.network,
        daemon_address=world.daemon_url.removeprefix("http://"),
        observer=observer,
    )


@contextmanager
def folder_lock(home: Path) -> Iterator[None]:
    """Holds the data folder for one service; the lock ends with the process. Raises `FolderInUse`."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT, FILE_MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(f"a service already runs in {home}") from None
        yield
    finally:
        os.close(descriptor)


def node_id(home: Path) -> str:
    """Returns this folder's node id, made at the first start: a restarted node takes back its own leases at once."""
    path = home / "node_id"
    if not path.exists():
        path.write_text(f"node-{secrets.token_hex(4)}\n")
    return path.read_text().strip()


def node_home(home: Path, node: str | None) -> Path:
    """Names the folder of what is one node's own: the data folder itself for the one that runs its world."""
    return home if node is None else home / NODES / node


def nodes_alive(home: Path) -> Sequence[str]:
    """Names the joined nodes of a data folder whose processes live, stopped ones included."""
    return [each.parent.name for each in (home / NODES).glob(f"*/{LOCK_FILE}") if _held(each)]


def _held(lock: Path) -> bool:
    descriptor = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@dataclass(kw_only=True)
class EmbeddedWorld:
    """What runs beside the service, all on loopback; ended with it, found again after a kill -9."""

    home: Path
    network: Network = "regtest"
    slots_per_role: int = 1
    """At its start."""
    slots_per_role_max: int | None = None
    """None means that there are never more."""
    on_wallet_call: Observer | None = None
    postgres: EmbeddedPostgres | None = None
    slots: list[Slot] = field(default_factory=list)
    daemon_url: str = ""
    _chain: Process | None = None
    _closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def start_postgres(self) -> str:
        """Starts the embedded Postgres, or joins it, and returns its address."""
        self.postgres = await start_embedded(self.home / POSTGRES)
        self._closers.append(self._stop_postgres)
        return self.postgres.dsn

    async def start_chain_and_slots(self) -> None:
        """Starts the private chain and the slots, or takes over what nodes still use. Raises `ProgramFailed`.

        With no node alive, whatever an earlier service left over is ended, not adopted: ending saves open wallets and
        makes sure that nobody else has them open. With nodes alive, chain and slots are theirs to go on with.
        """
        keeper, used = ProcessKeeper(self.home / PROGRAMS), bool(nodes_alive(self.home))
        if not used:
            await keeper.end_orphans()
            for name in self._own.known():
                shutil.rmtree(self.home / PROGRAMS / name, ignore_errors=True)
        self._chain = await self._found_chain(keeper) or await self._launch_new_chain()
        self._closers.append(self._stop_chain)
        most = max(self.slots_per_role, self.slots_per_role_max or 0)
        size = PoolFile(self.home).begin(least=self.slots_per_role, most=most, keep=used)
        own = self._own
        self.slots = [own.slot(name) for name in size.names()]
        self._closers.append(self._stop_slots)
        await asyncio.gather(*(own.programs_of(name).ensure() for name in size.names()))

    def joining(self) -> JoinedWorld:
        """Says how other nodes join."""
        return JoinedWorld(
            dsn=self.postgres.dsn if self.postgres else None,
            daemon_url=self.daemon_url,
            network=self.network,
        )

    @contextmanager
    def open_to_nodes(self) -> Iterator[None]:
        """Lets other nodes of this machine join for the block, by a file that its owner alone reads."""
        path = self.home / WORLD_FILE
        write_whole(path, msgspec.json.encode(self.joining()))
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    async def keep_alive(self) -> None:
        """Starts the database and the private chain again whenever they die; until cancelled.

        Slots are not looked after here: their supervisors restart them, because a wallet may be open in one.
        """
        while True:
            await asyncio.sleep(KEEP_S)
            try:
                await self._revive()
            except (EmbeddedFailed, ProgramFailed, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as failed:
                # A port or a disk that is not free yet may be so the next time.
                log.error("world_not_revived", error=type(failed).__name__)

    async def _revive(self) -> None:
        if self.postgres is not None and not _alive(self.postgres.pid):
            log.error("postgres_died")
            self.postgres = await start_embedded(self.home / POSTGRES)
        if self._chain is not None and not self._chain.alive:
            log.error("chain_died")
            self._chain = await self._launch_chain(_port_of(self.daemon_url))

    async def stop(self) -> None:
        """Ends everything, the database last."""
        for close in reversed(self._closers):
            await close()
        self._closers.clear()

    @property
    def _own(self) -> OwnSlots:
        return own_slots(self.home, self.joining(), observer=self.on_wallet_call)

    async def _found_chain(self, keeper: ProcessKeeper) -> Process | None:
        """Finds the chain that an earlier world left running, where it still answers."""
        found = keeper.find(CHAIN_PROGRAM)
        if found is None:
            return None
        try:
            self.daemon_url = joined_world(self.home).daemon_url
        except NoWorld:
            self.daemon_url = ""
        if self.daemon_url and await port_answers(_port_of(self.daemon_url)):
            return found
        await found.stop()
        return None

    async def _launch_new_chain(self) -> Process:
        with reserved_port() as port:
            return await self._launch_chain(port)

    async def _launch_chain(self, port: int) -> Process:
        self.daemon_url = f"http://127.0.0.1:{port}"
        return await launch_regtest(ProcessKeeper(self.home / PROGRAMS), folder=self.home / CHAIN, port=port)

    async def _stop_chain(self) -> None:
        if self._chain is not None:
            await self._chain.stop()

    async def _stop_slots(self) -> None:
        own = self._own  # by their folders: nodes may have started more of them since
        await asyncio.gather(*(own.programs_of(name).stop() for name in own.known()))

    async def _stop_postgres(self) -> None:
        if self.postgres is not None:
            await self.postgres.stop()


@asynccontextmanager
async def embedded_world(settings: Settings, *, on_wallet_call: Observer | None = None) -> AsyncIterator[EmbeddedWorld]:
    """Runs the world of a data folder for the block, and lets nodes join; with its own database only if none is named.

    The caller holds the folder's lock. Raises `EmbeddedFailed`, `ProgramFailed`.
    """
    world = EmbeddedWorld(
        home=settings.thirdkey_home,
        network=settings.monero_network,
        slots_per_role=settings.slots_per_role_min,
        slots_per_role_max=settings.slots_per_role_max,
        on_wallet_call=on_wallet_call,
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(world.stop)
        if settings.database_url is None:
            await world.start_postgres()
        if settings.slots_given:
            world.daemon_url = settings.monero_daemon_urls[0]
            PoolFile(world.home).begin(least=0, most=0, keep=False)
        else:
            await world.start_chain_and_slots()
        keeping = asyncio.get_running_loop().create_task(world.keep_alive())
        stack.push_async_callback(_cancelled, keeping)
        stack.enter_context(world.open_to_nodes())
        yield world


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def _alive(pid: int) -> bool:
    """Says whether a process lives; one that ended and was not waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
