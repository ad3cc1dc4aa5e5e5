"""Memory twins of the log, the leases and the keys, with controls that make them fail as Postgres can."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any

import msgspec

from eventstore.api import Append, Head, Lease, LeaseRow, LogUnavailable, Receipt, Recorded
from eventstore.appender import AnswerLost, KeyTaken
from eventstore.chain import GENESIS
from eventstore.grouped import GroupedLog, LogLimits
from eventstore.heads import GrowingHead
from eventstore.keys import WrappedKey
from eventstore.plan import CommandKey, Known, Plan, Written, hashed, receipt_of

Clock = Callable[[], int]
"""Microseconds since the Unix epoch: the twin's "database clock"."""


class Fault(Enum):
    """What the next group written to a memory log meets."""

    UNAVAILABLE = auto()
    """Nothing is sent."""
    LOST_BEFORE_WRITE = auto()
    """No answer, and nothing was written."""
    LOST_AFTER_WRITE = auto()
    """No answer, and everything was written."""
    CRASH = auto()
    """An error nobody expected, nothing written."""


class LeaseEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One lease row; `expires_at` in microseconds, None once released."""

    holder: str
    fence: int
    expires_at: int | None
    detail: str


class MemoryTables:
    """What several memory nodes share, and what outlives each of them: the tables."""

    def __init__(self, *, partitions: int, clock: Clock | None = None) -> None:
        self.partitions, self.clock = partitions, clock or _system_clock
        self.events: list[list[Recorded]] = [[] for _ in range(partitions)]
        self.streams: dict[str, list[Recorded]] = {}
        self.receipts: dict[CommandKey, Receipt] = {}
        self.seat_leases: dict[str, LeaseEntry] = {}
        self.slot_leases: dict[str, LeaseEntry] = {}
        self.duty_leases: dict[str, LeaseEntry] = {}
        self.signed_heads: list[list[GrowingHead]] = [[] for _ in range(partitions)]
        self.keys: dict[str, WrappedKey] = {}
        self.beside: dict[str, Any] = {}
        """What others keep in the same database, by their own name for it."""
        self.nodes: list[MemoryLog] = []
        """The logs open on these tables: each wakes the others, as notices do between nodes on Postgres."""

    def head(self, partition: int) -> Head:
        """Returns the end of one partition."""
        events = self.events[partition]
        if not events:
            return Head(partition=partition, position=0, chain=GENESIS)
        return Head(partition=partition, position=events[-1].position, chain=events[-1].chain)

    def fence(self, seat: str) -> int:
        """Returns the fence of a seat, 0 if it was never leased."""
        return self.seat_leases[seat].fence if seat in self.seat_leases else 0


class MemoryLog(GroupedLog):
    """An `EventLog` in memory. Two over the same tables behave like two nodes on one database."""

    def __init__(self, tables: MemoryTables, *, limits: LogLimits | None = None) -> None:
        self.limits = limits or LogLimits()
        self._tables, self._writer = tables, _MemoryWriter(tables)
        super().__init__(self._writer, partitions=tables.partitions, limits=self.limits)
        tables.nodes.append(self)
        self.tell_others = self._wake_others

    @property
    def tables(self) -> MemoryTables:
        """What outlives this node."""
        return self._tables

    async def read_stream(self, stream_id: str, *, after_version: int = 0, limit: int = 1000) -> Sequence[Recorded]:
        """Reads one stream in order of version; at most `limit` and `read_page_max` events."""
        page = min(limit, self.limits.read_page_max)
        return self._tables.streams.get(stream_id, [])[after_version : after_version + page]

    async def read_partition(self, partition: int, *, after_position: int, limit: int = 1000) -> Sequence[Recorded]:
        """Reads one partition in order of position; at most `limit` and `read_page_max` events."""
        page, first = min(limit, self.limits.read_page_max), max(0, after_position)
        return self._tables.events[partition][first : first + page]

    async def read_streams(
        self, stream_ids: Sequence[str], *, partition: int, after_position: int, limit: int = 1000
    ) -> Sequence[Recorded]:
        """Reads several streams of one partition together, in order of position; at most `limit` events."""
        page = min(limit, self.limits.read_page_max)
        streams = (self._tables.streams.get(stream_id, ()) for stream_id in stream_ids)
        later = [each for stream in streams for each in stream if each.position > after_position]
        return sorted((each for each in later if each.partition == partition), key=lambda each: each.position)[:page]

    async def read_firsts(self, stream_ids: Sequence[str], *, partition: int) -> Sequence[Recorded]:
        """Reads the first event of each of several streams of one partition, once for each name."""
        firsts = [stream[0] for each in set(stream_ids) if (stream := self._tables.streams.get(each))]
        return [each for each in firsts if each.partition == partition]

    async def heads(self) -> Sequence[Head]:
        """Reads the end of every partition, in their order."""
        return [self._tables.head(partition) for partition in range(self.partitions)]

    async def receipt(self, *, stream_id: str, command_id: str) -> Receipt | None:
        """Reads what became of a command; None when it was never appended."""
        return self._tables.receipts.get((stream_id, command_id))

    async def aclose(self) -> None:
        """Lets calls under way finish, refuses what waits, hears of no other node any more."""
        await super().aclose()
        self._tables.nodes = [node for node in self._tables.nodes if node is not self]

    def _wake_others(self) -> None:
        for node in self._tables.nodes:
            if node is not self:
                node.wake()

    def fail_next(self, fault: Fault) -> None:
        """Lets the next group written from this node meet a fault; several calls queue up."""
        self._writer.faults.append(fault)

    def hold(self) -> None:
        """Keeps every further group of this node from being written until `resume`."""
        self._writer.open.clear()

    def resume(self) -> None:
        """Ends a `hold`."""
        self._writer.open.set()


class _MemoryWriter:
    """Writes groups into the tables; nothing is awaited between the checks and the writing."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables
        self.faults: list[Fault] = []
        self.open = asyncio.Event()
        self.open.set()

    async def known(self, partition: int, items: Sequence[Append]) -> Known:
        tables = self._tables
        keys = [(item.stream_id, item.command_id) for item in items]
        return Known(
            position=tables.head(partition).position,
            chain=tables.head(partition).chain,
            versions={item.stream_id: self._version(item.stream_id) for item in items},
            fences={item.fence.seat: tables.fence(item.fence.seat) for item in items if item.fence is not None},
            receipts={key: tables.receipts[key] for key in keys if key in tables.receipts},
        )

    async def write(self, plan: Plan) -> Written | None:
        """Writes a plan at once, unless the next fault on order says otherwise."""
        await self.open.wait()
        await asyncio.sleep(0)
        fault = self.faults.pop(0) if self.faults else None
        if fault is Fault.UNAVAILABLE:
            raise LogUnavailable("as told")
        if fault is Fault.LOST_BEFORE_WRITE:
            raise AnswerLost("as told")
        if fault is Fault.CRASH or any("\0" in kind for _, _, kind, *_ in plan.rows):
            raise RuntimeError("the group cannot be written")
        still = self._still(plan)
        if still and self._keys_taken(plan):
            raise KeyTaken
        written = self._write(plan) if still else None
        if fault is Fault.LOST_AFTER_WRITE:
            raise AnswerLost("as told")
        return written

    def _still(self, plan: Plan) -> bool:
        tables, known = self._tables, plan.known
        head = tables.head(plan.partition)
        return (
            (plan.hashed is None or plan.hashed.behind == head.chain)
            and (head.position == known.position if plan.exact else head.position >= known.position)
            and all(self._version(stream) == version for stream, version in known.assumed.items())
            and all(tables.fence(seat) == fence for seat, fence in known.fences.items())
        )

    def _keys_taken(self, plan: Plan) -> bool:
        receipts = self._tables.receipts
        return any((stream, command) in receipts for stream, command, *_ in plan.receipts) or any(
            version <= self._version(stream) for stream, version, *_ in plan.rows
        )

    def _version(self, stream_id: str) -> int:
        return len(self._tables.streams.get(stream_id, ()))

    def _write(self, plan: Plan) -> Written:
        tables, head = self._tables, self._tables.head(plan.partition)
        made = plan.hashed or hashed(plan.rows, partition=head.partition, position=head.position, chain=head.chain)
        written = Written(position=head.position, recorded_at=tables.clock(), hashed=made)
        for event in plan.events(written):
            tables.events[event.partition].append(event)
            tables.streams.setdefault(event.stream_id, []).append(event)
        for row in plan.receipts:
            tables.receipts[row[:2]] = receipt_of(row, position=head.position)
        return written


class MemoryLeases:
    """`Leases` over a dict of rows, by the tables' clock."""

    def __init__(self, rows: dict[str, LeaseEntry], *, clock: Clock) -> None:
        self._rows, self._clock = rows, clock

    async def acquire(self, name: str, *, holder: str, seconds: float, detail: str = "") -> Lease | None:
        """Takes a free, expired or own lease with a higher fence; None while another holder has it."""
        row = self._rows.get(name)
        if row is not None and row.holder != holder and not self._expired(row):
            return None
        fence = row.fence + 1 if row is not None else 1
        if row is not None and row.expires_at is not None:
            detail = row.detail or detail
        self._rows[name] = LeaseEntry(holder=holder, fence=fence, expires_at=self._until(seconds), detail=detail)
        return Lease(name=name, holder=holder, fence=fence, seconds=seconds)

    async def renew(self, lease: Lease) -> bool:
        """Prolongs a lease; False when somebody took it or it was released."""
        row = self._rows.get(lease.name)
        if not _is_of(row, lease) or row is None or row.expires_at is None:
            return False
        self._rows[lease.name] = msgspec.structs.replace(row, expires_at=self._until(lease.seconds))
        return True

    async def release(self, lease: Lease) -> None:
        """Gives a lease back; its fence stays."""
        row = self._rows.get(lease.name)
        if row is not None and _is_of(row, lease):
            self._rows[lease.name] = msgspec.structs.replace(row, expires_at=None)

    async def held(self) -> Mapping[str, LeaseRow]:
        """Reads all rows, held or expired, by name."""
        return {
            name: LeaseRow(
                holder=row.holder,
                fence=row.fence,
                expired=self._expired(row),
                released=row.expires_at is None,
                detail=row.detail,
            )
            for name, row in self._rows.items()
        }

    def _expired(self, row: LeaseEntry) -> bool:
        return row.expires_at is None or row.expires_at <= self._clock()

    def _until(self, seconds: float) -> int:
        return self._clock() + round(seconds * 1_000_000)


def _is_of(row: LeaseEntry | None, lease: Lease) -> bool:
    return row is not None and (row.holder, row.fence) == (lease.holder, lease.fence)


def _system_clock() -> int:
    return time.time_ns() // 1000
