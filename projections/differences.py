"""Compares the live read models with what the log makes of them: for auditors, who trust no table."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import msgspec

from domain.ids import EscrowId
from eventstore.api import EventLog
from projections.api import CountedRow, ModelTables
from projections.feeder import marks_of
from projections.folds import ESCROW_STREAM, Standing, advance
from projections.models import MODELS, Model
from projections.rows import Row

PAGE = 1_000

Standings = dict[EscrowId, Standing]
Rows = dict[str, list[Row]]
Told = Callable[[int, int], None]
"""Told how many events are read, of how many there are."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One escrow (or mark, or checkpoint) of a model that is not what the events lead to."""

    model: str
    partition: int
    subject: str
    """The escrow, the mark, or `checkpoint` for how far the model itself is."""
    says: str
    """`missing`, `left over`, `ahead of the log`, or the names of the fields that differ; never what stands in them."""


async def differences(event_log: EventLog, tables: ModelTables, *, told: Told | None = None) -> tuple[Difference, ...]:
    """Rebuilds all live models in memory, as far as each one is, and returns every difference to its rows.

    The service may run meanwhile: each partition is compared at one moment of its own. Holds the escrows and rows of
    one partition in memory at a time.
    """
    total = sum(head.position for head in await event_log.heads())
    found: list[Difference] = []
    done = 0
    for partition in range(event_log.partitions):
        kept = await _kept(tables, partition)
        found += await _of_partition(event_log, kept, partition)
        done += max((at for at, _ in kept.values()), default=0)
        if told:
            told(done, max(total, done))
    return tuple(found)


async def _kept(tables: ModelTables, partition: int) -> Mapping[str, tuple[int, Rows]]:
    """Reads every live model of a partition, by name: how far it is, and its rows by escrow or mark."""
    async with tables.snapshot(partition) as snapshot:
        kept: dict[str, tuple[int, Rows]] = {}
        for model, position in snapshot.positions.items():
            if model in MODELS:
                rows: Rows = {}
                async for row in snapshot.rows(model):
                    rows.setdefault(_subject(row), []).append(row)
                kept[model] = position, rows
        return kept


async def _of_partition(event_log: EventLog, kept: Mapping[str, tuple[int, Rows]], partition: int) -> list[Difference]:
    """Folds up to each checkpoint in turn: models that stand still are compared where they stand."""
    found = [_at_checkpoint(name, partition, "missing") for name in sorted(MODELS.keys() - kept.keys())]
    standings: Standings = {}
    reached = 0
    for position in sorted({at for at, _ in kept.values()}):
        reached = await _fold(event_log, standings, partition, after=reached, until=position)
        for name in sorted(model for model, (at, _) in kept.items() if at == position):
            if reached < position:  # it would pass over what is appended next
                found.append(_at_checkpoint(name, partition, "ahead of the log"))
            differing = _differ(_made(MODELS[name], standings), kept[name][1])
            found += [Difference(model=name, partition=partition, subject=each, says=says) for each, says in differing]
    return found


def _at_checkpoint(model: str, partition: int, says: str) -> Difference:
    return Difference(model=model, partition=partition, subject="checkpoint", says=says)


async def _fold(event_log: EventLog, standings: Standings, partition: int, *, after: int, until: int) -> int:
    """Takes events up to a position and returns how far the log let it come."""
    while after < until:
        page = await event_log.read_partition(partition, after_position=after, limit=min(PAGE, until - after))
        if not page:
            break  # the log is shorter than the checkpoint: what the rows have beyond it is left over
        for recorded in page:
            if recorded.stream_id.startswith(ESCROW_STREAM):
                escrow_id = EscrowId(recorded.stream_id)
                standings[escrow_id] = advance(standings.get(escrow_id) or Standing(escrow_id=escrow_id), recorded)
        after = page[-1].position
    return after


def _made(model: Model, standings: Standings) -> Rows:
    if model.counted:
        marks = Counter(mark for standing in standings.values() for mark in marks_of(model.rows(standing)))
        return {mark: [CountedRow(escrow_id=EscrowId(""), mark=mark, number=n)] for mark, n in marks.items()}
    return {escrow_id: list(rows) for escrow_id, standing in standings.items() if (rows := model.rows(standing))}


def _differ(made: Rows, kept: Rows) -> Iterator[tuple[str, str]]:
    for subject in sorted(made.keys() | kept.keys()):
        if subject not in kept:
            yield subject, "missing"
        elif subject not in made:
            yield subject, "left over"
        elif _in_order(made[subject]) != _in_order(kept[subject]):
            yield subject, ", ".join(_fields(made[subject], kept[subject])) or "another number of rows"


def _fields(made: list[Row], kept: list[Row]) -> Iterator[str]:
    if len(made) == len(kept):
        pairs = list(zip(_in_order(made), _in_order(kept), strict=True))
        for field in made[0].__struct_fields__:
            if any(getattr(one, field) != getattr(other, field) for one, other in pairs):
                yield field


def _in_order(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=msgspec.json.encode)


def _subject(row: Row) -> str:
    return row.mark if isinstance(row, CountedRow) else row.escrow_id
