"""The embedded defaults: Postgres, a private chain and wallet slots of the service's own, all in the data folder."""

import asyncio
import fcntl
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from actors.monero_programs import WalletProgram, free_port, launch_regtest, launch_wallet
from actors.processes import Process, ProcessKeeper
from actors.slots import Slot
from actors.wallet_files import FolderFiles
from actors.wallet_rpc import HttpWallet, Observer
from domain.roles import THREE, Role
from eventstore.embedded import EmbeddedPostgres, start_embedded
from schemas.address import Network

log = structlog.get_logger(__name__)

FILE_MODE = 0o600
KEEP_S = 1.0
"""How often the embedded programs are looked at."""
POSTGRES, PROGRAMS, CHAIN, WALLETS = "pg", "run", "chain", "wallets"


class FolderInUse(Exception):
    """Another service runs in this data folder."""


@contextmanager
def folder_lock(home: Path) -> Iterator[None]:
    """Holds the data folder for one service; the lock ends with the process. Raises `FolderInUse`."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(home / "service.lock", os.O_RDWR | os.O_CREAT, FILE_MODE)
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


class SlotProcess:
    """One slot's process, restarted on the same port with the same login."""

    def __init__(self, keeper: ProcessKeeper, program: WalletProgram, process: Process) -> None:
        self._keeper, self._program, self._process = keeper, program, process

    async def restart(self) -> None:
        """Ends the process, which saves an open wallet, waits until it is gone, and starts it again."""
        await self._process.stop()
        self._process, client = await launch_wallet(self._keeper, self._program)
        await client.aclose()

    async def stop(self) -> None:
        """Ends the process, which saves an open wallet."""
        await self._process.stop()


@dataclass(kw_only=True)
class EmbeddedWorld:
    """What runs beside the service, all on loopback; ended with it, found again after a kill -9."""

    home: Path
    network: Network = "regtest"
    slots_per_role: int = 1
    on_wallet_call: Observer | None = None
    postgres: EmbeddedPostgres | None = None
    slots: list[Slot] = field(default_factory=list)
    daemon_url: str = ""
    _chain: Process | None = None
    _chain_port: int = 0
    _closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def start_postgres(self) -> str:
        """Starts the embedded Postgres, or joins it, and returns its address."""
        self.postgres = await start_embedded(self.home / POSTGRES)
        self._closers.append(self._stop_postgres)
        return self.postgres.dsn

    async def start_chain_and_slots(self) -> None:
        """Ends what an earlier service left over, then starts the private chain and the slots. Raises `ProgramFailed`.

        Left-over wallet processes are ended, not adopted: ending saves their open wallets and makes sure that
        nobody else has them open.
        """
        keeper = ProcessKeeper(self.home / PROGRAMS)
        await keeper.end_orphans()
        self._chain_port = free_port()
        self._chain = await self._launch_chain()
        self._closers.append(self._stop_chain)
        self.daemon_url = f"http://127.0.0.1:{self._chain_port}"
        started = [
            self._start_slot(keeper, role, index, daemon=f"127.0.0.1:{self._chain_port}")
            for role in THREE
            for index in range(self.slots_per_role)
        ]
        self.slots = list(await asyncio.gather(*started))

    async def keep_alive(self) -> None:
        """Starts the database and the private chain again whenever they die; until cancelled.

        Slots are not looked after here: their supervisors restart them, because a wallet may be open in one.
        """
        while True:
            await asyncio.sleep(KEEP_S)
            if self.postgres is not None and not _alive(self.postgres.pid):
                log.error("postgres_died")
                self.postgres = await start_embedded(self.home / POSTGRES)
            if self._chain is not None and not self._chain.alive:
                log.error("chain_died")
                self._chain = await self._launch_chain()

    async def stop(self) -> None:
        """Ends everything, the database last."""
        for close in reversed(self._closers):
            await close()
        self._closers.clear()

    async def _launch_chain(self) -> Process:
        keeper = ProcessKeeper(self.home / PROGRAMS)
        return await launch_regtest(keeper, folder=self.home / CHAIN, port=self._chain_port)

    async def _stop_chain(self) -> None:
        if self._chain is not None:
            await self._chain.stop()

    async def _stop_postgres(self) -> None:
        if self.postgres is not None:
            await self.postgres.stop()

    async def _start_slot(self, keeper: ProcessKeeper, role: Role, index: int, *, daemon: str) -> Slot:
        name = f"{role.value}-{index}"
        program = WalletProgram(
            name=f"slot-{name}",
            folder=self.home / PROGRAMS / name,
            port=free_port(),
            daemon_address=daemon,
            network=self.network,
            login=("thirdkey", secrets.token_urlsafe(24)),
            wallets=self.home / WALLETS / role.value,
        )
        process, quiet = await launch_wallet(keeper, program)
        await quiet.aclose()
        host = SlotProcess(keeper, program, process)
        client = _client(program, observer=self.on_wallet_call)
        self._closers += [client.aclose, host.stop]
        return Slot(name=name, role=role, rpc=client, files=FolderFiles(program.wallet_folder), host=host)


def _client(program: WalletProgram, *, observer: Observer | None) -> HttpWallet:
    user, password = program.login or (None, None)
    return HttpWallet(program.url, user=user, password=password, observer=observer)


def _alive(pid: int) -> bool:
    """Says whether a process lives; one that ended and was not waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
