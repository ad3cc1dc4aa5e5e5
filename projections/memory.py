"""Memory twin of the tables of read models; its rows live beside a memory log's events and outlive a node."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from operator import attrgetter

import msgspec

from domain.ids import EscrowId
from eventstore.memory import MemoryTables
from projections.api import (
    RETIRED,
    Batch,
    Building,
    CountedRow,
    Generation,
    Progress,
    RebuildUnderWay,
    RowsRefused,
    Snapshot,
    Write,
)
from projections.models import MODELS
from projections.rows import Row

NUL = b"\\u0000"
"""In JSON: what a text column of Postgres takes as little as this twin."""
Place = tuple[int, EscrowId]
"""A partition and an escrow in it."""


class Entry(msgspec.Struct, kw_only=True):
    """What is known of one model."""

    live: int = 1
    building: int | None = None
    newest: int = 1
    stopped: str | None = None


class Shelf:
    """What several memory nodes share: rows, counts, checkpoints."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables
        self.entries: dict[str, Entry] = {}
        self.checkpoints: dict[tuple[Generation, int], int] = {}
        self.rows: dict[Generation, dict[Place, tuple[Row, ...]]] = {}
        self.counts: dict[Generation, Counter[tuple[int, str]]] = {}
        self.being_rebuilt: set[str] = set()

    def live(self, model: str) -> Generation:
        """Names the generation that is read."""
        return Generation(model, self.entries[model].live if model in self.entries else 1)

    def begin(self, generation: Generation, *, partitions: int) -> None:
        """Lays an empty generation."""
        self.rows[generation], self.counts[generation] = {}, Counter()
        self.checkpoints.update({(generation, partition): 0 for partition in range(partitions)})

    def drop(self, generation: Generation) -> None:
        """Forgets a generation."""
        self.rows.pop(generation, None)
        self.counts.pop(generation, None)
        self.checkpoints = {key: at for key, at in self.checkpoints.items() if key[0] != generation}

    def end(self, partition: int) -> int:
        """Returns the position of the log's last event in a partition, 0 for none."""
        return self._tables.head(partition).position

    def positions(self, generation: Generation) -> Mapping[int, int]:
        """Says how far a generation is, by partition."""
        return {partition: at for (each, partition), at in self.checkpoints.items() if each == generation}


def shelf_of(tables: MemoryTables) -> Shelf:
    """Returns what lies beside a memory log, the same for every node on it."""
    shelf: Shelf = tables.beside.setdefault("read_models", Shelf(tables))
    return shelf


class MemoryModels:
    """`ModelTables` over dicts; nothing is awaited between the checks and the writing."""

    def __init__(self, shelf: Shelf, *, partitions: int) -> None:
        self._shelf, self._partitions = shelf, partitions

    async def progress(self) -> Mapping[str, Progress]:
        """Reads how every model stands."""
        return {model: self._progress(model, entry) for model, entry in sorted(self._shelf.entries.items())}

    async def begin(self, models: Iterable[str]) -> None:
        """Makes the first generation of each model that has none."""
        for model in models:
            if model not in self._shelf.entries:
                self._shelf.entries[model] = Entry()
                self._shelf.begin(Generation(model, 1), partitions=self._partitions)

    async def write(self, batch: Batch) -> frozenset[Generation]:
        """Writes what belongs to generations whose checkpoint is at `before`, and returns those."""
        checkpoints = self._shelf.checkpoints
        moved = [
            write for write in batch.writes if checkpoints.get((write.generation, batch.partition)) == batch.before
        ]
        if any(NUL in msgspec.json.encode(write.rows) for write in moved):
            raise RowsRefused("as Postgres refuses it")
        for write in moved:
            checkpoints[write.generation, batch.partition] = batch.after
            self._write(batch.partition, write)
        return frozenset(write.generation for write in moved)

    async def set_stopped(self, model: str, says: str | None) -> None:
        """Notes where and by what a model was stopped, None when it goes on."""
        self._shelf.entries[model].stopped = says

    @asynccontextmanager
    async def building(self, models: Sequence[str]) -> AsyncIterator[Building]:
        """Begins a new generation of each model, for one process at a time."""
        busy = next((model for model in models if model in self._shelf.being_rebuilt), None)
        if busy is not None:
            raise RebuildUnderWay(model=busy)
        self._shelf.being_rebuilt |= set(models)
        try:
            yield _MemoryBuilding(self._shelf, [self._next(model) for model in models])
        finally:
            self._shelf.being_rebuilt -= set(models)

    @asynccontextmanager
    async def snapshot(self, partition: int) -> AsyncIterator[Snapshot]:
        """Copies all live generations in one partition."""
        yield _MemorySnapshot(self._shelf, partition)

    def _progress(self, model: str, entry: Entry) -> Progress:
        shelf = self._shelf
        return Progress(
            model=model,
            live=entry.live,
            building=entry.building,
            stopped=entry.stopped,
            positions=shelf.positions(Generation(model, entry.live)),
            built=shelf.positions(Generation(model, entry.building)) if entry.building else {},
        )

    def _write(self, partition: int, write: Write) -> None:
        rows, counts = self._shelf.rows[write.generation], self._shelf.counts[write.generation]
        for escrow_id in write.escrows:
            rows.pop((partition, escrow_id), None)
        for escrow_id, own in groupby(write.rows, key=attrgetter("escrow_id")):
            rows[partition, escrow_id] = (*rows.get((partition, escrow_id), ()), *own)
        for mark, more in write.counts.items():
            counts[partition, mark] += more

    def _next(self, model: str) -> Generation:
        entry = self._shelf.entries[model]
        entry.newest += 1
        entry.building = entry.newest
        generation = Generation(model, entry.newest)
        self._shelf.begin(generation, partitions=self._partitions)
        return generation


class _MemoryBuilding:
    def __init__(self, shelf: Shelf, generations: Sequence[Generation]) -> None:
        self._shelf, self.generations = shelf, generations

    async def swap(self) -> bool:
        if any(self._is_behind(generation) for generation in self.generations):
            return False
        for generation in self.generations:
            entry = self._shelf.entries[generation.model]
            assert entry.building == generation.number
            old = self._shelf.live(generation.model)
            self._shelf.checkpoints.update(((old, partition), RETIRED) for partition in self._shelf.positions(old))
            entry.live, entry.building, entry.stopped = generation.number, None, None
        return True

    async def clear(self) -> None:
        kept = {self._shelf.live(each.model) for each in self.generations} | set(self.generations)
        models = {each.model for each in self.generations}
        for generation in [each for each in self._shelf.rows if each.model in models and each not in kept]:
            self._shelf.drop(generation)

    def _is_behind(self, generation: Generation) -> bool:
        live = self._shelf.positions(self._shelf.live(generation.model))
        mine = self._shelf.positions(generation)
        return any(mine[partition] < min(at, self._shelf.end(partition)) for partition, at in live.items())


class _MemorySnapshot:
    def __init__(self, shelf: Shelf, partition: int) -> None:
        live = {model: shelf.live(model) for model in shelf.entries}
        self.positions: Mapping[str, int] = {
            model: shelf.checkpoints[generation, partition] for model, generation in live.items()
        }
        self._rows = {model: list(_rows(shelf, generation, partition)) for model, generation in live.items()}

    async def rows(self, model: str) -> AsyncIterator[Row]:
        for row in self._rows[model]:
            yield row


def _rows(shelf: Shelf, generation: Generation, partition: int) -> Iterable[Row]:
    if MODELS[generation.model].counted:
        for (where, mark), number in shelf.counts[generation].items():
            if where == partition and number:
                yield CountedRow(escrow_id=EscrowId(""), mark=mark, number=number)
    for (where, _), own in shelf.rows[generation].items():
        if where == partition:
            yield from own
