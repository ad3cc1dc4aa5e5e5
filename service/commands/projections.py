"""`thirdkey projections`: how far the read models are, and how they are built anew beside the running service."""

import sys
from collections.abc import Iterable, Iterator, Mapping

import asyncpg

from eventstore.api import LogUnavailable
from eventstore.embedded_os import EmbeddedFailed
from eventstore.grouped import LogLimits
from eventstore.subscription import LogGap
from projections.api import Progress, RebuildUnderWay
from projections.feeder import Overtaken
from projections.models import MODELS
from projections.opening import on_pool
from projections.rebuild import RebuildFailed, named
from projections.rebuild import rebuild as run
from projections.rows import StoppedRow
from service.read_log import NoLog
from service.reading import reading_heads
from service.settings import Settings

CONNECTIONS = 3
"""One holds the right to rebuild, one writes, one reads."""
STOPPED_SHOWN = 20
SAYS_SHOWN = 100
"""Characters of a reason that a line shows."""
_WRONG = (
    *(NoLog, LogUnavailable, EmbeddedFailed, LogGap, RebuildUnderWay, RebuildFailed, Overtaken),
    asyncpg.UndefinedTableError,  # no service of this version has opened this database yet
)


async def show(settings: Settings) -> int:
    """Prints every model with its generation, positions and lag, then the escrows that stand still; returns 0 or 1."""
    try:
        async with reading_heads(settings, connections=CONNECTIONS) as read:
            tables, rows = on_pool(read.pool, partitions=read.log.partitions, limits=LogLimits())
            progress = await tables.progress()
            heads = {head.partition: head.position for head in await read.log.heads()}
            stopped = await rows.stopped(limit=STOPPED_SHOWN + 1)
    except _WRONG as wrong:
        return _failed(wrong)
    for line in (*table(progress, heads), *still(stopped)):
        print(line)
    return 0


async def rebuild(settings: Settings, name: str) -> int:
    """Rebuilds one model, or all, and returns 0; says what kept it from that and returns 1."""
    try:
        models = named(name)
    except KeyError:
        print(f"there is no read model {name}; there are: {', '.join(MODELS)}, and all", file=sys.stderr)
        return 1
    try:
        async with reading_heads(settings, connections=CONNECTIONS) as read:
            tables, _ = on_pool(read.pool, partitions=read.log.partitions, limits=LogLimits())
            generations = await run(read.log, tables, models, told=_told if sys.stderr.isatty() else None)
    except _WRONG as wrong:
        return _failed(wrong)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    for model, generation in zip(models, generations, strict=True):
        print(f"{model}: generation {generation} is live")
    return 0


def table(progress: Mapping[str, Progress], heads: Mapping[int, int]) -> Iterator[str]:
    """Writes a line for each generation of each model: its positions by partition, its lag in events, its state."""
    yield f"{'MODEL':<12} {'GENERATION':>10} {'LAG':>8}  {'STATE':<10} POSITIONS"
    for name in MODELS:
        each = progress.get(name)
        if each is None:
            yield f"{name:<12} {'-':>10} {sum(heads.values()):>8}  {'not begun':<10}"
            continue
        yield _line(each, each.live, each.positions, heads, state="stopped" if each.stopped else "live")
        if each.stopped:
            yield f"{'':<12} {each.stopped[:SAYS_SHOWN]}"
        if each.building is not None:
            yield _line(each, each.building, each.built, heads, state="building")


def _line(
    each: Progress, generation: int, positions: Mapping[int, int], heads: Mapping[int, int], *, state: str
) -> str:
    lag = sum(max(0, head - positions.get(partition, 0)) for partition, head in heads.items())
    shown = " ".join(f"{partition}:{position}" for partition, position in sorted(positions.items()))
    return f"{each.model:<12} {generation:>10} {lag:>8}  {state:<10} {shown}"


def still(stopped: Iterable[StoppedRow]) -> Iterator[str]:
    """Writes a line for each escrow that stands still, at most `STOPPED_SHOWN` of them."""
    for number, row in enumerate(stopped):
        if number == STOPPED_SHOWN:
            yield "and more"
            return
        yield f"{row.escrow_id} stands still at version {row.version}: {row.says[:SAYS_SHOWN]}"


def _told(done: int, total: int) -> None:
    print(f"\r{done} of {total} events", end="", file=sys.stderr, flush=True)


def _failed(wrong: BaseException) -> int:
    print(f"{type(wrong).__name__}: {wrong}", file=sys.stderr)
    return 1
