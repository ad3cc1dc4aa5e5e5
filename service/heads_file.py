"""Heads outside the database: a file of JSON lines that only grows, and whatever else an auditor has kept of them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from domain.ids import Micros
from eventstore.heads import SignedHead
from schemas.bundle import Bundle
from schemas.heads import HeadRecord, PublishedHeads
from service.embedded import NODES
from service.settings import Settings

HEADS_NAME = "heads.jsonl"
HEADS_FILE_BYTES_MAX = 4 << 30
"""Of a file that is read whole; about ten million heads, nineteen years of one a minute."""
_HASH_BYTES, _SIGNATURE_BYTES = 32, 64
_BEGINNING = b'{"partition":'


class HeadsUnreadable(Exception):
    """A file is not made of signed heads."""

    def __init__(self, *, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


class HeadsFile:
    """The service's own file. Lines are added and synced, none is ever changed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, heads: Sequence[SignedHead]) -> None:
        """Adds heads, one line each, and returns once they are on disk; raises `OSError`."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.path.open("ab") as file:
            # A line that a crash cut short is ended first, so that it spoils no other; readers pass over it.
            begun = b"\n" if file.tell() and not self._ends_whole() else b""
            file.write(begun + b"".join(msgspec.json.encode(record_of(head)) + b"\n" for head in heads))
            file.flush()
            os.fsync(file.fileno())

    def newest(self) -> dict[int, SignedHead]:
        """Finds the newest head of each partition; raises `HeadsUnreadable`, `OSError`."""
        found: dict[int, SignedHead] = {}
        for head in read_lines(self.path) if self.path.exists() else ():
            if head.partition not in found or head.position > found[head.partition].position:
                found[head.partition] = head
        return found

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def heads_path(settings: Settings, *, home: Path | None = None) -> Path:
    """Names the heads file of the service, or of the node whose own folder is `home`."""
    return settings.heads_file or (home or settings.thirdkey_home) / HEADS_NAME


def own_heads_files(settings: Settings) -> list[Path]:
    """Names the heads files that there are in a data folder: the service's own, and those of its nodes."""
    nodes = sorted((settings.thirdkey_home / NODES).glob(f"*/{HEADS_NAME}"))
    return [path for path in (heads_path(settings), *nodes) if path.exists()]


def record_of(head: SignedHead) -> HeadRecord:
    """Shows a head as it looks outside."""
    return HeadRecord(
        partition=head.partition,
        position=head.position,
        chain=head.chain.hex(),
        merkle_root=head.merkle_root.hex(),
        signed_at=Micros(head.signed_at),
        key_id=head.key_id,
        signature=head.signature.hex(),
    )


def head_of(record: HeadRecord) -> SignedHead:
    """Reads a head; raises `ValueError` when it cannot be one."""
    head = SignedHead(
        partition=record.partition,
        position=record.position,
        chain=bytes.fromhex(record.chain),
        merkle_root=bytes.fromhex(record.merkle_root),
        signed_at=record.signed_at,
        key_id=record.key_id,
        signature=bytes.fromhex(record.signature),
    )
    lengths = (len(head.chain), len(head.merkle_root), len(head.signature))
    if lengths != (_HASH_BYTES, _HASH_BYTES, _SIGNATURE_BYTES) or head.position < 1 or head.partition < 0:
        raise ValueError("not a signed head")
    return head


def read_heads(path: Path) -> list[SignedHead]:
    """Reads heads from a heads file, a copy of the published ones, or a bundle; raises `HeadsUnreadable`, `OSError`."""
    if path.stat().st_size > HEADS_FILE_BYTES_MAX:
        raise HeadsUnreadable(path=path, reason=f"larger than {HEADS_FILE_BYTES_MAX} bytes")
    content = path.read_bytes()
    kinds: tuple[type[PublishedHeads | Bundle], ...] = (PublishedHeads, Bundle)
    for kind in kinds:
        try:
            return [head_of(record) for record in msgspec.json.decode(content, type=kind).heads]
        except ValueError:
            continue
    return list(read_lines(path))


def read_lines(path: Path) -> Iterator[SignedHead]:
    """Reads JSON lines; passes over a line that a crash cut short. Raises `HeadsUnreadable`, `OSError`."""
    decoder = msgspec.json.Decoder(HeadRecord)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield head_of(decoder.decode(line))
            except (msgspec.DecodeError, ValueError):
                if not _cut_short(line):
                    raise HeadsUnreadable(path=path, reason=f"line {number} is no signed head") from None


def _cut_short(line: bytes) -> bool:
    """Says whether a line is the beginning of one, as a crash leaves it: begun, and not ended."""
    begun = line.rstrip()
    return _BEGINNING.startswith(begun) or (begun.startswith(_BEGINNING) and not begun.endswith(b"}"))
