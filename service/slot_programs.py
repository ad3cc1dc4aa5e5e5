"""A slot's wallet processes, one after another, each named by the lease under which it was started."""

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import structlog

from actors.ailments import Ailment, SlotUnusable
from actors.escrow import LostLease
from actors.monero_programs import MAKER_LIMIT_S, WalletProgram, launch_wallet, maker_program, reserved_port
from actors.ports import WalletRpc
from actors.processes import Process, ProcessKeeper, ProgramFailed
from actors.slots import SlotWanted
from actors.wallet_rpc import HttpWallet, Observer
from schemas.address import Network

log = structlog.get_logger(__name__)

USER = "thirdkey"
ACCESS_FILE = "access.json"
MAKER = "maker"
"""The folder of the program that makes a slot's wallets; no name of a lease."""
RINGS = "rings"


class SlotFolders(msgspec.Struct, frozen=True, kw_only=True):
    """Where a slot's processes run and its wallets lie."""

    programs: Path
    wallets: Path
    name: str
    network: Network
    daemon_address: str
    """`host:port`."""


class _Access(msgspec.Struct, frozen=True, kw_only=True):
    """How a process is reached: in a file of its folder, for its owner alone."""

    port: int
    password: str


class _Turn(msgspec.Struct, frozen=True, order=True):
    """The fence of the lease a process was started under, and its number under that lease."""

    fence: int
    number: int

    def __str__(self) -> str:
        return f"{self.fence}.{self.number}"


class SlotPrograms:
    """Starts, finds and ends a slot's process; every node of the machine has one of these for each slot.

    A process is never started again under its old name: the next one has another port and another login. Whoever
    holds a lease ends only what was started under its fence or a lower one, so a node that was stopped and goes on
    with an old lease can end nothing of the present holder's.
    """

    def __init__(self, folders: SlotFolders, *, observer: Observer | None = None) -> None:
        self._folders, self._observer = folders, observer
        self._keeper = ProcessKeeper(folders.programs)
        self._one_at_a_time = asyncio.Lock()

    async def reach(self, *, fence: int, clean: bool, before_call: Callable[[], None]) -> HttpWallet:
        """Returns a client of the process, ended first unless `clean`; raises `LostLease`, `ProgramFailed`.

        Where it was ended and the next does not start, `SlotUnusable` says that nothing of this slot runs any more.
        """
        async with self._one_at_a_time:
            found = self._present()
            if found is not None and found[0].fence > fence:
                raise LostLease
            if found is None or not clean:
                await self._end(fence)
                turn = await self._started_anew(fence)
            else:
                turn = found[0]
            return self._client(turn, before_call)

    async def make_wallet(self, rpc: WalletRpc, name: str, *, password: str, wanted: asyncio.Event) -> None:
        """Makes a wallet's file by a program of its own and opens it.

        Raises `SlotWanted`, and `ProgramFailed` when the program does not end.
        """
        secret = self._password_file
        secret.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        await self._end_maker()
        try:
            secret.touch(mode=0o600)
            secret.write_text(password)
            wallet = self._beside(secret.parent)
            program = maker_program(wallet, file=name, password_file=secret, name=self._maker)
            await _run(await self._keeper.start(program), wanted)
        finally:
            secret.unlink(missing_ok=True)
        await rpc.open_wallet(name, password=password)

    async def ensure(self) -> None:
        """Starts a process where none runs, for whoever leases the slot first; raises `ProgramFailed`."""
        async with self._one_at_a_time:
            if self._present() is None:
                await self._start(0)

    def shows(self, name: str) -> None:
        """Needs not know: a process of our own is ended, not waited for."""

    def silent(self) -> bool:
        """Whether the process is stopped or gone."""
        found = self._present()
        return found is None or found[1].stopped

    async def end(self, fence: int) -> None:
        """Ends what runs under a lease's fence or a lower one, which saves an open wallet, and removes what is left.

        Raises `LostLease` where something runs under a higher one, `ProgramFailed`.
        """
        async with self._one_at_a_time:
            found = self._present()
            if found is not None and found[0].fence > fence:
                raise LostLease
            await self._end(fence)
            for turn in [each for each in self._known() if each.fence <= fence]:
                self._remove(turn)
            if not self._known():
                for folder in (MAKER, RINGS):
                    shutil.rmtree(self._home / folder, ignore_errors=True)
                with contextlib.suppress(OSError):  # never made, or not empty: somebody has the slot again
                    self._home.rmdir()

    async def stop(self) -> None:
        """Ends whatever runs for this slot, which saves an open wallet; also what a node that died made one with."""
        await asyncio.gather(self._end_maker(), *(process.stop() for _, process in self._running()))

    def _present(self) -> tuple[_Turn, Process] | None:
        return max(self._running(), key=lambda each: each[0], default=None)

    def _running(self) -> Iterator[tuple[_Turn, Process]]:
        for turn in self._known():
            if process := self._keeper.find(self._named(turn)):
                yield turn, process

    def _known(self) -> list[_Turn]:
        found = [each.name.split(".") for each in self._home.glob("*.*") if each.is_dir()]
        return [_Turn(int(fence), int(number)) for fence, number in found]

    async def _end(self, fence: int) -> None:
        """Ends what runs and removes what is left of it."""
        old = sorted(turn for turn in self._known() if turn.fence <= fence)
        running = [process for turn, process in self._running() if turn in old]
        await asyncio.gather(*(process.stop() for process in running))
        await self._end_maker()
        for turn in old[:-1]:
            self._remove(turn)

    def _remove(self, turn: _Turn) -> None:
        (self._folders.programs / f"{self._named(turn)}.out").unlink(missing_ok=True)
        shutil.rmtree(self._home / str(turn), ignore_errors=True)

    async def _end_maker(self) -> None:
        """Ends a maker of wallets that outlived its node, and removes the password that it was given."""
        if left := self._keeper.find(self._maker):
            await left.kill()
        self._password_file.unlink(missing_ok=True)

    async def _started_anew(self, fence: int) -> _Turn:
        try:
            return await self._start(fence)
        except (ProgramFailed, OSError) as failed:
            log.warning("slot_not_started", slot=self._folders.name, error=type(failed).__name__)
            raise SlotUnusable(Ailment.NOT_STARTED, ended=self._present() is None) from None

    async def _start(self, fence: int) -> _Turn:
        number = max((turn.number for turn in self._known() if turn.fence == fence), default=-1) + 1
        turn = _Turn(fence, number)
        folder = self._home / str(turn)
        folder.mkdir(parents=True, mode=0o700)
        (folder / ACCESS_FILE).touch(mode=0o600)
        with reserved_port() as port:
            access = _Access(port=port, password=secrets.token_urlsafe(24))
            (folder / ACCESS_FILE).write_bytes(msgspec.json.encode(access))
            _, quiet = await launch_wallet(self._keeper, self._program(turn, access))
        await quiet.aclose()
        return turn

    def _beside(self, folder: Path) -> WalletProgram:
        folders = self._folders
        return WalletProgram(
            name=folders.name,
            folder=folder,
            port=0,
            daemon_address=folders.daemon_address,
            network=folders.network,
            wallets=folders.wallets,
        )

    def _program(self, turn: _Turn, access: _Access) -> WalletProgram:
        folders = self._folders
        return WalletProgram(
            name=self._named(turn),
            folder=self._home / str(turn),
            port=access.port,
            daemon_address=folders.daemon_address,
            network=folders.network,
            login=(USER, access.password),
            wallets=folders.wallets,
            rings=self._home / RINGS,
        )

    def _client(self, turn: _Turn, before_call: Callable[[], None]) -> HttpWallet:
        access = msgspec.json.decode((self._home / str(turn) / ACCESS_FILE).read_bytes(), type=_Access)
        url = f"http://127.0.0.1:{access.port}"
        return HttpWallet(url, user=USER, password=access.password, observer=self._observer, before_call=before_call)

    def _named(self, turn: _Turn) -> str:
        return f"slot-{self._folders.name}.{turn}"

    @property
    def _maker(self) -> str:
        return f"make-{self._folders.name}"

    @property
    def _password_file(self) -> Path:
        return self._home / MAKER / "password"

    @property
    def _home(self) -> Path:
        return self._folders.programs / self._folders.name


async def _run(maker: Process, wanted: asyncio.Event) -> None:
    """Waits for a maker of wallets to end, or ends it when its slot is wanted."""
    over = asyncio.create_task(maker.over(limit_s=MAKER_LIMIT_S))
    asked = asyncio.create_task(wanted.wait())
    try:
        await asyncio.wait({over, asked}, return_when=asyncio.FIRST_COMPLETED)
        if over.done() and over.result():
            return
        await maker.kill()
        if asked.done():
            raise SlotWanted
        raise ProgramFailed(name=maker.name, reason=f"not done after {MAKER_LIMIT_S:g} s")
    finally:
        for task in (over, asked):
            task.cancel()
        await asyncio.gather(over, asked, return_exceptions=True)
        if maker.alive:
            await maker.kill()
