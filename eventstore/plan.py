"""What a group of appends comes to: judged in order against what is known, without touching anything."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from eventstore.api import (
    AlreadyDone,
    Append,
    Appended,
    Conflict,
    FencedOff,
    Head,
    NewEvent,
    Outcome,
    Receipt,
    Recorded,
)
from eventstore.chain import leaf_of, next_chain

CommandKey = tuple[str, str]
"""Stream id and command id."""

Row = tuple[int, str, int, str, int, str, int, bytes, bytes, bytes, bytes, bytes]
"""One event as it is written: position, stream id, version, type, schema version, command id, `occurred_at`, meta,
body, salt, leaf, chain. A record of it is made once, when the database has said its time."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What a group is judged by, read in one snapshot or assumed; a writer verifies it as it writes."""

    head: Head
    versions: Mapping[str, int]
    """By stream id; 0 for a stream that does not exist."""
    fences: Mapping[str, int]
    """By seat; 0 for a seat never leased."""
    receipts: Mapping[CommandKey, Receipt]
    assumed: Mapping[str, int] = {}
    """The versions that are the items' own word. The others are right as long as the head is where it was: whoever
    appends moves it."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to write for a group, and what to answer each of its items once that is durable."""

    known: Known
    head: Head
    rows: Sequence[Row]
    receipts: Sequence[Receipt]
    """Commands taken to have no receipt yet."""
    versions: Mapping[str, int]
    """Of every stream of the group, after it."""
    outcomes: "Sequence[Outcome | _Accepted]"

    @property
    def refuses(self) -> bool:
        """Says whether an item is answered `Conflict` or `FencedOff`."""
        return any(isinstance(outcome, Conflict | FencedOff) for outcome in self.outcomes)

    def events(self, recorded_at: int) -> list[Recorded]:
        """Returns what is written, with the database's time of it."""
        return [_recorded(row, self.head.partition, recorded_at) for row in self.rows]

    def answers(self, recorded_at: int) -> list[Outcome]:
        """Returns the outcomes in the items' order; `recorded_at` is the database's time of the group."""
        events = self.events(recorded_at)
        return [
            outcome.answer(self.head.partition, events) if isinstance(outcome, _Accepted) else outcome
            for outcome in self.outcomes
        ]


class _Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """An item whose events are these of the plan's rows."""

    first: int
    end: int
    position: int
    version: int

    def answer(self, partition: int, events: Sequence[Recorded]) -> Appended:
        return Appended(
            partition=partition,
            position=self.position,
            version=self.version,
            events=tuple(events[self.first : self.end]),
        )


def assumed(items: Sequence[Append], *, head: Head, versions: Mapping[str, int]) -> Known:
    """Takes every item's word for its fence and being new, and for its version where `versions` does not say the same.

    Right nearly always, and verified when written. `versions` are those of some streams at this head.
    """
    expected: dict[str, int] = {}
    fences: dict[str, int] = {}
    for item in items:
        expected.setdefault(item.stream_id, item.expected_version)
        if item.fence is not None:
            fences.setdefault(item.fence.seat, item.fence.fence)
    unproven = {stream: version for stream, version in expected.items() if versions.get(stream) != version}
    return Known(head=head, versions=expected, fences=fences, receipts={}, assumed=unproven)


def plan_group(items: Sequence[Append], known: Known, *, new_salt: Callable[[], bytes]) -> Plan:
    """Judges the items in order, each as if those before it had been written, and numbers and chains their events."""
    draft = _Draft(known, new_salt)
    outcomes = [draft.judge(item) for item in items]
    return Plan(
        known=known,
        head=Head(partition=known.head.partition, position=draft.position, chain=draft.chain),
        rows=draft.rows,
        receipts=draft.new_receipts,
        versions=draft.versions,
        outcomes=outcomes,
    )


class _Draft:
    """The state of a partition as it would be after the items judged so far."""

    def __init__(self, known: Known, new_salt: Callable[[], bytes]) -> None:
        self.partition, self.position, self.chain = known.head.partition, known.head.position, known.head.chain
        self.versions, self.fences, self.receipts = dict(known.versions), known.fences, dict(known.receipts)
        self.rows: list[Row] = []
        self.new_receipts: list[Receipt] = []
        self.new_salt = new_salt

    def judge(self, item: Append) -> Outcome | _Accepted:
        """Answers one item and, if it is good, adds what it writes. An old command comes before fence and version."""
        receipt = self.receipts.get((item.stream_id, item.command_id))
        if receipt is not None:
            return AlreadyDone(receipt=receipt)
        if item.fence is not None and self.fences[item.fence.seat] != item.fence.fence:
            return FencedOff(current_fence=self.fences[item.fence.seat])
        if self.versions[item.stream_id] != item.expected_version:
            return Conflict(actual_version=self.versions[item.stream_id])
        return self.accept(item)

    def accept(self, item: Append) -> _Accepted:
        first = len(self.rows)
        for version, event in enumerate(item.events, item.expected_version + 1):
            self.place(item, event, version)
        version = self.versions[item.stream_id] = item.expected_version + len(item.events)
        receipt = Receipt(
            command_id=item.command_id,
            stream_id=item.stream_id,
            body_hash=item.body_hash,
            outcome=item.outcome,
            version=version,
            position=self.position,
        )
        self.receipts[(item.stream_id, item.command_id)] = receipt
        self.new_receipts.append(receipt)
        return _Accepted(first=first, end=len(self.rows), position=self.position, version=version)

    def place(self, item: Append, event: NewEvent, version: int) -> None:
        self.position += 1
        salt = self.new_salt()
        leaf = leaf_of(
            event,
            partition=self.partition,
            position=self.position,
            stream_id=item.stream_id,
            version=version,
            command_id=item.command_id,
            salt=salt,
        )
        self.chain = next_chain(self.chain, leaf)
        place = (self.position, item.stream_id, version, event.type, event.schema_version, item.command_id)
        self.rows.append((*place, event.occurred_at, event.meta, event.body, salt, leaf, self.chain))


def _recorded(row: Row, partition: int, recorded_at: int) -> Recorded:
    position, stream_id, version, kind, schema_version, command_id, occurred_at, meta, body, salt, leaf, chain = row
    return Recorded(
        partition=partition,
        position=position,
        stream_id=stream_id,
        version=version,
        type=kind,
        schema_version=schema_version,
        command_id=command_id,
        occurred_at=occurred_at,
        recorded_at=recorded_at,
        meta=meta,
        body=body,
        salt=salt,
        leaf=leaf,
        chain=chain,
    )
