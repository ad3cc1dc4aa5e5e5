"""The scanner in a process of its own, seen from the service: so that no transaction, however hostile, slows it."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec
import structlog

from actors.ports import Blindness, DaemonDown, WatchTarget
from actors.scan import wire
from actors.scan.reports import ReportKind
from domain.chain import ChainView
from domain.ids import EscrowId
from schemas.address import Network

log = structlog.get_logger(__name__)

CHILD: Final = "actors.scan.child"
"""The module that the process runs."""
PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
"""Of the service's environment; the rest holds keys and passwords that a reader of hostile input needs none of."""
_CODE: Final = Path(__file__).resolve().parents[2]
_END_LIMIT_S: Final = 30.0


class ScannerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the conversation with the scanner's process, in seconds."""

    patience_s: float = 5.0
    """One look waits no longer; a scanner that still reads then goes on, and until it is done nothing is seen."""
    silent_s: float = 30.0
    """A scanner of which nothing was heard for so long, while it was waited for, is ended and another started."""
    beat_s: float = 1.0
    """How often it says that it lives."""
    save_s: float = 60.0
    """How often it saves what it would else have to read again."""
    restart_s: float = 1.0
    """The pause before the first restart; doubled at each that follows without an answer in between."""
    restart_max_s: float = 60.0


class WatchCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of the scanner to whoever looks after the service."""

    up: bool
    """Whether its process runs."""
    lag_blocks: int
    """How many blocks it was behind the daemon when it was last heard of."""
    restarts: int
    left_out: Mapping[ReportKind, int]


class ScannerProcess:
    """Shows deposits and spends by a scanner in a process of its own; implements `Watch`.

    The process is started by the first look and ends with this object, or with the service in whatever way that ends.
    One that died, fell silent or answered garbage is ended by its pid and started anew, and told everything again; it
    goes on from the file of the one before. Meanwhile every look raises `DaemonDown`, as it does while the daemon is
    down: what cannot be seen must not run out.
    """

    def __init__(
        self,
        daemon_urls: Sequence[str],
        *,
        network: Network,
        file: Path | None = None,
        limits: ScannerLimits | None = None,
        child: str = CHILD,
    ) -> None:
        self._limits = limits or ScannerLimits()
        self._begin = wire.Begin(
            daemon_urls=tuple(daemon_urls),
            network=network,
            file=None if file is None else str(file.resolve()),
            beat_s=self._limits.beat_s,
            save_s=self._limits.save_s,
        )
        self._module, self._folder = child, None if file is None else file.parent
        self._looking = asyncio.Lock()
        self._child: _Child | None = None
        self._failures = 0
        """Ends of the process since the last answer."""
        self._restarts, self._start_after = 0, 0.0
        self._left_out_before: dict[ReportKind, int] = {}
        """By processes that have ended."""

    @property
    def pid(self) -> int | None:
        """The process, for whoever looks after it."""
        return None if self._child is None else self._child.pid

    def counts(self) -> WatchCounts:
        """Returns figures for the metrics."""
        child = self._child
        left_out = dict(self._left_out_before)
        for kind, number in ({} if child is None else child.left_out).items():
            left_out[kind] = left_out.get(kind, 0) + number
        return WatchCounts(
            up=child is not None and child.alive,
            lag_blocks=0 if child is None else child.lag,
            restarts=self._restarts,
            left_out=left_out,
        )

    async def look(self, targets: Sequence[WatchTarget]) -> Mapping[EscrowId, ChainView]:
        """Asks the process what is new and returns one view per target; raises `DaemonDown` within `patience_s`."""
        async with self._looking:
            child = self._child = self._child or await self._started()
            try:
                async with asyncio.timeout(self._limits.patience_s):
                    views = await child.look(targets)
            except TimeoutError:
                await self._not_answered(child)
            except (wire.BadFrame, EOFError, OSError) as broken:
                await self._give_up(child, "answered garbage" if isinstance(broken, wire.BadFrame) else "ended")
            except DaemonDown:  # an answer as well
                self._failures = 0
                raise
            self._failures = 0
            return views

    async def aclose(self) -> None:
        """Ends the process; the next look would start another."""
        async with self._looking:
            child, self._child = self._child, None
            if child is not None:
                await child.end()

    async def _started(self) -> "_Child":
        loop = asyncio.get_running_loop()
        if loop.time() < self._start_after:
            raise DaemonDown("the scanner starts again", why=Blindness.SCANNER)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", self._module),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=_environment(),
                cwd=self._folder,
                start_new_session=True,
            )
            child = _Child(process, self._begin)
        except OSError as failure:
            self._pause()
            raise DaemonDown(f"the scanner does not start: {type(failure).__name__}", why=Blindness.SCANNER) from None
        log.info("scanner_started", pid=child.pid)
        return child

    async def _not_answered(self, child: "_Child") -> NoReturn:
        child.unheard_s += self._limits.patience_s
        if child.unheard_s >= self._limits.silent_s:
            await self._give_up(child, "does not answer")
        raise DaemonDown("the scanner is still reading", why=Blindness.READING)

    async def _give_up(self, child: "_Child", reason: str) -> NoReturn:
        self._child = None
        self._restarts += 1
        self._pause()
        await child.end()
        for kind, number in child.left_out.items():
            self._left_out_before[kind] = self._left_out_before.get(kind, 0) + number
        log.error("scanner_ended", pid=child.pid, reason=reason, error=child.error)
        raise DaemonDown(f"the scanner {reason}", why=Blindness.SCANNER)

    def _pause(self) -> None:
        pause_s = min(self._limits.restart_s * 2**self._failures, self._limits.restart_max_s)
        self._start_after = asyncio.get_running_loop().time() + pause_s
        self._failures = min(self._failures + 1, 16)


class _Child:
    """One process and what it was told and has said."""

    def __init__(self, process: asyncio.subprocess.Process, begin: wire.Begin) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process, self._orders = process, process.stdin
        self._answers: wire.Frames[wire.Answer] = wire.Frames(process.stdout, wire.Answer)
        self._orders.write(wire.framed(begin))
        self._told: dict[EscrowId, WatchTarget] = {}
        self._views: dict[EscrowId, ChainView] = {}
        self._fresh: dict[EscrowId, ChainView] = {}
        """Views of an answer that is not at its end."""
        self._height, self._asked, self._answered = 0, 0, 0
        self.pid, self._pidfd = process.pid, os.pidfd_open(process.pid)
        self.unheard_s = 0.0
        """For how long it was waited for since it was last heard of."""
        self.lag = 0
        self.left_out: dict[ReportKind, int] = {}
        self.error: str | None = None

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def look(self, targets: Sequence[WatchTarget]) -> Mapping[EscrowId, ChainView]:
        """Raises `DaemonDown` where it says so, and `BadFrame`, `EOFError` or `OSError` where it is broken."""
        if self._asked > self._answered:  # by a look that was given up
            await self._answer()
        for order in self._news(targets):
            self._orders.write(wire.framed(order))
        self._asked += 1
        self._orders.write(wire.framed(wire.Look(number=self._asked)))
        await self._orders.drain()
        await self._answer()
        return dict(self._views)

    async def end(self) -> None:
        """Kills it by its pid, stopped or not, and returns when it is gone."""
        # Not by the process object: where it died at this very moment, that reaps it under asyncio's own hands.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        os.close(self._pidfd)
        with contextlib.suppress(TimeoutError):  # a process that outlasts SIGKILL hangs in the kernel
            async with asyncio.timeout(_END_LIMIT_S):
                await self._process.communicate()  # reads what is left in the pipe: only then is that closed

    def _news(self, targets: Sequence[WatchTarget]) -> list[wire.Order]:
        named = {target.escrow_id: target for target in targets}
        gone = [escrow_id for escrow_id in self._told if escrow_id not in named]
        changed = [target for target in targets if self._told.get(target.escrow_id) != target]
        for escrow_id in gone:
            self._views.pop(escrow_id, None)
        self._told = named
        size = wire.TARGETS_PER_FRAME
        return [
            *(wire.Tell(changed=tuple(changed[at : at + size])) for at in range(0, len(changed), size)),
            *(wire.Tell(gone=tuple(gone[at : at + size])) for at in range(0, len(gone), size)),
        ]

    async def _answer(self) -> None:
        """Takes frames until the look that was asked for is answered; raises `DaemonDown` where it was not seen."""
        while self._answered < self._asked:
            frame = await self._answers.take()
            self.unheard_s = 0.0
            match frame:
                case wire.Busy():
                    self.lag = frame.lag
                case wire.Views():
                    self._fresh |= frame.views
                case wire.Seen():
                    self._take(frame)
                case wire.Blind():
                    self._answered = self._numbered(frame.number)
                    raise DaemonDown(frame.reason, why=frame.why)
                case wire.Broken():
                    self.error = f"{frame.error} at {frame.place}"
                    raise EOFError

    def _take(self, seen: wire.Seen) -> None:
        self._answered = self._numbered(seen.number)
        fresh, self._fresh = self._fresh, {}
        if not fresh.keys() | seen.lost <= self._told.keys():
            raise wire.BadFrame("views of escrows that nobody asked for")
        if seen.height != self._height:
            self._height = seen.height
            self._views = {each: _at(view, seen.height) for each, view in self._views.items()}
        self._views |= {each: _at(view, seen.height) for each, view in fresh.items()}
        for escrow_id in seen.lost:
            self._views.pop(escrow_id, None)
        self.lag = 0
        for kind, number in seen.left_out.items():
            if number > self.left_out.get(kind, 0):
                log.warning("left_out_of_views", kind=kind, number=number, newest=seen.newest.get(kind))
        self.left_out = seen.left_out

    def _numbered(self, number: int) -> int:
        if number != self._asked:
            raise wire.BadFrame("an answer to another question")
        return number


def _at(view: ChainView, height: int) -> ChainView:
    return ChainView(height=height, outputs=view.outputs, spends=view.spends)


def _environment() -> dict[str, str]:
    """Returns the child's environment: enough to run the code that the service runs, wherever that lies."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return passed | {"PYTHONPATH": str(_CODE)}
