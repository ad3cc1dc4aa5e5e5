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


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What a group is judged by, read in one snapshot or assumed; a writer verifies it as it writes."""

    head: Head
    versions: Mapping[str, int]
    """By stream id; 0 for a stream that does not exist."""
    fences: Mapping[str, int]
    """By seat; 0 for a seat never leased."""
    receipts: Mapping[CommandKey, Receipt]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to write for a group, and what to answer each of its items once that is durable."""

    known: Known
    head: Head
    events: tuple[Recorded, ...]
    """`recorded_at` is 0 in them: the database fills it in."""
    receipts: tuple[Receipt, ...]
    fresh: tuple[CommandKey, ...]
    """Commands taken to have no receipt yet."""
    outcomes: tuple[Outcome, ...]

    def answers(self, recorded_at: Sequence[int]) -> list[Outcome]:
        """Returns the outcomes with the database's time of each event filled in, in the items' order."""
        if len(recorded_at) != len(self.events):
            raise AssertionError(f"{len(self.events)} events sent, {len(recorded_at)} recorded")
        times = iter(recorded_at)
        return [_with_times(outcome, times.__next__) for outcome in self.outcomes]


def assumed(items: Sequence[Append], *, head: Head) -> Known:
    """Takes every item's word for its version, fence and being new: right nearly always, and verified when written."""
    versions: dict[str, int] = {}
    fences: dict[str, int] = {}
    for item in items:
        versions.setdefault(item.stream_id, item.expected_version)
        if item.fence is not None:
            fences.setdefault(item.fence.seat, item.fence.fence)
    return Known(head=head, versions=versions, fences=fences, receipts={})


def plan_group(items: Sequence[Append], known: Known, *, new_salt: Callable[[], bytes]) -> Plan:
    """Judges the items in order, each as if those before it had been written, and numbers and chains their events."""
    draft = _Draft(known, new_salt)
    outcomes = tuple(draft.judge(item) for item in items)
    keys = dict.fromkeys((item.stream_id, item.command_id) for item in items)
    return Plan(
        known=known,
        head=draft.head,
        events=tuple(draft.events),
        receipts=tuple(draft.new_receipts),
        fresh=tuple(key for key in keys if key not in known.receipts),
        outcomes=outcomes,
    )


class _Draft:
    """The state of a partition as it would be after the items judged so far."""

    def __init__(self, known: Known, new_salt: Callable[[], bytes]) -> None:
        self.head, self.new_salt = known.head, new_salt
        self.versions, self.fences, self.receipts = dict(known.versions), known.fences, dict(known.receipts)
        self.events: list[Recorded] = []
        self.new_receipts: list[Receipt] = []

    def judge(self, item: Append) -> Outcome:
        """Answers one item and, if it is good, adds what it writes. An old command comes before fence and version."""
        receipt = self.receipts.get((item.stream_id, item.command_id))
        if receipt is not None:
            return AlreadyDone(receipt=receipt)
        if item.fence is not None and self.fences[item.fence.seat] != item.fence.fence:
            return FencedOff(current_fence=self.fences[item.fence.seat])
        if self.versions[item.stream_id] != item.expected_version:
            return Conflict(actual_version=self.versions[item.stream_id])
        return self.accept(item)

    def accept(self, item: Append) -> Appended:
        events = tuple(self.place(item, event) for event in item.events)
        version = self.versions[item.stream_id]
        receipt = Receipt(
            command_id=item.command_id,
            stream_id=item.stream_id,
            body_hash=item.body_hash,
            outcome=item.outcome,
            version=version,
            position=self.head.position,
        )
        self.receipts[(item.stream_id, item.command_id)] = receipt
        self.new_receipts.append(receipt)
        return Appended(partition=self.head.partition, position=self.head.position, version=version, events=events)

    def place(self, item: Append, event: NewEvent) -> Recorded:
        salt = self.new_salt()
        position, version = self.head.position + 1, self.versions[item.stream_id] + 1
        leaf = leaf_of(
            event,
            partition=self.head.partition,
            position=position,
            stream_id=item.stream_id,
            version=version,
            command_id=item.command_id,
            salt=salt,
        )
        placed = Recorded(
            partition=self.head.partition,
            position=position,
            stream_id=item.stream_id,
            version=version,
            type=event.type,
            schema_version=event.schema_version,
            command_id=item.command_id,
            occurred_at=event.occurred_at,
            recorded_at=0,
            meta=event.meta,
            body=event.body,
            salt=salt,
            leaf=leaf,
            chain=next_chain(self.head.chain, leaf),
        )
        self.head = Head(partition=self.head.partition, position=position, chain=placed.chain)
        self.versions[item.stream_id] = version
        self.events.append(placed)
        return placed


def _with_times(outcome: Outcome, next_time: Callable[[], int]) -> Outcome:
    if not isinstance(outcome, Appended) or not outcome.events:
        return outcome
    events = tuple(msgspec.structs.replace(event, recorded_at=next_time()) for event in outcome.events)
    return msgspec.structs.replace(outcome, events=events)
