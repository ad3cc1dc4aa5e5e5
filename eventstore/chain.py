"""The hash chain: what each event's leaf is made of, and how a partition is checked against it."""

from collections.abc import Iterable
from hashlib import sha256
from struct import Struct

from eventstore.api import NewEvent, Recorded

GENESIS = bytes(32)
"""What stands in for the chain before a partition's first event."""
SALT_BYTES = 16


_length = Struct(">I").pack


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
    a, b, d, f = b"%d" % partition, b"%d" % position, b"%d" % version, b"%d" % event.schema_version
    c, e, g, h = stream_id.encode(), event.type.encode(), command_id.encode(), b"%d" % event.occurred_at
    i, j, n = event.meta, event.body, _length
    # Spelled out: a loop over the fields took half as long again, and every event passes here at each verified read.
    place = (n(len(a)), a, n(len(b)), b, n(len(c)), c, n(len(d)), d)
    content = (n(len(e)), e, n(len(f)), f, n(len(g)), g, n(len(h)), h, n(len(i)), i, n(len(j)), j)
    return sha256(b"".join((salt, *place, *content))).digest()


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
        if last is not None and (event.partition, event.position) != (last.partition, last.position + 1):
            raise ChainBroken(partition=event.partition, position=event.position, reason="not the next position")
        chain = next_chain(chain, _checked_leaf(event))
        if event.chain != chain:
            raise ChainBroken(partition=event.partition, position=event.position, reason="chain differs")
        last = event
    return chain


def _checked_leaf(event: Recorded) -> bytes:
    leaf = leaf_of(
        event,
        partition=event.partition,
        position=event.position,
        stream_id=event.stream_id,
        version=event.version,
        command_id=event.command_id,
        salt=event.salt,
    )
    if leaf != event.leaf or len(event.salt) != SALT_BYTES:
        raise ChainBroken(partition=event.partition, position=event.position, reason="leaf differs")
    return leaf
