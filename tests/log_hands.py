"""Hands that reach into a memory log behind its back, as somebody with the database's password could."""

from typing import Any

import msgspec

from eventstore.api import NewEvent, Recorded
from eventstore.chain import GENESIS, leaf_of, next_chain
from eventstore.heads import GrowingHead
from eventstore.memory import MemoryTables


def change(tables: MemoryTables, partition: int, at: int, /, **fields: Any) -> None:
    """Writes other fields into the row at a position."""
    events = tables.events[partition]
    events[at - 1] = msgspec.structs.replace(events[at - 1], **fields)


def rechain(tables: MemoryTables, partition: int) -> None:
    """Numbers a partition's rows and computes every leaf and chain anew, as a careful forger would."""
    chain, events = GENESIS, tables.events[partition]
    for at, event in enumerate(events):
        leaf = leaf_again(event, position=at + 1)
        chain = next_chain(chain, leaf)
        events[at] = msgspec.structs.replace(event, position=at + 1, leaf=leaf, chain=chain)


def leaf_again(event: Recorded, *, position: int) -> bytes:
    """Computes the leaf that an event would have at a position."""
    new = NewEvent(
        type=event.type,
        schema_version=event.schema_version,
        occurred_at=event.occurred_at,
        meta=event.meta,
        body=event.body,
    )
    return leaf_of(
        new,
        partition=event.partition,
        position=position,
        stream_id=event.stream_id,
        version=event.version,
        command_id=event.command_id,
        salt=event.salt,
    )


def copy_of(tables: MemoryTables) -> MemoryTables:
    """Copies events and signed heads: what is done to the copy leaves the tables as they are."""
    copied = MemoryTables(partitions=tables.partitions, clock=tables.clock)
    copied.events = [list(events) for events in tables.events]
    copied.streams = {stream: list(events) for stream, events in tables.streams.items()}
    copied.signed_heads = [list[GrowingHead](heads) for heads in tables.signed_heads]
    return copied
