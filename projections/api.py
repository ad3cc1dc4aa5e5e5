"""Where read models are kept, as the runner, the rebuild and the callers see it."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from domain.ids import CaseId, EscrowId, Micros, UserId
from domain.roles import Role, SeatKind
from projections.rows import (
    DeadlineRow,
    DisputeRow,
    EscrowRow,
    MessageRow,
    PhotoRow,
    RecoveryRow,
    Row,
    StoppedRow,
    TurnRow,
    WalletRow,
)

RETIRED = (1 << 63) - 1
"""Where the checkpoints of a generation are once another was swapped in for it: no batch begins there."""


class Generation(msgspec.Struct, frozen=True, order=True):
    """One edition of one model; the live one is read, another may be built beside it."""

    model: str
    number: int

    @property
    def checkpoint(self) -> str:
        """Its name among the projection checkpoints."""
        return f"{self.model}@{self.number}"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How a model stands."""

    model: str
    live: int
    building: int | None
    stopped: str | None
    """Where and by what it was stopped; None while it goes on."""
    positions: Mapping[int, int]
    """How far the live generation is, by partition."""
    built: Mapping[int, int]
    """How far the one being built is."""

    @property
    def generation(self) -> Generation:
        """The live one."""
        return Generation(self.model, self.live)


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """What one batch does to one generation: all rows of these escrows go, these rows come, and counts are added to."""

    generation: Generation
    escrows: tuple[EscrowId, ...] = ()
    rows: tuple[Row, ...] = ()
    counts: Mapping[str, int] = {}


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Rows and checkpoints that move together, or not at all."""

    partition: int
    before: int
    """Where every generation's checkpoint must be."""
    after: int
    writes: tuple[Write, ...]


class RowsRefused(Exception):
    """The tables do not take these rows: something is wrong with what the model made, not with the database."""


class RebuildUnderWay(Exception):
    """Somebody else is rebuilding this model."""

    def __init__(self, *, model: str) -> None:
        super().__init__(f"{model} is being rebuilt by another process")
        self.model = model


class Building(Protocol):
    """The right to rebuild some models, and the generations made for it."""

    generations: Sequence[Generation]

    async def swap(self) -> bool:
        """Makes all of them live at once; False, and nothing changed, while the live ones are further in the log.

        Raises `RebuildUnderWay` when the right was lost meanwhile.
        """

    async def clear(self) -> None:
        """Removes the rows of all generations of these models that are neither live nor being built."""


class ModelTables(Protocol):
    """The writing side. Every method raises `LogUnavailable` when the database does not answer."""

    async def progress(self) -> Mapping[str, Progress]:
        """Reads how every model stands, by name; models nobody began are not in it."""

    async def begin(self, models: Iterable[str]) -> None:
        """Makes the first generation of each model that has none."""

    async def write(self, batch: Batch) -> frozenset[Generation]:
        """Writes what belongs to generations whose checkpoint is at `before`, and returns those.

        Raises `RowsRefused`; nothing is written then.
        """

    async def set_stopped(self, model: str, says: str | None) -> None:
        """Notes where and by what a model was stopped, None when it goes on."""

    def building(self, models: Sequence[str]) -> AbstractAsyncContextManager[Building]:
        """Begins a new generation of each model, for one process at a time; raises `RebuildUnderWay`."""

    def snapshot(self, partition: int) -> AbstractAsyncContextManager["Snapshot"]:
        """Opens one unmoving view of all live generations in one partition."""


class Snapshot(Protocol):
    """All live generations of one partition at one moment."""

    positions: Mapping[str, int]
    """How far each model is, by name."""

    def rows(self, model: str) -> AsyncIterator[Row]:
        """Yields the rows of a model, all of one escrow together; of a counted one `CountedRow`s."""


class CountedRow(Row, frozen=True, kw_only=True):
    """The number of escrows that bear a mark (`escrow_id` is empty)."""

    mark: str
    number: int


ALL_CASES = "all"
"""In place of a status."""


class Place(msgspec.Struct, frozen=True):
    """Where a page of a list that is ordered by time ended."""

    at: int
    id: str


class EscrowQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which escrows a list shows, newest first; filters left out let everything through."""

    user: UserId | None
    """Only those in which this user has a seat; None means all."""
    role: Role | None = None
    """Of that user."""
    state: str | None = None
    order: str | None = None
    after: Place | None = None
    limit: int


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """A watched escrow that had an event."""

    escrow_id: EscrowId
    version: int
    position: int


class ModelReader(Protocol):
    """The reading side: each call answers from the live generation alone; raises `LogUnavailable`."""

    async def escrow_page(self, query: EscrowQuery) -> Sequence[EscrowRow]: ...

    async def escrow(self, escrow_id: EscrowId) -> EscrowRow | None: ...

    async def escrows_of(self, user: UserId) -> Sequence[EscrowId]:
        """Names every escrow in which a user has a seat."""

    async def unready(self, *, after: EscrowId | None, limit: int) -> Sequence[EscrowRow]:
        """Lists escrows whose address waits for nothing but their arbiter's readiness, by name."""

    async def watched(self, partition: int, *, after_position: int, limit: int) -> Sequence[Moved]:
        """Names escrows with an address whose last event lies after a position, in order of position."""

    async def case(self, case_id: CaseId) -> DisputeRow | None: ...

    async def cases_of(
        self,
        arbiter: UserId,
        *,
        after: Place | None,
        limit: int,
        status: str | None = None,
        text: str | None = None,
    ) -> Sequence[DisputeRow]:
        """Lists an arbiter's cases, newest first: those of a status, `all`, or without one those that are not over.

        `text` is looked for in the names of case, escrow, order and parties, whatever its case.
        """

    async def messages(self, escrow_id: EscrowId, *, after: int, limit: int) -> Sequence[MessageRow]:
        """Lists the messages of an escrow's case whose number lies above one, in order."""

    async def photos(self, escrow_id: EscrowId) -> Sequence[PhotoRow]:
        """Lists the pictures of an escrow's case, in the order in which they were added."""

    async def recovery(self, *, after: Place | None, limit: int) -> Sequence[RecoveryRow]:
        """Lists escrows that people must look at, oldest activity first."""

    async def recovery_count(self) -> int: ...

    async def wallets(self, escrow_id: EscrowId) -> WalletRow | None: ...

    async def open_turns(self, kind: SeatKind, *, after: tuple[EscrowId, Role] | None, limit: int) -> Sequence[TurnRow]:
        """Lists turns of one kind of seat that may be taken now, by escrow and role."""

    async def due(self, now: Micros, *, after: DeadlineRow | None, limit: int) -> Sequence[DeadlineRow]:
        """Lists deadlines up to a moment, soonest first."""

    async def stopped(self, *, limit: int) -> Sequence[StoppedRow]:
        """Lists escrows that stand still, the earliest position first."""

    async def counts(self) -> Mapping[str, int]:
        """Adds the counts of all partitions, by mark."""
