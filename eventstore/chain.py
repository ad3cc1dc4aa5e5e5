"""The hash chain: what each event's leaf is made of, and how a partition is checked against it."""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from struct import Struct

from eventstore.api import NewEvent, Recorded

GENESIS = bytes(32)
"""What stands in for the chain before a partition's first event."""
SALT_BYTES = 16
PREFIXED_MAX = 1_024
"""Written fields kept, of each kind that comes again and again: types with their version, versions, partitions."""

SHORT_BYTES = 8_192
"""Of fields shorter than this the lengths are written once: packing each anew took a tenth of a leaf's time."""

_length = Struct(">I").pack
_LENGTHS = tuple(map(_length, range(SHORT_BYTES)))


class ChainBroken(Exception):
    """An event is not what was appended, or is not where it was."""

    def __init__(self, *, partition: int, position: int, reason: str) -> None:
        super().__init__(f"partition {partition}, position {position}: {reason}")
        self.partition, self.position, self.reason = partition, position, reason


def leaf_of(
    event: NewEvent | Recorded,
    *,
    partition: int,
    position: int,
    stream_id: str,
    version: int,
    command_id: str,
    salt: bytes,
) -> bytes:
    """Hashes one event with its place.

    sha256 over the 16 bytes of salt and then, in this order, partition, position, stream id, version, type, schema
    version, command id, `occurred_at` in microseconds, meta, body: each as its length in 4 bytes (big-endian) and its
    bytes. Numbers are written in decimal ASCII, text in UTF-8. `recorded_at` is no part of it.
    """
    return leaf_of_fields(
        salt, partition, position, stream_id, version, event.type, event.schema_version, command_id, event.occurred_at,
        event.meta, event.body,
    )  # fmt: skip


def next_chain(previous: bytes, leaf: bytes) -> bytes:
    """Binds a leaf to everything before it: sha256 over the previous chain and the leaf."""
    return sha256(previous + leaf).digest()


def verify_chain(previous: bytes, events: Iterable[Recorded]) -> bytes:
    """Checks consecutive events of one partition and returns the chain at the last of them.

    `previous` is the chain before the first event (`GENESIS` before position 1). Raises `ChainBroken` at the first
    event whose position, leaf or chain is not right.
    """
    chain, last = previous, None
    for event in events:
        if last is not None and (event.position != last.position + 1 or event.partition != last.partition):
            raise ChainBroken(partition=event.partition, position=event.position, reason="not the next position")
        leaf = leaf_of_fields(
            event.salt, event.partition, event.position, event.stream_id, event.version, event.type,
            event.schema_version, event.command_id, event.occurred_at, event.meta, event.body,
        )  # fmt: skip
        if leaf != event.leaf or len(event.salt) != SALT_BYTES:
            raise ChainBroken(partition=event.partition, position=event.position, reason="leaf differs")
        chain = sha256(chain + leaf).digest()
        if event.chain != chain:
            raise ChainBroken(partition=event.partition, position=event.position, reason="chain differs")
        last = event
    return chain


def leaf_of_fields(
    salt: bytes,
    partition: int,
    position: int,
    stream_id: str,
    version: int,
    type: str,
    schema_version: int,
    command_id: str,
    occurred_at: int,
    meta: bytes,
    body: bytes,
) -> bytes:
    """Hashes one event as `leaf_of` does, from the fields in the order in which they are hashed.

    Spelled out, and by position: loops over the fields and calls by name took half as long again, and every event
    passes here at each append and each verified read.
    """
    at, stream = b"%d" % position, stream_id.encode()
    command, occurred, n = command_id.encode(), b"%d" % occurred_at, _LENGTHS
    fields: tuple[bytes, ...]
    try:
        fields = (
            salt, _number(partition), n[len(at)], at, n[len(stream)], stream, _number(version),
            _kind(type, schema_version), n[len(command)], command, n[len(occurred)], occurred,
            n[len(meta)], meta, n[len(body)], body,
        )  # fmt: skip
    except IndexError:  # one of them is longer
        place = (b"%d" % partition, at, stream, b"%d" % version)
        kind = (type.encode(), b"%d" % schema_version)
        fields = (salt, *map(_prefixed, (*place, *kind, command, occurred, meta, body)))
    return sha256(b"".join(fields)).digest()


@lru_cache(maxsize=PREFIXED_MAX)
def _number(number: int) -> bytes:
    return _prefixed(b"%d" % number)


@lru_cache(maxsize=PREFIXED_MAX)
def _kind(type: str, schema_version: int) -> bytes:
    return _prefixed(type.encode()) + _prefixed(b"%d" % schema_version)


def _prefixed(field: bytes) -> bytes:
    return _length(len(field)) + field
