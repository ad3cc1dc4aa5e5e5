"""What the scanner remembers across its own end: a file that may be deleted at any time, at the cost of reading again.

The file holds no key and no address. What it says of the chain is checked as after any pause: its hashes are compared
with the daemon's, and what was seen in blocks that are no longer there is forgotten.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from actors.scan.watched import Sighting, Spend
from domain.ids import KeyImage

FORM: Final = 1
"""Counted up whenever what is kept changes its meaning; a file of another form is not read."""
FILE_MODE: Final = 0o600
_CHECKSUM_BYTES: Final = 32


class SavedTarget(msgspec.Struct, frozen=True, array_like=True):
    """One address, by its mark: how far it was read, from where, and what was found in blocks."""

    mark: bytes
    start: int
    next_height: int
    mined: tuple[Sighting, ...]


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """All that cannot be had again without reading blocks again, at one moment."""

    form: int = FORM
    blocks: tuple[tuple[int, str], ...] = ()
    """The trail: heights and hashes, the newest last."""
    targets: tuple[SavedTarget, ...] = ()
    images: tuple[KeyImage, ...] = ()
    """Those that were looked for in every block since their output's."""
    spends: Mapping[KeyImage, Spend] = {}


def write_saved(path: Path, saved: Saved) -> None:
    """Writes the file so that it appears whole or not at all, for its owner alone; raises `OSError`."""
    body = msgspec.msgpack.encode(saved)
    fresh = path.with_suffix(".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE), "wb") as file:
        file.write(hashlib.sha256(body).digest() + body)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def read_saved(path: Path) -> Saved:
    """Reads the file; one that is missing, torn, of another form or not ours to read is as good as none."""
    try:
        content = path.read_bytes()
        body = content[_CHECKSUM_BYTES:]
        if hashlib.sha256(body).digest() == content[:_CHECKSUM_BYTES]:
            saved = msgspec.msgpack.decode(body, type=Saved)
            return saved if saved.form == FORM else Saved()
    except (OSError, msgspec.MsgspecError):
        pass
    return Saved()
