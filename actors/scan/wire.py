"""What the service and its scanner's process say to each other: length-prefixed msgpack over the child's own pipes.

The service tells which targets are new, changed or gone, then asks for a look; the child answers with the views that
changed. While it works it says so every second. View keys go this way and no other: never in a command line, an
environment, a log or an error.
"""

import asyncio
from typing import Any, Final, Generic, TypeVar

import msgspec

from actors.ports import Blindness, WatchTarget
from actors.scan.reports import ReportKind
from domain.chain import ChainView
from domain.ids import EscrowId
from schemas.address import Network

FRAME_MAX_BYTES: Final = 64 * 1024 * 1024
TARGETS_PER_FRAME: Final = 1_000
VIEWS_PER_FRAME: Final = 1_000
_LENGTH_BYTES: Final = 4


class Begin(msgspec.Struct, frozen=True, kw_only=True, tag="begin"):
    """The first frame: what to follow, and where to keep what is remembered."""

    daemon_urls: tuple[str, ...]
    """One or two."""
    network: Network
    file: str | None
    beat_s: float
    save_s: float


class Tell(msgspec.Struct, frozen=True, kw_only=True, tag="tell"):
    """Targets that are new or have changed, and escrows that are watched no longer."""

    changed: tuple[WatchTarget, ...] = ()
    gone: tuple[EscrowId, ...] = ()

    def __repr__(self) -> str:
        return f"Tell({len(self.changed)} changed, {len(self.gone)} gone)"


class Look(msgspec.Struct, frozen=True, kw_only=True, tag="look"):
    """Asks what the chain shows; answered by `Views` frames and a `Seen`, or by one `Blind`."""

    number: int


class Views(msgspec.Struct, frozen=True, kw_only=True, tag="views"):
    """Some of the views that differ from those sent before by more than their height."""

    views: dict[EscrowId, ChainView]


class Seen(msgspec.Struct, frozen=True, kw_only=True, tag="seen"):
    """The end of an answer: all views are at this height."""

    number: int
    height: int
    lost: tuple[EscrowId, ...] = ()
    """Those that have no view any more."""
    left_out: dict[ReportKind, int] = {}
    """How many things were left out since the child began, and the newest of each kind."""
    newest: dict[ReportKind, str] = {}


class Blind(msgspec.Struct, frozen=True, kw_only=True, tag="blind"):
    """The other answer: nothing can be said just now."""

    number: int
    why: Blindness
    reason: str


class Busy(msgspec.Struct, frozen=True, kw_only=True, tag="busy"):
    """A sign of life while an answer is worked on, with the blocks that are still to be read."""

    lag: int


class Broken(msgspec.Struct, frozen=True, kw_only=True, tag="broken"):
    """The last frame of a child that met what it cannot handle: the kind of error and the line, never its text."""

    error: str
    place: str


Order = Begin | Tell | Look
Answer = Views | Seen | Blind | Busy | Broken
_F = TypeVar("_F")


class BadFrame(Exception):
    """What came is no frame of this protocol; its bytes stay out of the message."""


class Frames(Generic[_F]):
    """Reads frames of one kind; a read that is cancelled loses nothing."""

    def __init__(self, reader: asyncio.StreamReader, kind: Any) -> None:
        self._reader, self._decoder = reader, msgspec.msgpack.Decoder(kind)
        self._size: int | None = None
        """Of the frame whose length was read already."""

    async def take(self) -> _F:
        """Returns the next frame; raises `BadFrame`, and `EOFError` at the end."""
        if self._size is None:
            size = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "little")
            if size > FRAME_MAX_BYTES:
                raise BadFrame("too long")
            self._size = size
        body = await self._reader.readexactly(self._size)
        self._size = None
        try:
            frame: _F = self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise BadFrame("garbage") from None
        return frame


def framed(frame: Order | Answer) -> bytes:
    """Encodes a frame; raises `BadFrame` for one that no reader would take."""
    body = msgspec.msgpack.encode(frame)
    if len(body) > FRAME_MAX_BYTES:
        raise BadFrame("too long")
    return len(body).to_bytes(_LENGTH_BYTES, "little") + body
