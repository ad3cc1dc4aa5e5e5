"""A whole life of an escrow, from its creation to its end: what benchmarks fill a log with."""

import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from eventstore.api import Head, NewEvent
from eventstore.chain import GENESIS, SALT_BYTES, leaf_of, next_chain
from eventstore.grouped import partition_of
from ops.bench.load import META

_RECORDED = Path(__file__).with_name("life.jsonl")
_REPEATED = "payout_address_set"
"""May come any number of times: longer lives than the recorded one are made with it."""
COPY_MAX = 20_000
"""Events handed to the database in one COPY."""

Part = tuple[str, int, Sequence[NewEvent]]
"""A stream, the version of the first event, and the events."""

_EVENT_COLUMNS = (
    "partition", "position", "stream_id", "version", "type", "schema_version", "command_id", "occurred_at", "meta",
    "body", "salt", "leaf", "chain",
)  # fmt: skip
_RECEIPT_COLUMNS = ("partition", "stream_id", "command_id", "body_hash", "outcome", "version", "position")


class _Line(msgspec.Struct, frozen=True):
    type: str
    schema_version: int
    occurred_at: int
    body: msgspec.Raw


@cache
def whole_life() -> Sequence[NewEvent]:
    """Reads the recorded life, 43 events long."""
    lines = msgspec.json.Decoder(_Line).decode_lines(_RECORDED.read_bytes())
    return [
        NewEvent(
            type=line.type,
            schema_version=line.schema_version,
            occurred_at=line.occurred_at,
            meta=META,
            body=bytes(line.body),
        )
        for line in lines
    ]


def life_of(length: int) -> Sequence[NewEvent]:
    """Returns a life that goes on for `length` events: cut short, or made longer before its set-up begins to end."""
    life = list(whole_life())
    again = next(event for event in life if event.type == _REPEATED)
    return (life[:5] + [again] * max(length - len(life), 0) + life[5:])[:length]


async def fill(connection: Any, *, partitions: int, events: int, name: str) -> None:
    """Writes whole lives in bulk, chained, each event with its receipt, into a log that holds nothing yet.

    `connection` is a superuser's. Streams are `<name>-<number>`; the last life is written whole, so that a few more
    events than asked for may come.
    """

    async def lives() -> AsyncIterator[Part]:
        for number in range(-(-events // len(whole_life()))):
            yield f"{name}-{number}", 1, whole_life()

    await fill_with(connection, lives(), partitions=partitions)


async def fill_with(connection: Any, parts: AsyncIterator[Part], *, partitions: int) -> int:
    """Writes parts of lives in bulk, in the order in which they come; returns the number of events."""
    heads = {number: Head(partition=number, position=0, chain=GENESIS) for number in range(partitions)}
    rows: list[tuple[object, ...]] = []
    async for stream_id, first, life in parts:
        rows.extend(chained(stream_id, life, heads=heads, first=first))
        if len(rows) >= COPY_MAX:
            await _copy(connection, rows)
            rows.clear()
    await _copy(connection, rows)
    for head in heads.values():
        moved = "update log_heads set position = $2, chain = $3 where partition = $1"
        await connection.execute(moved, head.partition, head.position, head.chain)
    return sum(head.position for head in heads.values())


def chained(
    stream_id: str, life: Sequence[NewEvent], *, heads: dict[int, Head], first: int = 1
) -> Iterator[tuple[object, ...]]:
    """Places events of one stream, of which the first has this version, behind the heads, which it moves."""
    partition = partition_of(stream_id, partitions=len(heads))
    for version, event in enumerate(life, first):
        head, salt = heads[partition], secrets.token_bytes(SALT_BYTES)
        command_id, position = hashlib.sha256(salt).hexdigest(), head.position + 1
        place = {"partition": partition, "position": position, "stream_id": stream_id, "version": version}
        leaf = leaf_of(
            event,
            partition=partition,
            position=position,
            stream_id=stream_id,
            version=version,
            command_id=command_id,
            salt=salt,
        )
        heads[partition] = Head(partition=partition, position=position, chain=next_chain(head.chain, leaf))
        yield (
            *place.values(), event.type, event.schema_version, command_id, event.occurred_at, event.meta, event.body,
            salt, leaf, heads[partition].chain,
        )  # fmt: skip


async def _copy(connection: Any, rows: Sequence[tuple[object, ...]]) -> None:
    await connection.copy_records_to_table("events", records=rows, columns=_EVENT_COLUMNS)
    receipts = [(row[0], row[2], row[6], "0" * 64, b"{}", row[3], row[1]) for row in rows]
    await connection.copy_records_to_table("command_receipts", records=receipts, columns=_RECEIPT_COLUMNS)
