"""`make bench-log`: our append against a plain INSERT, a bare batch and the package eventsourcing, on one Postgres.

Rounds alternate between the four, at 1, 16 and 128 appenders; then one, two and four processes append at once, 128
appenders each. What counts are the ratios of the rounds' medians, since the machine is the same in every round.
BENCH_ROUNDS and BENCH_SECONDS (of each measurement) can be set.
"""

import asyncio
import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

import asyncpg
import msgspec

from eventstore.embedded import DATABASE, EmbeddedPostgres
from eventstore.opening import open_store
from ops.bench.load import Load
from ops.bench.report import Reached, Spread, at_least, finish, spread
from ops.bench.server import bench_server
from ops.bench.writers import POOL_SIZE, TABLES, BareWriter, OurWriter, PackageWriter, PlainWriter, Writer

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "1.5"))
WARM_UP_S = 0.3
PARTITIONS = 4
APPENDERS = (1, 16, 128)
NODES = (1, 2, 4)
NODE_APPENDERS = 128
NODE_START_S = 60.0

BOUNDS = {
    "ours_over_plain_1": 0.8,
    "ours_over_plain_16": 1.5,
    "ours_over_plain_128": 5.0,
    "ours_over_eventsourcing_16": 10.0,
    "ours_over_eventsourcing_128": 25.0,
    "ours_over_bare_128": 0.4,
    "nodes_2_over_1": 0.8,
    "nodes_4_over_1": 0.6,
}

Rounds = Mapping[str, Sequence[Load]]
"""Of each writer and number of appenders, as `ours_16`."""


async def main() -> tuple[Rounds, Mapping[int, Sequence[float]]]:
    """Returns the rounds of the writers, and the events/s of 1, 2 and 4 nodes together."""
    async with bench_server() as server:
        return await _side_by_side(server), await _several_nodes(server)


async def _side_by_side(server: EmbeddedPostgres) -> Rounds:
    async with AsyncExitStack() as stack:
        writers = await _writers(stack, server)
        rounds: dict[str, list[Load]] = defaultdict(list)
        for writer in writers.values():
            await writer.run(appenders=max(APPENDERS), seconds=WARM_UP_S)
        for _ in range(ROUNDS):
            for appenders in APPENDERS:
                for name, writer in writers.items():
                    rounds[f"{name}_{appenders}"].append(await writer.run(appenders=appenders, seconds=SECONDS))
        return rounds


async def _writers(stack: AsyncExitStack, server: EmbeddedPostgres) -> Mapping[str, Writer]:
    store = await open_store(dsn=server.dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id="bench")
    stack.push_async_callback(store.aclose)
    pool = await asyncpg.create_pool(server.dsn, min_size=POOL_SIZE, max_size=POOL_SIZE)
    stack.push_async_callback(pool.close)
    await pool.execute(TABLES)
    package = PackageWriter(socket_folder=str(server.socket_folder), database=DATABASE)
    stack.callback(package.close)
    return {
        "ours": OurWriter(store),
        "plain": PlainWriter(pool),
        "bare": BareWriter(pool),
        "eventsourcing": package,
    }


async def _several_nodes(server: EmbeddedPostgres) -> Mapping[int, Sequence[float]]:
    nodes = [await _start_node(server.dsn) for _ in range(max(NODES))]
    try:
        rounds: dict[int, list[float]] = defaultdict(list)
        for _ in range(ROUNDS):
            for number in NODES:
                loads = await asyncio.gather(*(_told(node, seconds=SECONDS) for node in nodes[:number]))
                rounds[number].append(sum(load.events_s for load in loads))
        return rounds
    finally:
        for node in nodes:
            assert node.stdin is not None
            node.stdin.close()
            await node.wait()


async def _start_node(dsn: str) -> asyncio.subprocess.Process:
    arguments = ("-m", "ops.bench.log_node", dsn, str(PARTITIONS), str(NODE_APPENDERS))
    node = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert node.stdout is not None
    async with asyncio.timeout(NODE_START_S):
        await node.stdout.readline()
    return node


async def _told(node: asyncio.subprocess.Process, *, seconds: float) -> Load:
    assert node.stdin is not None and node.stdout is not None
    node.stdin.write(b"%f\n" % seconds)
    async with asyncio.timeout(NODE_START_S + seconds):
        return msgspec.json.decode(await node.stdout.readline(), type=Load)


def _figures(rounds: Rounds) -> Mapping[str, Mapping[str, Spread]]:
    return {
        name: {field: spread([getattr(load, field) for load in loads]) for field in Load.__struct_fields__}
        for name, loads in rounds.items()
    }


def _ratios(rounds: Rounds, nodes: Mapping[int, Sequence[float]]) -> Mapping[str, float]:
    events_s = {name: spread([load.events_s for load in loads]).median for name, loads in rounds.items()}
    others = (name for name in events_s if not name.startswith("ours_"))
    ratios = {f"ours_over_{other}": events_s[f"ours_{other.rpartition('_')[2]}"] / events_s[other] for other in others}
    alone = spread(nodes[1]).median
    return ratios | {f"nodes_{number}_over_1": spread(nodes[number]).median / alone for number in NODES if number > 1}


def _reached(ratios: Mapping[str, float]) -> Mapping[str, Reached]:
    return {name: at_least(ratios[name], bound) for name, bound in BOUNDS.items()}


if __name__ == "__main__":
    side_by_side, several = asyncio.run(main())
    compared = _ratios(side_by_side, several)
    together = {f"nodes_{number}": {"events_s": spread(sums)} for number, sums in several.items()}
    finish(
        "log",
        figures={"rounds": ROUNDS, "seconds": SECONDS, **_figures(side_by_side), **together},
        ratios=compared,
        reached=_reached(compared),
    )
