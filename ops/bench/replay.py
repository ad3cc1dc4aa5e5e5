"""`make bench-replay`: a verified replay against a bare read and the package eventsourcing; waking; a large log.

Replays alternate on one Postgres, from logs of about 10,000 events. `verified_together` is done as `thirdkey audit
verify` does it, with a process for each core, from a log of BENCH_MIDDLE events (300,000); starting them is counted.
Then the same appends and wakes alternate between the small log and one of BENCH_EVENTS events (1,000,000). The larger
logs are filled in bulk with a valid chain. BENCH_ROUNDS can be set.
"""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack

import asyncpg

from eventstore.embedded import DATABASE, EmbeddedPostgres
from eventstore.opening import Store, open_store
from ops.bench.life import fill, life_of
from ops.bench.replays import PackageLog, bare_replay, median_ms, rebuilt, verified_replay, verified_together, wake
from ops.bench.report import at_least, at_most, finish, spread
from ops.bench.server import bench_server
from ops.bench.writers import OurWriter, append_life, package_environment
from service.audit_processes import processes_for

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SMALL = 10_000
MIDDLE = int(os.environ.get("BENCH_MIDDLE", "300000"))
LARGE = int(os.environ.get("BENCH_EVENTS", "1000000"))
PARTITIONS = 4
APPENDERS = 16
APPEND_S = 1.0
WAKES = 50
LIVES = (20, 200)
BOUNDS_LEAST = {"verified_together_over_eventsourcing": 2.5, "verified_together_over_bare": 0.4}
"""As `thirdkey audit verify` does it, over what one process of theirs does."""
BOUNDS_MOST = {"append_large_over_small": 1.2, "wake_20_large_over_small": 1.2, "wake_200_large_over_small": 1.2}

Figures = Mapping[str, Sequence[float]]


async def main() -> Figures:
    """Returns every figure, round by round."""
    async with bench_server() as server, AsyncExitStack() as stack:
        small = await _store(stack, server, database="bench_small", events=SMALL)
        middle = await _store(stack, server, database="bench_middle", events=MIDDLE)
        replays = await _replays(stack, server, {"bench_small": small, "bench_middle": middle})
        large = await _store(stack, server, database="bench_large", events=LARGE)
        return {**replays, **await _small_and_large({"small": small, "large": large})}


async def _store(stack: AsyncExitStack, server: EmbeddedPostgres, *, database: str, events: int) -> Store:
    administrator = await asyncpg.connect(server.dsn)
    await administrator.execute(f"create database {database}")
    await administrator.close()
    dsn = _dsn(server, database)
    store = await open_store(dsn=dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id="bench")
    stack.push_async_callback(store.aclose)
    connection = await asyncpg.connect(dsn)
    try:
        await fill(connection, partitions=PARTITIONS, events=events, name="life")
        # What the server would do in the background sooner or later: not in the middle of a round.
        await connection.execute("vacuum analyze")
        await connection.execute("checkpoint")
    finally:
        await connection.close()
    return store


async def _replays(stack: AsyncExitStack, server: EmbeddedPostgres, stores: Mapping[str, Store]) -> Figures:
    small, middle = stores["bench_small"], stores["bench_middle"]
    package = PackageLog(package_environment(socket_folder=str(server.socket_folder), database=DATABASE))
    stack.callback(package.close)
    await asyncio.to_thread(package.fill, events=SMALL)

    async def package_read() -> int:
        return await asyncio.to_thread(package.read)

    ways: Mapping[str, Callable[[], Awaitable[int]]] = {
        "verified": lambda: verified_replay(small.log),
        "verified_together": lambda: verified_together(
            middle.log, dsn=_dsn(server, "bench_middle"), processes=processes_for(MIDDLE)
        ),
        "bare": lambda: bare_replay(small.pools[-1], partitions=PARTITIONS),
        "eventsourcing": package_read,
    }
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begun = time.perf_counter()
            events = await way()
            figures[f"{name}_events_s"].append(events / (time.perf_counter() - begun))
    events = sum(head.position for head in await small.log.heads())
    figures["rebuild_events_s"].append(events / await rebuilt(small))
    return figures


async def _small_and_large(stores: Mapping[str, Store]) -> Figures:
    names = {size: {n: await append_life(store, life_of(n)) for n in LIVES} for size, store in stores.items()}
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for length in LIVES:
            took: dict[str, list[float]] = defaultdict(list)
            for _ in range(WAKES):
                for size, store in stores.items():
                    took[size].append(await _timed_wake(store, names[size][length]))
            for size, seconds in took.items():
                figures[f"wake_{length}_{size}_ms"].append(median_ms(seconds))
        for size, store in stores.items():
            load = await OurWriter(store).run(appenders=APPENDERS, seconds=APPEND_S)
            figures[f"append_{size}_p50_ms"].append(load.p50_ms)
            figures[f"append_{size}_events_s"].append(load.events_s)
    return figures


async def _timed_wake(store: Store, stream_id: str) -> float:
    begun = time.perf_counter()
    assert await wake(store.log, stream_id) is not None
    return time.perf_counter() - begun


def _ratios(figures: Figures) -> Mapping[str, float]:
    middle = {name: spread(values).median for name, values in figures.items()}
    return {
        **{
            f"{ours}_over_{theirs}": middle[f"{ours}_events_s"] / middle[f"{theirs}_events_s"]
            for ours in ("verified", "verified_together")
            for theirs in ("eventsourcing", "bare")
        },
        "append_large_over_small": middle["append_small_events_s"] / middle["append_large_events_s"],
        **{f"wake_{n}_large_over_small": middle[f"wake_{n}_large_ms"] / middle[f"wake_{n}_small_ms"] for n in LIVES},
    }


def _dsn(server: EmbeddedPostgres, database: str) -> str:
    return server.dsn.replace(f"/{DATABASE}?", f"/{database}?")


if __name__ == "__main__":
    measured = asyncio.run(main())
    compared = _ratios(measured)
    finish(
        "replay",
        figures={
            "rounds": ROUNDS,
            "middle": MIDDLE,
            "large": LARGE,
            "processes": processes_for(MIDDLE),
            **{name: spread(values) for name, values in measured.items()},
        },
        ratios=compared,
        reached={name: at_least(compared[name], bound) for name, bound in BOUNDS_LEAST.items()}
        | {name: at_most(compared[name], bound) for name, bound in BOUNDS_MOST.items()},
    )
