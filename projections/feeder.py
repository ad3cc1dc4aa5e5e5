"""Feeds generations of read models from the log: batch, fold, rows and checkpoints, in one transaction each."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

import msgspec
import structlog

from domain.ids import EscrowId
from eventstore.api import EventLog, Recorded
from eventstore.subscription import Subscription
from projections.api import Batch, Generation, ModelTables, RowsRefused, Write
from projections.folds import ESCROW_STREAM, KEPT_MAX, Folds, Standing, advance
from projections.models import MODELS, Model
from projections.rows import MarkRow, Row

log = structlog.get_logger(__name__)

Positions: TypeAlias = Mapping[Generation, Mapping[int, int]]
PAGE_MAX = 1_000
"""Events in one transaction."""
SAYS_MAX = 500
"""Characters of what is kept about a stop."""


class Overtaken(Exception):
    """Somebody else moved a checkpoint: what is known here of the tables no longer holds."""


class Change(msgspec.Struct, frozen=True):
    """One escrow before and after a batch."""

    before: Standing
    after: Standing


class Feeder:
    """Brings some generations of models forward together, each from where its checkpoint is.

    A model whose own code or rows are refused is left behind alone and named in `failed`. After any exception the
    feeder is done for: what was read may not have been written, and another one begins at the checkpoints.
    """

    def __init__(
        self,
        event_log: EventLog,
        tables: ModelTables,
        *,
        positions: Positions,
        poll_s: float = 1.0,
        page_max: int = PAGE_MAX,
        kept_max: int = KEPT_MAX,
    ) -> None:
        self._tables, self._folds = tables, Folds(event_log, kept_max=kept_max)
        self.positions = {generation: dict(by_partition) for generation, by_partition in positions.items()}
        """How far each generation is, by partition."""
        self.failed: dict[Generation, str] = {}
        """What stopped here, with where and why."""
        after = {
            partition: min((each[partition] for each in self.positions.values()), default=0)
            for partition in range(event_log.partitions)
        }
        self._subscription = Subscription(event_log, after=after, poll_s=poll_s, page_max=page_max)

    async def step(self) -> bool:
        """Feeds the next page of one partition; False at the end of all.

        Raises `Overtaken`, `LogUnavailable`, and `LogGap` when the log itself is broken.
        """
        page = await self._subscription.pull() if self._going() else ()
        if not page:
            return False
        partition, before = page[0].partition, page[0].position - 1
        for segment in self._segments(partition, page, start=before):
            await self._feed(partition, segment)
        return True

    async def wait(self) -> None:
        """Returns when the log may have grown, after the subscription's bound at the latest."""
        await self._subscription.wait()

    def notify(self) -> None:
        """Ends a `wait`."""
        self._subscription.notify()

    def close(self) -> None:
        """Asks for no more wakes."""
        self._subscription.close()

    def _segments(self, partition: int, page: Sequence[Recorded], *, start: int) -> Iterator[Sequence[Recorded]]:
        """Cuts a page where a generation's checkpoint lies within it: from there on that one goes along."""
        end = start + len(page)
        cuts = {each[partition] for each in self.positions.values() if start < each[partition] < end}
        places = [start, *sorted(cuts), end]
        for first, last in pairwise(places):
            yield page[first - start : last - start]

    async def _feed(self, partition: int, segment: Sequence[Recorded]) -> None:
        before, after = segment[0].position - 1, segment[-1].position
        going = [each for each in self._going() if self.positions[each][partition] == before]
        if not going:
            return
        changes = await self._fold(segment)
        writes = tuple(write for generation in going if (write := self._made(generation, changes, before)))
        moved = await self._written(Batch(partition=partition, before=before, after=after, writes=writes))
        for generation in moved:
            self.positions[generation][partition] = after
        if any(write.generation not in moved and write.generation not in self.failed for write in writes):
            raise Overtaken

    def _going(self) -> list[Generation]:
        return [generation for generation in self.positions if generation not in self.failed]

    async def _fold(self, segment: Sequence[Recorded]) -> list[Change]:
        """Folds each escrow of a segment once, from where it stood before the segment."""
        changes: dict[EscrowId, Change] = {}
        for recorded in segment:
            if not recorded.stream_id.startswith(ESCROW_STREAM):
                continue
            escrow_id = EscrowId(recorded.stream_id)
            known = changes.get(escrow_id)
            before = known.before if known else await self._folds.at(escrow_id, version=recorded.version - 1)
            after = advance(known.after if known else before, recorded)
            changes[escrow_id] = Change(before, after)
        for change in changes.values():
            self._folds.keep(change.after)
        return list(changes.values())

    def _made(self, generation: Generation, changes: Iterable[Change], position: int) -> Write | None:
        try:
            return write_of(generation, changes)
        except Exception as broken:  # a model's own fault stops that model alone
            self._fail(generation, position=position, broken=broken)
            return None

    async def _written(self, batch: Batch) -> frozenset[Generation]:
        try:
            return await self._tables.write(batch)
        except RowsRefused as refused:
            if len(batch.writes) == 1:
                self._fail(batch.writes[0].generation, position=batch.before, broken=refused)
                return frozenset()
        alone = [await self._written(msgspec.structs.replace(batch, writes=(write,))) for write in batch.writes]
        return frozenset().union(*alone)

    def _fail(self, generation: Generation, *, position: int, broken: Exception) -> None:
        self.failed[generation] = f"after position {position}: {type(broken).__name__}: {broken}"[:SAYS_MAX]
        log.error("read_model_stopped", model=generation.model, after_position=position, exc_info=broken)


def write_of(generation: Generation, changes: Iterable[Change]) -> Write:
    """Makes what a batch does to a generation; rows that stay are left alone, new ones come behind them."""
    model = MODELS[generation.model]
    if model.counted:
        return Write(generation=generation, counts=_counted(model, changes))
    touched: list[EscrowId] = []
    rows: list[Row] = []
    for change in changes:
        before, after = model.rows(change.before), model.rows(change.after)
        if after[: len(before)] != before:
            touched.append(change.after.escrow_id)
            before = ()
        rows += after[len(before) :]
    return Write(generation=generation, escrows=tuple(touched), rows=tuple(rows))


def _counted(model: Model, changes: Iterable[Change]) -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for change in changes:
        counts.update(marks_of(model.rows(change.after)))
        counts.subtract(marks_of(model.rows(change.before)))
    return {mark: number for mark, number in sorted(counts.items()) if number}


def marks_of(rows: Iterable[Row]) -> Iterator[str]:
    """Names the marks of a counted model's rows."""
    for row in rows:
        assert isinstance(row, MarkRow)
        yield row.mark
