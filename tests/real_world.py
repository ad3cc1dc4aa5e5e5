"""A private chain with money for the real tests, mined once a process, and worlds of real programs on copies of it."""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from actors.monero_programs import WalletProgram, launch_regtest, launch_wallet, reserved_port
from actors.ports import DaemonRpc, WalletRpc
from actors.processes import ProcessKeeper
from actors.slots import SlotHost
from domain.ids import Address, TxHash
from domain.roles import THREE, Role
from eventstore.embedded import start_embedded
from ops.regtest.chain import FIRST_BLOCKS, FunderWallet, RegtestChain
from service.embedded import CHAIN, POSTGRES, PROGRAMS
from tests.patience import PATIENCE_S
from tests.postgres_fixtures import run_apart

FUNDER = "funder"


@dataclass(frozen=True)
class WrappedHost:
    """A slot's host whose clients a test has put something around."""

    host: SlotHost
    wrap: Callable[[WalletRpc], WalletRpc]

    async def reach(self, *, fence: int, clean: bool, before_call: Callable[[], None]) -> WalletRpc:
        return self.wrap(await self.host.reach(fence=fence, clean=clean, before_call=before_call))

    async def make_wallet(self, rpc: WalletRpc, name: str, *, password: str, wanted: asyncio.Event) -> None:
        await self.host.make_wallet(rpc, name, password=password, wanted=wanted)

    def shows(self, name: str) -> None:
        self.host.shows(name)

    def silent(self) -> bool:
        return self.host.silent()


@dataclass(frozen=True, kw_only=True)
class RichChain:
    """A chain and an ordinary wallet that owns all of it, at rest; `receivers` are addresses of that wallet."""

    folder: Path
    miner: Address
    receivers: Mapping[Role, Address]

    def copy_to(self, home: Path) -> None:
        """Copies both; the chain goes where an embedded world keeps its own."""
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in (CHAIN, FUNDER):
            # A shared blocks file is mostly a hole: copied as it is.
            subprocess.run(["cp", "-a", "--sparse=always", self.folder / name, home / name], check=True)


@pytest.fixture(scope="session")
def rich_chain() -> Iterator[RichChain]:
    """Mines the chain; about 12 s."""
    folder = Path(tempfile.mkdtemp(prefix="tk-rich-"))
    try:
        yield run_apart(_mined(folder))
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def home(rich_chain: RichChain) -> Iterator[Path]:
    """A data folder with a copy of the rich chain; its path is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="tk-"))
    rich_chain.copy_to(folder)
    try:
        yield folder
    finally:
        run_apart(_ended(folder))
        shutil.rmtree(folder)


async def _ended(home: Path) -> None:
    """Ends whatever a test that failed has left running."""
    for programs in ("outside", PROGRAMS):
        await ProcessKeeper(home / programs).end_orphans()
    if (home / POSTGRES).exists():
        await (await start_embedded(home / POSTGRES)).stop()


async def _mined(folder: Path) -> RichChain:
    async with chain_running(folder) as url, funder_running(folder, daemon_url=url) as funder:
        miner = await funder.open(FUNDER, password="")
        chain = RegtestChain(url)
        await chain.mine(FIRST_BLOCKS, to=miner)
        await chain.aclose()
        receivers = {role: await funder.new_address() for role in THREE}
        await funder.refresh()
        await funder.close()
    return RichChain(folder=folder, miner=miner, receivers=receivers)


@asynccontextmanager
async def chain_running(home: Path) -> AsyncIterator[str]:
    """Runs the chain of a home that no world runs at the moment, and yields its address."""
    with reserved_port() as port:
        process = await launch_regtest(ProcessKeeper(home / "outside"), folder=home / CHAIN, port=port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await process.stop()


@asynccontextmanager
async def funder_running(home: Path, *, daemon_url: str) -> AsyncIterator[FunderWallet]:
    """Runs the ordinary wallet of a home; a chain that does not answer yet may be named later."""
    daemon_address = daemon_url.removeprefix("http://")
    with reserved_port() as port:
        program = WalletProgram(name="funder", folder=home / FUNDER, port=port, daemon_address=daemon_address)
        process, quiet = await launch_wallet(ProcessKeeper(home / "outside"), program)
    await quiet.aclose()
    funder = FunderWallet(program.url)
    try:
        yield funder
    finally:
        await funder.aclose()
        await process.stop()


async def until_passed_on(daemon: DaemonRpc, tx_hash: TxHash) -> None:
    """Waits until a daemon has passed a payment on: until then no block has it, and no watch shows it."""
    async with asyncio.timeout(PATIENCE_S):
        while not all(known.relayed for known in await daemon.transactions([tx_hash])):
            await asyncio.sleep(0.01)


async def balances(funder: FunderWallet, rich: RichChain) -> dict[Role, int]:
    """What the three receivers hold now, in atomic units."""
    await funder.refresh()
    held = {each.address: each.balance for each in (await funder.balance()).per_subaddress}
    return {role: held.get(address, 0) for role, address in rich.receivers.items()}


async def paid_by(funder: FunderWallet, tx_hash: TxHash, rich: RichChain) -> dict[Role, int]:
    """What one transaction paid to the three receivers, in atomic units."""
    amounts = {each.address: each.amount for each in await funder.received(tx_hash)}
    return {role: amounts[address] for role, address in rich.receivers.items() if address in amounts}
