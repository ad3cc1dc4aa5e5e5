"""External programs the service owns: started, found again after a crash, and ended, by identity and never by name.

A program is known by its pid together with its start time and the machine's boot id. The pid file is written by the
child itself before it becomes the program: at no moment does it run unrecorded, whenever the service dies.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec

# The child notes who it is, in a file that appears whole, and only then becomes the program ($0 is the file).
_RECORD_AND_BECOME = (
    'umask 077; cat /proc/$$/stat /proc/sys/kernel/random/boot_id > "$0.new" && mv "$0.new" "$0" && exec "$@"'
)
STOP_LIMIT_S = 300.0
"""At least the longest call: a wallet told to end while it creates another finishes that first (2.8 s measured)."""
_KILL_LIMIT_S = 30.0
_POLL_S = 0.05
_RECORD_LIMIT_S = 10.0


class ProgramFailed(Exception):
    """A program did not start, died, or did not become ready in time; see its log."""

    def __init__(self, *, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What to run: a name unique in its keeper, the command line, and how long it may take to end when asked."""

    name: str
    argv: tuple[str, ...]
    stop_limit_s: float = STOP_LIMIT_S
    heard: bool = True
    """Whether what it prints is kept; of a program that prints secrets nothing is."""


class ProcessKeeper:
    """Keeps the programs of one data folder: `NAME.pid` and `NAME.out` for each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def start(self, program: Program) -> "Process":
        """Starts a program in its own session; raises `ProgramFailed` when one of that name is already running."""
        if self.find(program.name, stop_limit_s=program.stop_limit_s) is not None:
            raise ProgramFailed(name=program.name, reason="already running")
        pid_file = self._pid_file(program.name)
        pid_file.unlink(missing_ok=True)
        out = self._folder / f"{program.name}.out" if program.heard else Path(os.devnull)
        pid = _spawn(program.argv, pid_file=pid_file, out=out)
        await _recorded(program.name, pid, pid_file)
        found = self.find(program.name, stop_limit_s=program.stop_limit_s)
        if found is None:
            _reap(pid)
            raise ProgramFailed(name=program.name, reason="died at once")
        return found

    def find(self, name: str, *, stop_limit_s: float = STOP_LIMIT_S) -> "Process | None":
        """Returns the running program of this name, ours or left over by a service that died; None when there is none.

        A pid that now belongs to another program is not touched: its start time differs.
        """
        identity = _read_identity(self._pid_file(name))
        if identity is None or not _alive(identity):
            return None
        return Process(name, identity=identity, stop_limit_s=stop_limit_s, pid_file=self._pid_file(name))

    async def end_orphans(self, *, stop_limit_s: float = STOP_LIMIT_S) -> tuple[str, ...]:
        """Ends every program left over in this folder, side by side, and returns their names."""
        names = [each.stem for each in sorted(self._folder.glob("*.pid"))]
        found = [process for name in names if (process := self.find(name, stop_limit_s=stop_limit_s)) is not None]
        await asyncio.gather(*(process.stop() for process in found))
        for name in names:
            self._pid_file(name).unlink(missing_ok=True)
        return tuple(process.name for process in found)

    def _pid_file(self, name: str) -> Path:
        return self._folder / f"{name}.pid"


class Process:
    """One running program, held by its identity."""

    def __init__(self, name: str, *, identity: "_Identity", stop_limit_s: float, pid_file: Path) -> None:
        self.name, self.pid = name, identity.pid
        self._identity, self._stop_limit_s, self._pid_file = identity, stop_limit_s, pid_file

    @property
    def alive(self) -> bool:
        """Whether the program still runs; a zombie does not."""
        return _alive(self._identity)

    @property
    def stopped(self) -> bool:
        """Whether the program was stopped by a signal and does nothing until it is told to go on."""
        return _state(self.pid) in "Tt"

    async def stop(self) -> None:
        """Asks the program to end, waits as long as it may take, then kills it; returns once it is gone and reaped."""
        if not await self._signal_and_wait(signal.SIGTERM, limit_s=self._stop_limit_s):
            await self.kill()
        self._pid_file.unlink(missing_ok=True)

    async def kill(self) -> None:
        """Kills the program at once and returns when it is gone and reaped; raises `ProgramFailed` if it stays."""
        if not await self._signal_and_wait(signal.SIGKILL, limit_s=_KILL_LIMIT_S):
            raise ProgramFailed(name=self.name, reason="survived SIGKILL")
        self._pid_file.unlink(missing_ok=True)

    async def over(self, *, limit_s: float) -> bool:
        """Waits until the program has ended by itself; False when it still runs after the limit."""
        with _held(self._identity) as pidfd:
            gone = pidfd is None or await _readable(pidfd, limit_s=limit_s)
        if gone:
            _reap(self.pid)
            self._pid_file.unlink(missing_ok=True)
        return gone

    async def ready(self, probe: Callable[[], Awaitable[bool]], *, limit_s: float) -> None:
        """Waits until `probe` says yes; raises `ProgramFailed` when the program dies or the limit passes."""
        try:
            async with asyncio.timeout(limit_s):
                while not await probe():
                    if not self.alive:
                        raise ProgramFailed(name=self.name, reason="died while starting")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise ProgramFailed(name=self.name, reason=f"not ready after {limit_s:g} s") from None

    async def _signal_and_wait(self, number: signal.Signals, *, limit_s: float) -> bool:
        with _held(self._identity) as pidfd:
            if pidfd is None:
                _reap(self.pid)
                return True
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)
                # A stopped program hears SIGTERM only once it goes on.
                signal.pidfd_send_signal(pidfd, signal.SIGCONT)
            gone = await _readable(pidfd, limit_s=limit_s)
        _reap(self.pid)
        return gone


async def port_answers(port: int) -> bool:
    """Says whether something accepts connections on this port of the loopback address."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


class _Identity(msgspec.Struct, frozen=True):
    pid: int
    start_ticks: int
    boot_id: str


def _spawn(argv: tuple[str, ...], *, pid_file: Path, out: Path) -> int:
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(out), append, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    shell = ["/bin/sh", "-c", _RECORD_AND_BECOME, str(pid_file), *argv]
    return os.posix_spawn("/bin/sh", shell, os.environ, file_actions=actions, setsid=True)


async def _recorded(name: str, pid: int, pid_file: Path) -> None:
    try:
        async with asyncio.timeout(_RECORD_LIMIT_S):
            while not pid_file.exists():
                await asyncio.sleep(0.005)
    except TimeoutError:
        _reap(pid)
        raise ProgramFailed(name=name, reason="never recorded itself") from None


def _read_identity(pid_file: Path) -> _Identity | None:
    try:
        stat, boot_id = pid_file.read_text().strip().splitlines()
        return _Identity(int(stat.split(" ", 1)[0]), _start_ticks(stat), boot_id)
    except (OSError, ValueError, IndexError):
        return None


def _alive(identity: _Identity) -> bool:
    try:
        stat = Path(f"/proc/{identity.pid}/stat").read_text()
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return False
    same = _start_ticks(stat) == identity.start_ticks and boot_id == identity.boot_id
    return same and _fields(stat)[0] not in "ZX"


def _state(pid: int) -> str:
    try:
        return _fields(Path(f"/proc/{pid}/stat").read_text())[0]
    except OSError:
        return "X"


def _start_ticks(stat: str) -> int:
    return int(_fields(stat)[19])


def _fields(stat: str) -> list[str]:
    # The second field is the program's own name in parentheses and may hold anything; count from after it.
    return stat.rpartition(")")[2].split()


@contextlib.contextmanager
def _held(identity: _Identity) -> Iterator[int | None]:
    # The identity is compared after the descriptor is open: from then on the pid cannot become another program's.
    try:
        pidfd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield pidfd if _alive(identity) else None
    finally:
        os.close(pidfd)


async def _readable(pidfd: int, *, limit_s: float) -> bool:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(limit_s):
            await ended.wait()
        return True
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)


def _reap(pid: int) -> None:
    # A program left over by an earlier service is no child of ours; its own parent reaps it.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
