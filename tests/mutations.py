"""Random changes to a stored log, each by somebody with every password of the database, and whether the audit sees it.

What the leaf covers is every column of `events` but `recorded_at`, which is the database's own note and is not hashed.
Receipts are not part of the log's proof and are not touched here. A careful forger also numbers, hashes and chains anew
all that follows the change and moves the head: then only the signed heads tell, and only up to the newest of them.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from eventstore.api import Recorded
from eventstore.heads import GrowingHead, SignedHead, sign_head
from eventstore.heads_memory import MemoryHeads
from eventstore.memory import MemoryLog, MemoryTables
from service.audit import HeadSources, Verified, verify
from service.head_checks import Outside
from tests.log_hands import copy_of, rechain

FORGER = Ed25519PrivateKey.from_private_bytes(bytes([7] * 32))
COLUMNS = tuple(field for field in Recorded.__struct_fields__ if field != "recorded_at")
HEAD_COLUMNS = SignedHead.__struct_fields__

Mutation = Callable[[random.Random, MemoryTables], str]
"""Changes the tables and says what it did."""


class Rows(MemoryLog):
    """Reads a partition as Postgres would: by the positions that stand in the rows."""

    async def read_partition(self, partition: int, *, after_position: int, limit: int = 1000) -> Sequence[Recorded]:
        found = [event for event in self.tables.events[partition] if event.position > after_position]
        return sorted(found, key=lambda event: event.position)[:limit]


class Auditor:
    """Holds an untouched log that is signed to its end, and what an auditor has of it: the heads file and the key."""

    def __init__(self, tables: MemoryTables, *, trusted: str) -> None:
        self._tables = tables
        kept = tuple(each.head for heads in tables.signed_heads for each in heads)
        self._outside, self._trusted = Outside(name="heads.jsonl", heads=kept), frozenset({trusted})

    async def check(self, tables: MemoryTables) -> Verified:
        """Audits some tables."""
        sources = HeadSources(stored=MemoryHeads(tables), outside=self._outside, trusted=self._trusted)
        return await verify(Rows(tables), heads=sources)

    async def unseen(self, rng: random.Random, mutation: Mutation | None = None) -> str | None:
        """Makes one random change to a copy of the log; returns what it was when the audit does not see it."""
        tables = copy_of(self._tables)
        did = (mutation or rng.choice(MUTATIONS))(rng, tables)
        tables.streams = _streams(tables)
        return None if (await self.check(tables)).count else did


# -- changes by a clumsy hand: one place, and nothing else ---------------------------------------------------


def change_column(rng: random.Random, tables: MemoryTables) -> str:
    """Changes one column of one event by one byte, character or digit."""
    partition, at = _place(rng, tables)
    event, column = tables.events[partition][at], rng.choice(COLUMNS)
    changed = msgspec.structs.replace(event, **{column: _other(rng, getattr(event, column))})
    if column == "partition":
        changed = msgspec.structs.replace(changed, partition=(partition + 1) % tables.partitions)
        del tables.events[partition][at]
        _insert(tables, changed)
    else:
        tables.events[partition][at] = changed
    return f"{column} of {_name(event)}"


def drop(rng: random.Random, tables: MemoryTables) -> str:
    """Takes an event out."""
    partition, at = _place(rng, tables)
    return f"dropped {_name(tables.events[partition].pop(at))}"


def swap(rng: random.Random, tables: MemoryTables) -> str:
    """Lets two events of a partition change places: their positions, and nothing else."""
    partition, at = _place(rng, tables)
    events = tables.events[partition]
    other = rng.choice([each for each in range(len(events)) if each != at] or [at])
    one, two = events[at], events[other]
    if at == other:
        return drop(rng, tables)
    events[at] = msgspec.structs.replace(two, position=one.position)
    events[other] = msgspec.structs.replace(one, position=two.position)
    return f"swapped {_name(one)} and {_name(two)}"


def insert(rng: random.Random, tables: MemoryTables) -> str:
    """Puts a copy of an event behind the last one of its partition."""
    partition, at = _place(rng, tables)
    event = tables.events[partition][at]
    position = tables.events[partition][-1].position + 1
    tables.events[partition].append(msgspec.structs.replace(event, position=position))
    return f"inserted {_name(event)} again at {position}"


def cut(rng: random.Random, tables: MemoryTables) -> str:
    """Cuts the tail of a partition off, head and signed heads with it."""
    partition, at = _place(rng, tables)
    del tables.events[partition][at:]
    heads = tables.signed_heads[partition]
    tables.signed_heads[partition] = [each for each in heads if each.head.position <= at]
    return f"cut partition {partition} after {at}"


# -- changes by a careful hand: everything after it is hashed anew -------------------------------------------


def rewrite(rng: random.Random, tables: MemoryTables) -> str:
    """Changes a column that the forger may choose, and makes all leaves, chains and the head fit."""
    partition, at = _place(rng, tables)
    event, events = tables.events[partition][at], tables.events[partition]
    column = rng.choice(("command_id", "meta", "body", "salt", "occurred_at", "schema_version", "type"))
    events[at] = msgspec.structs.replace(event, **{column: _other(rng, getattr(event, column))})
    return _forged(rng, tables, partition, f"rewrote {column} of {_name(event)}")


def drop_rechained(rng: random.Random, tables: MemoryTables) -> str:
    """Takes an event out, and makes all numbers and hashes fit."""
    partition, at = _place(rng, tables)
    says = f"dropped {_name(tables.events[partition].pop(at))}"
    return _forged(rng, tables, partition, says)


def swap_rechained(rng: random.Random, tables: MemoryTables) -> str:
    """Lets two events change places, and makes all hashes fit."""
    partition, _ = _place(rng, tables)
    return _forged(rng, tables, partition, swap(rng, tables))


def _forged(rng: random.Random, tables: MemoryTables, partition: int, says: str) -> str:
    for each in range(tables.partitions):
        rechain(tables, each)
    if rng.random() < 0.5:
        return f"{says}, hashed anew"
    # The forger signs as well, with a key of their own, and puts these heads in place of those that were there.
    tables.signed_heads = [_signed_anew(tables, each) for each in range(tables.partitions)]
    return f"{says}, hashed and signed anew"


def _signed_anew(tables: MemoryTables, partition: int) -> list[GrowingHead]:
    frontier_of = {each.head.position: each for each in tables.signed_heads[partition]}
    signed: list[GrowingHead] = []
    for position, old in frontier_of.items():
        if position <= len(tables.events[partition]):
            frontier = type(old.frontier)().extended(event.leaf for event in tables.events[partition][:position])
            end = msgspec.structs.replace(tables.head(partition), position=position)
            end = msgspec.structs.replace(end, chain=tables.events[partition][position - 1].chain)
            head = sign_head(FORGER, end, merkle_root=frontier.root, signed_at=old.head.signed_at)
            signed.append(GrowingHead(head=head, frontier=frontier))
    return signed


# -- changes to the heads ------------------------------------------------------------------------------------


def change_head(rng: random.Random, tables: MemoryTables) -> str:
    """Changes one column of one signed head."""
    partition, at = _head_place(rng, tables)
    old, column = tables.signed_heads[partition][at], rng.choice(HEAD_COLUMNS)
    if column == "partition":
        column = "signature"  # the twin keeps heads by partition: there is no such column to change
    head = msgspec.structs.replace(old.head, **{column: _other(rng, getattr(old.head, column))})
    tables.signed_heads[partition][at] = GrowingHead(head=head, frontier=old.frontier)
    return f"{column} of the head at {old.head.position} in partition {partition}"


def drop_head(rng: random.Random, tables: MemoryTables) -> str:
    """Takes a signed head out."""
    partition, at = _head_place(rng, tables)
    return f"dropped the head at {tables.signed_heads[partition].pop(at).head.position} in partition {partition}"


MUTATIONS: tuple[Mutation, ...] = (
    *(change_column,) * 4,
    *(drop, swap, insert, cut, rewrite, drop_rechained, swap_rechained, change_head, drop_head),
)
"""Columns are many: they get four chances for each one of the others."""


def _place(rng: random.Random, tables: MemoryTables) -> tuple[int, int]:
    """Draws any event, each with the same chance: its partition, and its place from 0."""
    places = [(partition, at) for partition, events in enumerate(tables.events) for at in range(len(events))]
    return rng.choice(places)


def _head_place(rng: random.Random, tables: MemoryTables) -> tuple[int, int]:
    return rng.choice([(n, at) for n, heads in enumerate(tables.signed_heads) for at in range(len(heads))])


def _insert(tables: MemoryTables, event: Recorded) -> None:
    events = tables.events[event.partition]
    events.append(event)
    events.sort(key=lambda each: each.position)


def _other(rng: random.Random, value: Any) -> Any:
    """Draws a value of the same kind that is another one, by the least that can be changed."""
    if isinstance(value, int):
        return max(0, value + rng.choice((-1, 1, 1_000))) if value else 1
    at = rng.randrange(len(value))
    if isinstance(value, bytes):
        return value[:at] + bytes([value[at] ^ 1 << rng.randrange(8)]) + value[at + 1 :]
    return value[:at] + ("0" if value[at : at + 1] != "0" else "1") + value[at + 1 :]


def _streams(tables: MemoryTables) -> dict[str, list[Recorded]]:
    streams: dict[str, list[Recorded]] = {}
    for events in tables.events:
        for event in events:
            streams.setdefault(event.stream_id, []).append(event)
    return {stream: sorted(events, key=lambda each: each.version) for stream, events in streams.items()}


def _name(event: Recorded) -> str:
    return f"{event.stream_id} version {event.version}"
