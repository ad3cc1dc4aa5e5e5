"""Checks a whole log: every leaf and chain, every head signed or not, every event, every transition of every stream."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from eventstore.api import EventLog, Head, Recorded
from eventstore.chain import GENESIS, ChainBroken, verify_chain
from eventstore.heads import HeadStore
from projections.folds import ESCROW_STREAM
from service.draw_checks import DrawComparison, Drawn
from service.head_checks import HeadWalk, Outside
from service.transitions import StreamCheck

PAGE = 1_000
BEFORE_ALL = -(1 << 63)
"""A position below every one that a row can have: whoever reads a stream by version would find a row at 0 or less."""
STREAMS_KEPT = 10_000
"""Streams whose state is kept at once; one that comes again after so many others is read and folded anew."""
FINDINGS_KEPT = 100
"""Findings kept with their sentence; the others are only counted."""

Progress = Callable[[int, int], None]
"""Told how many events are checked, of how many there were when the check began; or how many draws are compared."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it must be, and where."""

    partition: int
    position: int
    stream_id: str
    says: str

    def __str__(self) -> str:
        return f"partition {self.partition}, position {self.position}, {self.stream_id or 'no stream'}: {self.says}"


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a check came to."""

    events: int
    streams: int
    escrows: int
    partitions: int
    heads: int
    """Signed heads that were checked."""
    uncovered: int
    """Events at the end that no signed head covers yet."""
    drawn: tuple[Drawn, ...] = ()
    """How many escrows were created with a draw, by partition."""
    links: int = 0
    """Links that were taken for draws."""
    unused: int = 0
    """Those with which no escrow was created."""
    count: int
    """Of findings."""
    findings: tuple[Finding, ...]
    """The first of them."""

    @property
    def draws(self) -> int:
        """Escrows that were created with a draw."""
        return sum(each.draws for each in self.drawn)


class HeadSources(msgspec.Struct, frozen=True, kw_only=True):
    """Which signed heads a log is compared with."""

    stored: HeadStore
    outside: Outside = Outside()
    trusted: frozenset[str] | None = None
    """Public keys (hex) that heads must be signed with; None compares no keys."""


async def verify(
    event_log: EventLog,
    *,
    heads: HeadSources | None = None,
    progress: Progress | None = None,
    streams_kept: int = STREAMS_KEPT,
) -> Verified:
    """Reads the whole log once and checks it; appends that happen meanwhile are checked too.

    Keeps at most `streams_kept` streams' states, so memory does not grow with the log. Raises `LogUnavailable`.
    """
    ends = await event_log.heads()
    told = counted(progress, total=sum(end.position for end in ends))
    checker = Checker(event_log, heads, told, streams_kept=streams_kept)
    for end in ends:
        await checker.partition(end.partition)
    checker.foreign_heads(partitions=len(ends))
    return await with_draws(event_log, checker.result(partitions=len(ends)))


async def with_draws(event_log: EventLog, verified: Verified, *, progress: Progress | None = None) -> Verified:
    """Compares the draws of a log that was checked with the links taken for them; adds what that finds.

    Reads first events alone, and the log again only where draws are in doubt. Raises `LogUnavailable`.
    """
    findings = _Findings(verified)

    def find(recorded: Recorded, says: str) -> None:
        findings.add(recorded.partition, recorded.position, recorded.stream_id, says)

    told = counted(progress, total=verified.draws)
    comparison = DrawComparison(event_log, verified.drawn, find=find, told=told)
    await comparison.run()
    return msgspec.structs.replace(
        verified,
        links=comparison.links,
        unused=comparison.unused,
        count=findings.count,
        findings=tuple(findings.kept),
    )


def counted(progress: Progress | None, *, total: int) -> Callable[[int], None]:
    """Makes something to be told of so many more events, which passes on how many they are by now."""
    done = 0

    def told(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, max(total, done))

    return told


class _Findings:
    """The first findings, and how many there are; those of an earlier check come before."""

    def __init__(self, earlier: Verified | None = None) -> None:
        self.count, self.kept = (earlier.count, list(earlier.findings)) if earlier else (0, list[Finding]())

    def add(self, partition: int, position: int, stream_id: str, says: str) -> None:
        """Counts a finding, and keeps it if it is one of the first."""
        self.count += 1
        if len(self.kept) < FINDINGS_KEPT:
            finding = Finding(partition=partition, position=position, stream_id=stream_id, says=says)
            self.kept.append(finding)


class Checker:
    """Collects findings along the partitions it is given, one after another; tells of every page that is checked."""

    def __init__(
        self,
        event_log: EventLog,
        heads: HeadSources | None,
        told: Callable[[int], None],
        *,
        streams_kept: int = STREAMS_KEPT,
    ) -> None:
        self._log, self._heads, self._told, self._streams_kept = event_log, heads, told, streams_kept
        self._findings = _Findings()
        self._find = self._findings.add
        self._events = self._begun = self._escrows = self._signed = self._uncovered = self._draws = 0
        self._drawn: list[Drawn] = []
        self._streams: OrderedDict[str, StreamCheck] = OrderedDict()

    def result(self, *, partitions: int) -> Verified:
        """Says what it came to, of a log with so many partitions."""
        return Verified(
            events=self._events,
            streams=self._begun,
            escrows=self._escrows,
            partitions=partitions,
            heads=self._signed,
            uncovered=self._uncovered,
            drawn=tuple(self._drawn),
            count=self._findings.count,
            findings=tuple(self._findings.kept),
        )

    async def partition(self, partition: int) -> None:
        """Checks one partition to its end: its events one after another, and its heads against them."""
        chain, position, walk, after = GENESIS, 0, self._walk(partition), BEFORE_ALL
        while True:
            page = await self._log.read_partition(partition, after_position=after, limit=PAGE)
            placed = self._all_in_place(page, partition=partition, position=position + 1, chain=chain)
            for recorded in page:
                if not placed:
                    self._place(recorded, partition=partition, position=position + 1, chain=chain)
                await self._follow(recorded, partition=partition)
                position, chain = recorded.position, recorded.chain
            after = position if page else after
            if walk:
                self._find_heads(partition, await walk.take(page))
            self._events += len(page)
            self._told(len(page))
            if not page:
                # Signed heads are asked for first: what they cover is in the log by the time its end is read.
                beyond = await walk.beyond(position) if walk else []
                head = next(head for head in await self._log.heads() if head.partition == partition)
                if not await self._grew(head, position):
                    self._head(head, position=position, chain=chain)
                    self._find_heads(partition, beyond)
                    break
        self._drawn.append(Drawn(partition=partition, position=position, draws=self._draws))
        self._draws = 0
        if walk:
            self._signed += walk.checked
            self._uncovered += max(0, position - walk.covered)

    def foreign_heads(self, *, partitions: int) -> None:
        """Finds heads from outside of partitions that this log does not have."""
        for head in self._heads.outside.heads if self._heads else ():
            if head.partition >= partitions:
                self._find(head.partition, head.position, "", "a signed head is of a partition that is not there")

    def _walk(self, partition: int) -> HeadWalk | None:
        if self._heads is None:
            return None
        given = self._heads
        return HeadWalk(partition, stored=given.stored, outside=given.outside, trusted=given.trusted)

    async def _grew(self, head: Head, position: int) -> bool:
        """Says whether there is more to read by now; a head that runs ahead of its events is a finding."""
        return head.position > position and bool(
            await self._log.read_partition(head.partition, after_position=position, limit=1)
        )

    def _head(self, head: Head, *, position: int, chain: bytes) -> None:
        if head.position > position:
            self._find(head.partition, position, "", f"events up to {head.position} are missing at the end")
        elif head.position < position:
            self._find(head.partition, position, "", f"the head is at {head.position}, before the last event")
        elif head.chain != chain:
            self._find(head.partition, position, "", "the head's chain is not that of the last event")

    def _all_in_place(self, page: Sequence[Recorded], *, partition: int, position: int, chain: bytes) -> bool:
        """Checks a page as a whole; where it is not right, `_place` says what is wrong, event by event."""
        streams = {recorded.stream_id for recorded in page}
        if not page or page[0].position != position or any(self._log.partition_of(s) != partition for s in streams):
            return False
        try:
            verify_chain(chain, page)
        except ChainBroken:
            return False
        return True

    def _place(self, recorded: Recorded, *, partition: int, position: int, chain: bytes) -> None:
        """Checks an event's place, leaf and chain, from the chain stored before it, so that one fault is one."""
        if recorded.position != position:
            self._find(partition, recorded.position, recorded.stream_id, f"position {position} is missing")
        if self._log.partition_of(recorded.stream_id) != partition:
            self._find(partition, recorded.position, recorded.stream_id, "the stream belongs to another partition")
        try:
            verify_chain(chain, [recorded])
        except ChainBroken as broken:
            self._find(partition, recorded.position, recorded.stream_id, broken.reason)

    async def _follow(self, recorded: Recorded, *, partition: int) -> None:
        """Checks that an event follows from those before it in its stream."""
        stream = self._streams.pop(recorded.stream_id, None) or await self._stream(recorded)
        self._streams[recorded.stream_id] = stream
        for says in stream.take(recorded):
            self._find(partition, recorded.position, recorded.stream_id, says)
        self._draws += stream.drawn and recorded.version == 1
        if len(self._streams) > self._streams_kept:
            self._streams.popitem(last=False)

    async def _stream(self, recorded: Recorded) -> StreamCheck:
        """Begins a stream, or folds again what stands before an event; what is wrong there was told at its place."""
        stream = StreamCheck(recorded.stream_id)
        if recorded.version == 1:
            self._begun += 1
            self._escrows += recorded.stream_id.startswith(ESCROW_STREAM)
            return stream
        version = 0
        while version < recorded.version - 1:
            limit = min(PAGE, recorded.version - 1 - version)
            page = await self._log.read_stream(recorded.stream_id, after_version=version, limit=limit)
            before = [each for each in page if each.version < recorded.version]
            for each in before:
                stream.take(each)
            if not before:
                break
            version = before[-1].version
        return stream

    def _find_heads(self, partition: int, found: list[tuple[int, str]]) -> None:
        for position, says in found:
            self._find(partition, position, "", says)
