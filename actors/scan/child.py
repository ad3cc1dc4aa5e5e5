"""The scanner's own process: `python -m actors.scan.child`, started and spoken to by `actors.scan.process`.

It ends when its standard input does, which is when the service has ended in whatever way; one that is stopped at that
moment is ended by the kernel. What it cannot handle ends it too, and the service starts another.
"""

import asyncio
import contextlib
import ctypes
import hashlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final, NoReturn, Protocol

import msgspec

from actors.clock import SystemClock
from actors.daemon_rpc import HttpDaemon
from actors.ports import DaemonDown, DaemonRpc
from actors.scan import wire
from actors.scan.follower import ScannerWatch
from actors.scan.saved import read_saved, write_saved
from actors.scan.witnessed import WitnessedDaemon
from domain.chain import ChainView
from domain.ids import EscrowId

MEMORY_MAX_BYTES: Final = 1024**3
"""Beyond it the child breaks off and another begins; ten thousand addresses and a full pool take a tenth of it."""
_PR_SET_PDEATHSIG: Final = 1
_DIGEST_BYTES: Final = 16


def main() -> None:
    """Runs until standard input ends."""
    _bound_ourselves()
    frames_out = os.dup(1)
    os.dup2(2, 1)  # whatever prints must not stand among the frames
    try:
        asyncio.run(_serve(frames_out))
    except Exception as broken:
        last = traceback.extract_tb(broken.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        with contextlib.suppress(OSError):
            os.write(frames_out, wire.framed(wire.Broken(error=type(broken).__name__, place=place)))
        sys.exit(1)


def _bound_ourselves() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold view keys
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    memory = MEMORY_MAX_BYTES if most == resource.RLIM_INFINITY else min(MEMORY_MAX_BYTES, most)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the service, which decides when this ends
        signal.signal(number, signal.SIG_IGN)


async def _serve(frames_out: int) -> None:
    reader, writer = await _streams(frames_out)
    orders: asyncio.Queue[wire.Order] = asyncio.Queue()
    reading = asyncio.create_task(_read(wire.Frames(reader, wire.Order), orders))
    begin = await orders.get()
    assert isinstance(begin, wire.Begin) and not reading.done()
    child = Child(begin, writer=writer)
    while True:
        await child.obey(await orders.get())


async def _read(frames: wire.Frames[wire.Order], orders: asyncio.Queue[wire.Order]) -> NoReturn:
    try:
        while True:
            orders.put_nowait(await frames.take())  # the service says no more than one look's orders at a time
    finally:
        os._exit(0)  # at once, whatever the arithmetic's thread is at


async def _streams(frames_out: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    pipe = os.fdopen(frames_out, "wb", buffering=0)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, pipe)
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


class Writer(Protocol):
    """Where answers go; a `StreamWriter` is one."""

    def write(self, data: bytes, /) -> None: ...
    async def drain(self) -> None: ...


class Child:
    """A scanner, and what of its views the service has already."""

    def __init__(self, begin: wire.Begin, *, writer: Writer) -> None:
        self._begin, self._writer = begin, writer
        self._file = Path(begin.file) if begin.file is not None else None
        saved = read_saved(self._file) if self._file is not None else None
        self._daemon = _daemon(begin)
        self._scanner = ScannerWatch(self._daemon, clock=SystemClock(), network=begin.network, saved=saved)
        self._giving = asyncio.Lock()
        self._sent: dict[EscrowId, bytes] = {}
        self._saved_at = asyncio.get_running_loop().time()

    async def obey(self, order: wire.Order) -> None:
        """Takes in targets, or looks and answers."""
        match order:
            case wire.Tell():
                self._scanner.tell(changed=order.changed, gone=order.gone)
                for escrow_id in order.gone:
                    self._sent.pop(escrow_id, None)
            case wire.Look():
                async with self._beating():
                    await self._look(order.number)
            case wire.Begin():
                raise wire.BadFrame("a second beginning")

    async def aclose(self) -> None:
        """Closes the daemons' connections."""
        await self._daemon.aclose()

    async def _look(self, number: int) -> None:
        try:
            views = await self._scanner.read()
        except DaemonDown as down:
            await self._give(wire.Blind(number=number, why=down.why, reason=str(down)))
            return
        digests = {escrow_id: _digest(view) for escrow_id, view in views.items()}
        changed = {each: view for each, view in views.items() if self._sent.get(each) != digests[each]}
        for some in _parts(changed):
            await self._give(wire.Views(views=some))
        self._sent.update((escrow_id, digests[escrow_id]) for escrow_id in changed)
        self._save_if_due()
        await self._give(self._seen(number, views))

    def _seen(self, number: int, views: Mapping[EscrowId, ChainView]) -> wire.Seen:
        lost = tuple(escrow_id for escrow_id in self._sent if escrow_id not in views)
        for escrow_id in lost:
            del self._sent[escrow_id]
        return wire.Seen(
            number=number,
            height=next((view.height for view in views.values()), 0),
            lost=lost,
            left_out=dict(self._scanner.left_out),
            newest={report.kind: report.about for report in self._scanner.reports},
        )

    @contextlib.asynccontextmanager
    async def _beating(self) -> AsyncIterator[None]:
        beats = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beats.cancel()
            await asyncio.gather(beats, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._begin.beat_s)
            await self._give(wire.Busy(lag=self._scanner.lag))
            self._save_if_due()

    def _save_if_due(self) -> None:
        """Saves what would have to be read again, also in the middle of a long reading; never fails."""
        now = asyncio.get_running_loop().time()
        if self._file is not None and now - self._saved_at >= self._begin.save_s:
            self._saved_at = now
            with contextlib.suppress(OSError):  # a full disk costs a longer start, not the watching
                write_saved(self._file, self._scanner.memory())

    async def _give(self, answer: wire.Answer) -> None:
        async with self._giving:
            self._writer.write(wire.framed(answer))
            await self._writer.drain()


def _daemon(begin: wire.Begin) -> DaemonRpc:
    first, *others = (HttpDaemon(url) for url in begin.daemon_urls)
    return WitnessedDaemon(first, others[0]) if others else first


def _digest(view: ChainView) -> bytes:
    """Returns what differs where a view shows something else, whatever its height; a quarter of the view in memory."""
    if not view.outputs and not view.spends:
        return b""
    return hashlib.sha256(msgspec.msgpack.encode((view.outputs, view.spends))).digest()[:_DIGEST_BYTES]


def _parts(views: Mapping[EscrowId, ChainView]) -> list[dict[EscrowId, ChainView]]:
    items = list(views.items())
    return [dict(items[at : at + wire.VIEWS_PER_FRAME]) for at in range(0, len(items), wire.VIEWS_PER_FRAME)]


if __name__ == "__main__":
    main()
