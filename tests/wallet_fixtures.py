"""One world of three wallet processes, a daemon and money, simulated or real: the stage of the wallet's contract."""

import asyncio
import contextlib
import itertools
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
import pytest

from actors.daemon_rpc import HttpDaemon
from actors.jsonrpc import ErrorAnswer
from actors.monero_programs import WalletProgram, launch_regtest, launch_wallet, reserved_port
from actors.ports import DaemonRpc, WalletFault, WalletFolder, WalletRefused, WalletRpc
from actors.processes import Process, ProcessKeeper
from actors.simulation import SimChain, SimDaemon, SimFiles, SimFolder, SimWallet
from actors.simulation.identity import subaddress_of
from actors.wallet_files import FolderFiles
from actors.wallet_rpc import HttpWallet
from domain.ids import Address, TxHash
from ops.regtest.chain import FIRST_BLOCKS, FunderWallet, RegtestChain
from tests.patience import PATIENCE_S
from tests.real_world import until_passed_on

_T = TypeVar("_T")

PASSWORD = "correct horse"
SEATS = ("buyer", "vendor", "arbiter")

REAL = pytest.param("real", marks=[pytest.mark.xdist_group("real"), pytest.mark.timeout(1200)])


class WalletWorld(Protocol):
    """Three seats, each with its own process and folder, on one chain."""

    seats: Sequence[WalletRpc]
    files: Sequence[WalletFolder]
    daemon: DaemonRpc
    escrow_name: str
    """The wallet's name once `escrow` was called."""

    async def pay(self, *payments: tuple[Address, int]) -> TxHash: ...
    async def mine(self, blocks: int) -> None: ...
    async def reorganise(self, depth: int) -> None: ...
    async def outside(self) -> Address: ...
    async def crash(self, seat: int) -> None: ...
    def beside(self, seat: int) -> contextlib.AbstractAsyncContextManager[WalletRpc]:
        """Runs another process on the folder of a seat."""

    def without_daemon(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Takes the daemon away for the block."""

    def name(self) -> str: ...
    async def escrow(self) -> Address: ...
    def keep_escrow(self, name: str, address: Address) -> None:
        """Lets later tests use an escrow that this one has set up."""


class SimulatedWorld:
    def __init__(self) -> None:
        self.chain = SimChain(seed=7)
        self.folders = [SimFolder() for _ in SEATS]
        self.processes = [SimWallet(chain=self.chain, folder=folder) for folder in self.folders]
        self.seats: Sequence[WalletRpc] = self.processes
        self.files: Sequence[WalletFolder] = [SimFiles(folder) for folder in self.folders]
        self.daemon: DaemonRpc = SimDaemon(self.chain)
        self._names = itertools.count()

    async def pay(self, *payments: tuple[Address, int]) -> TxHash:
        return self.chain.pay_many(payments)

    async def mine(self, blocks: int) -> None:
        self.chain.mine(blocks)

    async def reorganise(self, depth: int) -> None:
        self.chain.reorganise(depth)

    async def outside(self) -> Address:
        return subaddress_of(self.chain.fresh("outside"))

    async def crash(self, seat: int) -> None:
        self.processes[seat].kill()
        self.processes[seat].restart()

    @contextlib.asynccontextmanager
    async def beside(self, seat: int) -> AsyncIterator[WalletRpc]:
        yield SimWallet(chain=self.chain, folder=self.folders[seat])

    @contextlib.asynccontextmanager
    async def without_daemon(self) -> AsyncIterator[None]:
        self.chain.online = False
        yield
        self.chain.online = True

    def name(self) -> str:
        return f"w{next(self._names)}"

    async def escrow(self) -> Address:
        self.escrow_name = self.name()
        return await set_up(self, self.escrow_name)

    def keep_escrow(self, name: str, address: Address) -> None:
        pass  # setting up another takes a millisecond


class RealMonero:
    """The programs, started once a worker: monerod, three seats' wallets and the funder's."""

    def __init__(self, folder: Path) -> None:
        self.keeper, self._ports = ProcessKeeper(folder / "run"), contextlib.ExitStack()
        self.port = self._ports.enter_context(reserved_port())
        self.folder = folder
        self.escrow: tuple[str, Address] | None = None
        self.miner: Address | None = None
        self.names = itertools.count()
        self.programs = [self._wallet(seat) for seat in (*SEATS, "funder")]
        self.processes: list[Process] = []

    @property
    def daemon_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        await launch_regtest(self.keeper, folder=self.folder / "chain", port=self.port)
        launched = await asyncio.gather(*(launch_wallet(self.keeper, program) for program in self.programs))
        self.processes = [process for process, _ in launched]
        for _, client in launched:
            await client.aclose()
        chain, funder = RegtestChain(self.daemon_url), self.funder()
        self.miner = await funder.open("funder", password=PASSWORD)
        await chain.mine(FIRST_BLOCKS, to=self.miner)
        await chain.aclose()
        await funder.aclose()

    async def stop(self) -> None:
        await self.keeper.end_orphans()
        self._ports.close()

    async def crash(self, seat: int) -> None:
        await self.processes[seat].kill()
        self.processes[seat], client = await launch_wallet(self.keeper, self.programs[seat])
        await client.aclose()

    @contextlib.asynccontextmanager
    async def beside(self, seat: int) -> AsyncIterator[HttpWallet]:
        program = msgspec.structs.replace(
            self._wallet(f"beside-{SEATS[seat]}"), wallets=self.programs[seat].wallet_folder
        )
        process, client = await launch_wallet(self.keeper, program)
        try:
            yield client
        finally:
            await client.aclose()
            await process.stop()

    @contextlib.asynccontextmanager
    async def without_daemon(self) -> AsyncIterator[None]:
        daemon = self.keeper.find("monerod")
        assert daemon is not None
        await daemon.stop()
        try:
            yield
        finally:
            await launch_regtest(self.keeper, folder=self.folder / "chain", port=self.port)

    def client(self, seat: int) -> HttpWallet:
        user, password = self.programs[seat].login or ("", "")
        return HttpWallet(self.programs[seat].url, user=user, password=password)

    def funder(self) -> FunderWallet:
        return FunderWallet(self.programs[-1].url, user="caller", password="funder-secret")

    def _wallet(self, name: str) -> WalletProgram:
        return WalletProgram(
            name=name,
            folder=self.folder / name,
            port=self._ports.enter_context(reserved_port()),
            daemon_address=f"127.0.0.1:{self.port}",
            login=("caller", f"{name}-secret"),
        )


class RealWorld:
    def __init__(self, monero: RealMonero) -> None:
        self._monero = monero
        self._clients = [monero.client(seat) for seat in range(len(SEATS))]
        self.seats: Sequence[WalletRpc] = self._clients
        self.files: Sequence[WalletFolder] = [FolderFiles(each.wallet_folder) for each in monero.programs[:-1]]
        self.daemon: DaemonRpc = HttpDaemon(monero.daemon_url)
        self._chain, self._funder = RegtestChain(monero.daemon_url), monero.funder()

    async def pay(self, *payments: tuple[Address, int]) -> TxHash:
        await self._funder.refresh()
        paid = await self._funder.pay_many(payments)
        await until_passed_on(self.daemon, paid)
        return paid

    async def mine(self, blocks: int) -> None:
        assert self._monero.miner is not None
        await self._chain.mine(blocks, to=self._monero.miner)

    async def reorganise(self, depth: int) -> None:
        await self._chain.pop(depth)
        await self.mine(depth + 1)

    async def outside(self) -> Address:
        return await self._funder.new_address()

    async def crash(self, seat: int) -> None:
        await self._monero.crash(seat)

    def beside(self, seat: int) -> contextlib.AbstractAsyncContextManager[WalletRpc]:
        return self._monero.beside(seat)

    @contextlib.asynccontextmanager
    async def without_daemon(self) -> AsyncIterator[None]:
        async with self._monero.without_daemon():
            yield
        await together(connected(refresh) for refresh in (*(seat.refresh for seat in self.seats), self._funder.refresh))

    def name(self) -> str:
        return f"w{next(self._monero.names)}"

    async def escrow(self) -> Address:
        """Opens the one escrow that all tests share, set up by the first of them."""
        if self._monero.escrow is None:
            self.escrow_name = self.name()
            self._monero.escrow = (self.escrow_name, await set_up(self, self.escrow_name))
            return self._monero.escrow[1]
        self.escrow_name, address = self._monero.escrow
        await together(self._opened(seat, address) for seat in self.seats)
        return address

    def keep_escrow(self, name: str, address: Address) -> None:
        self._monero.escrow = (name, address)

    async def _opened(self, seat: WalletRpc, address: Address) -> None:
        # Opening costs seconds; a wallet left open by the test before is as good.
        with contextlib.suppress(WalletRefused):
            if await seat.get_address() == address:
                return
        await seat.open_wallet(self.escrow_name, password=PASSWORD)

    async def aclose(self) -> None:
        await together(client.aclose() for client in self._clients)
        await self.daemon.aclose()
        await self._chain.aclose()
        await self._funder.aclose()


async def together(calls: Iterable[Awaitable[_T]]) -> list[_T]:
    return list(await asyncio.gather(*calls))


async def set_up(world: WalletWorld, name: str) -> Address:
    """Makes one 2-of-3 wallet across the seats, storing where it must be stored."""
    seats = world.seats
    await together(seat.create_wallet(name, password=PASSWORD) for seat in seats)
    first = await together(seat.prepare_multisig() for seat in seats)
    second = await together(
        seat.make_multisig(others(first, index), password=PASSWORD) for index, seat in enumerate(seats)
    )
    third = await exchange(seats, second)
    await together(seat.store() for seat in seats)
    last = await exchange(seats, [result.info for result in third])
    (address,) = {result.address for result in last}
    assert address is not None
    return address


async def connected(refresh: Callable[[], Awaitable[object]]) -> None:
    """Lets a wallet find its daemon again: over the connection to one that has ended the first call finds none."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await refresh()
                return
            except (WalletRefused, ErrorAnswer):
                await asyncio.sleep(0.1)


async def exchange(seats, infos):
    return await together(
        seat.exchange_multisig_keys(others(infos, index), password=PASSWORD) for index, seat in enumerate(seats)
    )


def others(items: Sequence[str], index: int) -> list[str]:
    return [item for position, item in enumerate(items) if position != index]


async def fault_of_call(call: Awaitable[object]) -> WalletFault:
    """Awaits a call that must be refused and returns how."""
    with pytest.raises(WalletRefused) as caught:
        await call
    return caught.value.fault


@pytest.fixture(scope="session")
def real_monero(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMonero]:
    if shutil.which("monerod") is None or shutil.which("monero-wallet-rpc") is None:
        pytest.skip("monerod and monero-wallet-rpc are not installed")
    monero = RealMonero(tmp_path_factory.mktemp("monero"))
    try:
        asyncio.run(monero.start())
        yield monero
    finally:
        asyncio.run(monero.stop())


@pytest.fixture(params=["simulated", REAL])
def monero(request: pytest.FixtureRequest) -> RealMonero | None:
    # Asked for outside any event loop: starting the programs runs one of its own.
    return request.getfixturevalue("real_monero") if request.param == "real" else None


@pytest.fixture
async def world(monero: RealMonero | None) -> AsyncIterator[WalletWorld]:
    if monero is None:
        yield SimulatedWorld()
        return
    real = RealWorld(monero)
    try:
        yield real
    finally:
        await real.aclose()
