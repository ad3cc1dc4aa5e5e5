"""What a group of appends comes to: judged in order against what is known, without touching anything."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from eventstore.api import (
    AlreadyDone,
    Append,
    Appended,
    Conflict,
    FencedOff,
    Outcome,
    Receipt,
    Recorded,
)
from eventstore.chain import leaf_of_fields, next_chain

CommandKey = tuple[str, str]
"""Stream id and command id."""

Row = tuple[str, int, str, int, str, int, bytes, bytes, bytes]
"""One event as it is handed over: stream id, version, type, schema version, command id, `occurred_at`, meta, body and
salt. Its place it gets under the head's lock."""

ReceiptRow = tuple[str, str, str, bytes, int, int]
"""One receipt as it is handed over: stream id, command id, body hash, outcome, version, and how many of the group's
events come before and with it."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What a group is judged by, read in one snapshot or assumed; a writer verifies it as it writes."""

    position: int
    """Where the partition ended; it may be further by now."""
    chain: bytes
    """The chain there; empty when it will hardly be there still, so that hashing behind it is no use."""
    versions: Mapping[str, int]
    """By stream id; 0 for a stream that does not exist."""
    fences: Mapping[str, int]
    """By seat; 0 for a seat never leased."""
    receipts: Mapping[CommandKey, Receipt]
    assumed: Mapping[str, int] = {}
    """The versions that are the items' own word, to be looked up. The others were reached once: no stream goes back, so
    that only a version taken since can be in the way, and its key says so."""


class Hashed(msgspec.Struct, frozen=True, kw_only=True):
    """Leaves and chains of events behind one chain."""

    behind: bytes
    leaves: Sequence[bytes]
    chains: Sequence[bytes]

    @property
    def last(self) -> bytes:
        """The chain after them."""
        return self.chains[-1] if self.chains else self.behind


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a plan's events under the head's lock."""

    position: int
    """Where the partition ended before them."""
    recorded_at: int
    hashed: Hashed


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to write for a group, and what to answer each of its items once that is durable."""

    partition: int
    known: Known
    rows: Sequence[Row]
    hashed: Hashed | None
    """Of its rows, behind `known.chain`: it is written only if the partition ends there still. None leaves the hashing
    to the writer, behind whatever the partition ends with."""
    receipts: Sequence[ReceiptRow]
    """Commands taken to have no receipt yet."""
    versions: Mapping[str, int]
    """Of every stream of the group, after it."""
    exact: bool
    """Says whether it holds only where the partition ends at `known.position`: an item without events takes no version,
    so that no key tells when another one was faster."""
    outcomes: "Sequence[Outcome | _Accepted | _Repeated]"

    @property
    def refuses(self) -> bool:
        """Says whether an item is answered `Conflict` or `FencedOff`."""
        return any(isinstance(outcome, Conflict | FencedOff) for outcome in self.outcomes)

    def events(self, written: Written) -> list[Recorded]:
        """Returns what was written, with the places and the time it got."""
        marks = zip(self.rows, written.hashed.leaves, written.hashed.chains, strict=True)
        return [
            _recorded(row, self.partition, position, written.recorded_at, leaf, chain)
            for position, (row, leaf, chain) in enumerate(marks, written.position + 1)
        ]

    def answers(self, written: Written) -> list[Outcome]:
        """Returns the outcomes in the items' order."""
        events = self.events(written)
        return [
            outcome.answer(self, written, events) if isinstance(outcome, _Accepted | _Repeated) else outcome
            for outcome in self.outcomes
        ]


class _Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """An item whose events are these of the plan's rows."""

    first: int
    end: int
    version: int

    def answer(self, plan: Plan, written: Written, events: Sequence[Recorded]) -> Appended:
        return Appended(
            partition=plan.partition,
            position=written.position + self.end,
            version=self.version,
            events=tuple(events[self.first : self.end]),
        )


class _Repeated(msgspec.Struct, frozen=True, kw_only=True):
    """An item whose command is in the same group already, with this of the plan's receipts."""

    receipt: int

    def answer(self, plan: Plan, written: Written, events: Sequence[Recorded]) -> AlreadyDone:
        return AlreadyDone(receipt=receipt_of(plan.receipts[self.receipt], position=written.position))


def receipt_of(row: ReceiptRow, *, position: int) -> Receipt:
    """Makes a receipt of what was handed over; `position` is where the partition ended before its group."""
    stream_id, command_id, body_hash, outcome, version, events = row
    return Receipt(
        command_id=command_id,
        stream_id=stream_id,
        body_hash=body_hash,
        outcome=outcome,
        version=version,
        position=position + events,
    )


def hashed(rows: Sequence[Row], *, partition: int, position: int, chain: bytes) -> Hashed:
    """Hashes events put behind this position and chain, as `chain_events` does in SQL."""
    behind, leaves, chains = chain, [], []
    for at, row in enumerate(rows, position + 1):
        stream_id, version, kind, schema_version, command_id, occurred_at, meta, body, salt = row
        leaf = leaf_of_fields(
            salt, partition, at, stream_id, version, kind, schema_version, command_id, occurred_at, meta, body
        )
        chain = next_chain(chain, leaf)
        leaves.append(leaf)
        chains.append(chain)
    return Hashed(behind=behind, leaves=leaves, chains=chains)


def assumed(items: Sequence[Append], *, position: int, chain: bytes, versions: Mapping[str, int]) -> Known:
    """Takes every item's word for its fence and being new, and for its version where `versions` does not say the same.

    Right nearly always, and verified when written. `versions` are those that some streams had once.
    """
    expected: dict[str, int] = {}
    fences: dict[str, int] = {}
    for item in items:
        expected.setdefault(item.stream_id, item.expected_version)
        if item.fence is not None:
            fences.setdefault(item.fence.seat, item.fence.fence)
    unproven = {stream: version for stream, version in expected.items() if versions.get(stream) != version}
    # No key tells of these whether they are still right.
    unproven |= {item.stream_id: expected[item.stream_id] for item in items if not item.events}
    return Known(position=position, chain=chain, versions=expected, fences=fences, receipts={}, assumed=unproven)


def plan_group(items: Sequence[Append], known: Known, *, partition: int, salts: Iterator[bytes]) -> Plan:
    """Judges the items in order, each as if those before it had been written; takes one of the salts an event."""
    draft = _Draft(known, salts)
    outcomes = [draft.judge(item) for item in items]
    return Plan(
        partition=partition,
        known=known,
        rows=draft.rows,
        hashed=_hashed_ahead(draft.rows, known, partition=partition),
        receipts=draft.new_receipts,
        versions=draft.versions,
        exact=draft.exact,
        outcomes=outcomes,
    )


def _hashed_ahead(rows: Sequence[Row], known: Known, *, partition: int) -> Hashed | None:
    return hashed(rows, partition=partition, position=known.position, chain=known.chain) if known.chain else None


class _Draft:
    """The state of a partition as it would be after the items judged so far."""

    def __init__(self, known: Known, salts: Iterator[bytes]) -> None:
        self.versions, self.fences, self.receipts = dict(known.versions), known.fences, known.receipts
        self.rows: list[Row] = []
        self.new_receipts: list[ReceiptRow] = []
        self.new_commands: dict[CommandKey, int] = {}
        self.exact = False
        self.salts = salts

    def judge(self, item: Append) -> Outcome | _Accepted | _Repeated:
        """Answers one item and, if it is good, adds what it writes. An old command comes before fence and version."""
        key = (item.stream_id, item.command_id)
        if key in self.receipts:
            return AlreadyDone(receipt=self.receipts[key])
        if key in self.new_commands:
            return _Repeated(receipt=self.new_commands[key])
        if item.fence is not None and self.fences[item.fence.seat] != item.fence.fence:
            return FencedOff(current_fence=self.fences[item.fence.seat])
        if self.versions[item.stream_id] != item.expected_version:
            return Conflict(actual_version=self.versions[item.stream_id])
        return self.accept(item)

    def accept(self, item: Append) -> _Accepted:
        """Takes an item's events and its receipt into the draft; events get their salts here, their places later."""
        stream_id, command_id, first = item.stream_id, item.command_id, len(self.rows)
        for version, event in enumerate(item.events, item.expected_version + 1):
            self.rows.append(
                (stream_id, version, event.type, event.schema_version, command_id, event.occurred_at, event.meta,
                 event.body, next(self.salts))
            )  # fmt: skip
        end, version = len(self.rows), item.expected_version + len(item.events)
        self.versions[stream_id] = version
        self.exact = self.exact or first == end
        self.new_commands[(stream_id, command_id)] = len(self.new_receipts)
        self.new_receipts.append((stream_id, command_id, item.body_hash, item.outcome, version, end))
        return _Accepted(first=first, end=end, version=version)


def _recorded(row: Row, partition: int, position: int, recorded_at: int, leaf: bytes, chain: bytes) -> Recorded:
    stream_id, version, kind, schema_version, command_id, occurred_at, meta, body, salt = row
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
