"""Reading a transaction's `extra` field: the public keys that its sender left for the receivers.

Senders write there what they like. Reading stops at the first field that the wallet could not read either and keeps
what came before; a reader more lenient than the wallet would count deposits that no wallet of the escrow can see.
"""

from enum import IntEnum
from typing import Final

import msgspec

from actors.scan.points import POINT_BYTES


class Tag(IntEnum):
    """The first byte of each kind of field; padding (0) ends the field, so it needs no name here."""

    PUBLIC_KEY = 1
    NONCE = 2
    MERGE_MINING = 3
    ADDITIONAL_KEYS = 4
    MINERGATE = 0xDE


NONCE_BYTES_MAX: Final = 255
VARINT_BITS_MAX: Final = 64
PUBLIC_KEYS_MAX: Final = 33
"""Nodes relay 1060 bytes of extra, which hold 32 keys; a miner can put in more, at a cost to every watcher."""

ADDITIONAL_KEYS_MAX: Final = 16
"""One for each output that a transaction may have (monerod's bound), 0.1 ms each for every watched address.

A miner's transaction may have thousands; what one pays by such keys is left out.
"""


class ExtraKeys(msgspec.Struct, frozen=True):
    """The transaction's public keys (each good for every output) and, where present, one key for each output."""

    public: tuple[bytes, ...]
    additional: tuple[bytes, ...]


def read_extra(extra: bytes) -> ExtraKeys:
    """Returns the keys in an `extra` field, repeated ones once; never raises.

    Of several lists of additional keys only the first counts, as in the wallet; one longer than the bound, as none.
    """
    public: dict[bytes, None] = {}
    lists: list[tuple[bytes, ...]] = []
    reader = _Reader(extra)
    try:
        while not reader.at_end() and len(public) < PUBLIC_KEYS_MAX:
            _read_field(reader, public=public, lists=lists)
    except _StopReading:
        pass
    additional = lists[0] if lists else ()
    return ExtraKeys(tuple(public), additional if len(additional) <= ADDITIONAL_KEYS_MAX else ())


def _read_field(reader: "_Reader", *, public: dict[bytes, None], lists: list[tuple[bytes, ...]]) -> None:
    match reader.take(1)[0]:
        case Tag.PUBLIC_KEY:
            public[reader.take(POINT_BYTES)] = None
        case Tag.ADDITIONAL_KEYS:
            lists.append(reader.keys(reader.number()))
        case Tag.NONCE:
            _pass_nonce(reader)
        case Tag.MERGE_MINING:
            _pass_merge_mining(reader)
        case Tag.MINERGATE:
            reader.take(reader.number())
        case _:  # padding runs to the end by definition; all else is unknown to the wallet as well
            raise _StopReading


def _pass_nonce(reader: "_Reader") -> None:
    size = reader.number()
    if size > NONCE_BYTES_MAX:
        raise _StopReading
    reader.take(size)


def _pass_merge_mining(reader: "_Reader") -> None:
    """Passes over a depth and a root, which must fill their field exactly: the wallet refuses any other filling."""
    inner = _Reader(reader.take(reader.number()))
    inner.number()
    inner.take(POINT_BYTES)
    if not inner.at_end():
        raise _StopReading


class _StopReading(Exception):
    """The rest of the field is not readable."""


class _Reader:
    """A position in bytes that stops, by `_StopReading`, before it passes the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def at_end(self) -> bool:
        return self._at == len(self._data)

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise _StopReading
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def keys(self, count: int) -> tuple[bytes, ...]:
        joined = self.take(count * POINT_BYTES)
        return tuple(joined[at : at + POINT_BYTES] for at in range(0, len(joined), POINT_BYTES))

    def number(self) -> int:
        """Reads a number of at most 64 bits, seven in a byte and the least first; stops where the wallet would."""
        value = shift = 0
        while shift < VARINT_BITS_MAX:
            group = self.take(1)[0]
            if group == 0 and shift:  # a longer spelling of the same number, which the wallet refuses
                raise _StopReading
            value |= (group & 0x7F) << shift
            if value >> VARINT_BITS_MAX:  # more than fits the wallet's number
                break
            if group < 0x80:
                return value
            shift += 7
        raise _StopReading
