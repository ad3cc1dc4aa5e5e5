"""Rebuilds read models beside the live ones, and swaps them in once they are as far."""

from collections.abc import Callable, Sequence

from eventstore.api import EventLog
from projections.api import ModelTables
from projections.feeder import Feeder
from projections.models import MODELS

KEPT_MAX = 20_000
"""States in memory: a rebuild meets all escrows there ever were, many of them side by side."""
PAGE_MAX = 2_000

Told = Callable[[int, int], None]
"""Told how many events are read, of how many there are."""


class RebuildFailed(Exception):
    """A model's own code fails on this log: the live one stays as it is."""

    def __init__(self, *, model: str, says: str) -> None:
        super().__init__(f"{model} cannot be rebuilt, it stopped {says}")
        self.model, self.says = model, says


async def rebuild(
    event_log: EventLog, tables: ModelTables, models: Sequence[str], *, told: Told | None = None
) -> Sequence[int]:
    """Rebuilds some models from the log's first event on and returns their new generations.

    The live ones serve meanwhile; what an interrupted rebuild left over is taken away. Raises `RebuildUnderWay`,
    `RebuildFailed`, `LogUnavailable`, and `Overtaken` when another process got hold of the same rebuild.
    """
    await tables.begin(models)
    async with tables.building(models) as building:
        await building.clear()
        zeros = dict.fromkeys(range(event_log.partitions), 0)
        positions = dict.fromkeys(building.generations, zeros)
        feeder = Feeder(event_log, tables, positions=positions, page_max=PAGE_MAX, kept_max=KEPT_MAX)
        try:
            await _to_the_end(event_log, feeder, told=told)
            while not await building.swap():
                await _to_the_end(event_log, feeder, told=told)
        finally:
            feeder.close()
        await building.clear()
        return [generation.number for generation in building.generations]


async def _to_the_end(event_log: EventLog, feeder: Feeder, *, told: Told | None) -> None:
    """Feeds to the log's end as it was at the beginning: under load it never stands still."""
    heads = await event_log.heads()
    total = sum(head.position for head in heads)
    positions = next(iter(feeder.positions.values()))
    while any(positions[head.partition] < head.position for head in heads) and await feeder.step():
        _raise_failed(feeder)
        if told:
            done = sum(positions.values())
            told(done, max(total, done))


def _raise_failed(feeder: Feeder) -> None:
    for generation, says in feeder.failed.items():
        raise RebuildFailed(model=generation.model, says=says)


def named(name: str) -> Sequence[str]:
    """Names the models that a person means; `all` means every one. Raises `KeyError` for a name that is none."""
    if name == "all":
        return tuple(MODELS)
    return (MODELS[name].name,)
