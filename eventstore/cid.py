"""Content identifiers: how IPFS names a file, computed here, so that every store gives the same name to the same bytes.

A file is cut into leaves; above one leaf, nodes list what is below them (dag-pb, UnixFS), up to one root. The name is
its hash, of version 1 and in base32. What is pinned here is pinned for every store: other figures, other names.
"""

import base64
import hashlib
from collections.abc import Iterator
from typing import Final

import msgspec

from domain.ids import Cid

CHUNK_BYTES: Final = 262_144
"""Of one leaf: `size-262144`."""
LINKS_MAX: Final = 174
"""Of one node."""
CID_CHARACTERS: Final = 59

_V1, _RAW, _DAG_PB, _SHA2_256 = b"\x01", b"\x55", b"\x70", b"\x12\x20"
_FILE: Final = 2
"""UnixFS: the node is a file, or a part of one."""


def cid_of(data: bytes) -> Cid:
    """Names some bytes."""
    level = [_leaf(chunk) for chunk in chunks_of(data)]
    while len(level) > 1:
        level = [_parent(level[at : at + LINKS_MAX]) for at in range(0, len(level), LINKS_MAX)]
    return Cid("b" + base64.b32encode(level[0].cid).decode().rstrip("=").lower())


def chunks_of(data: bytes) -> Iterator[bytes]:
    """Cuts bytes into leaves; nothing at all is one empty leaf."""
    for at in range(0, max(1, len(data)), CHUNK_BYTES):
        yield data[at : at + CHUNK_BYTES]


class _Node(msgspec.Struct, frozen=True, kw_only=True):
    cid: bytes
    """In binary."""
    file_bytes: int
    """Of the file below it."""
    total_bytes: int
    """Of it and of everything below it, as stored."""


def _leaf(chunk: bytes) -> _Node:
    return _Node(cid=_name(_RAW, chunk), file_bytes=len(chunk), total_bytes=len(chunk))


def _parent(children: list[_Node]) -> _Node:
    file_bytes = sum(child.file_bytes for child in children)
    unixfs = _number(1, _FILE) + _number(3, file_bytes) + b"".join(_number(4, each.file_bytes) for each in children)
    links = (_bytes(1, each.cid) + _bytes(2, b"") + _number(3, each.total_bytes) for each in children)
    # Links before data: dag-pb's one canonical order, although their numbers run the other way.
    node = b"".join(_bytes(2, link) for link in links) + _bytes(1, unixfs)
    total_bytes = len(node) + sum(child.total_bytes for child in children)
    return _Node(cid=_name(_DAG_PB, node), file_bytes=file_bytes, total_bytes=total_bytes)


def _name(codec: bytes, block: bytes) -> bytes:
    return _V1 + codec + _SHA2_256 + hashlib.sha256(block).digest()


# -- protobuf, as much of it as this takes -------------------------------------------------------------------------


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    low = bytearray()
    while value > 0x7F:
        low.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*low, value])
