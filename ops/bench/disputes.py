"""`make bench-disputes`: pages of an arbiter's cases and of one case through the API, and rebuilding what they show.

BENCH_CASES (10,000) cases of one arbiter with BENCH_MESSAGES (20) messages each, written so that all conversations go
on side by side. Pages are asked over HTTP of a service on the same log, warm, one at a time and at random. The
models of cases are rebuilt and, beside it, the same log is read, decoded and folded in memory and nothing is written:
the ceiling. `…_a_cpu_s` counts the seconds in which this process, not Postgres, had a core. BENCH_ROUNDS (3),
BENCH_PAGES (1,000) of each kind.
"""

import asyncio
import logging
import os
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

import aiohttp
import asyncpg
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from domain.ids import UserId
from eventstore.opening import Store, open_store
from ops.bench.cases import ARBITER, buyer_of, case_of, conversations, escrow_of
from ops.bench.life import fill_with
from ops.bench.replays import median_ms
from ops.bench.report import at_least, at_most, finish, spread
from ops.bench.server import bench_server
from ops.bench.stream import stream_server
from projections.folds import ESCROW_STREAM, Standing, advance
from projections.models import MODELS
from projections.opening import open_models
from projections.rebuild import rebuild
from service.auth import issue_token

CASES = int(os.environ.get("BENCH_CASES", "10000"))
MESSAGES = int(os.environ.get("BENCH_MESSAGES", "20"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
PAGES = int(os.environ.get("BENCH_PAGES", "1000"))
PARTITIONS = 4
PAGE = 2_000
MODELS_OF_CASES = ("disputes", "messages")
PAGE_P99_MS = 50
REBUILD_EVENTS_S = 20_000

Figures = dict[str, list[float]]


def _quietly() -> None:
    """Leaves a line for each request out: it is not what is timed here."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


async def main() -> tuple[int, Figures]:
    """Returns the number of events, and every figure round by round."""
    _quietly()
    figures: Figures = defaultdict(list)
    async with bench_server() as server:
        store = await open_store(dsn=server.dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id="bench")
        connection = await asyncpg.connect(server.dsn)
        parts = conversations(store.vault, cases=CASES, messages=MESSAGES)
        events = await fill_with(connection, parts, partitions=PARTITIONS)
        await connection.execute("vacuum analyze")
        for _ in range(ROUNDS):
            used = time.process_time()
            figures["rebuild_events_s"].append(events / await _rebuilt(store, MODELS_OF_CASES))
            figures["rebuild_events_a_cpu_s"].append(events / (time.process_time() - used))
            figures["fold_events_s"].append(events / await _folded(store))
        figures["rebuild_all_events_s"].append(events / await _rebuilt(store, tuple(MODELS)))
        await connection.execute("vacuum analyze")
        await connection.close()
        issuer = Ed25519PrivateKey.generate()
        async with stream_server(store, issuer) as port:
            for _ in range(ROUNDS):
                await _pages(f"http://127.0.0.1:{port}/api/disputes", issuer, figures)
        await store.aclose()
    return events, figures


async def _rebuilt(store: Store, models: Sequence[str]) -> float:
    tables, _ = open_models(store)
    begun = time.perf_counter()
    await rebuild(store.log, tables, models)
    return time.perf_counter() - begun


async def _folded(store: Store) -> float:
    """Reads, decodes and folds everything, and makes the rows of where it all stands in the end."""
    begun = time.perf_counter()
    for partition in range(PARTITIONS):
        standings: dict[str, Standing] = {}
        position = 0
        while page := await store.log.read_partition(partition, after_position=position, limit=PAGE):
            for each in page:
                assert each.stream_id.startswith(ESCROW_STREAM)
                known = standings.get(each.stream_id) or Standing(escrow_id=escrow_of(int(each.stream_id[4:], 16)))
                standings[each.stream_id] = advance(known, each)
            position = page[-1].position
        for standing in standings.values():
            assert standing.stop is None, standing.stop
            for model in MODELS_OF_CASES:
                assert MODELS[model].rows(standing)
    return time.perf_counter() - begun


# -- pages -----------------------------------------------------------------------------------------------------


async def _pages(at: str, issuer: Ed25519PrivateKey, figures: Figures) -> None:
    rng = random.Random(len(figures["case_p99_ms"]))
    asked: Mapping[str, Sequence[tuple[UserId, str]]] = {
        "list": [(ARBITER, "/arbiter") for _ in range(PAGES)],
        "list_by_status": [(ARBITER, "/arbiter?status=open") for _ in range(PAGES)],
        "list_further": [(ARBITER, f"/arbiter?after={case_of(rng.randrange(1, CASES))}") for _ in range(PAGES)],
        "search": [(ARBITER, f"/arbiter?status=all&q=order-{rng.randrange(CASES)}") for _ in range(PAGES)],
        "case": [(buyer_of(n), f"/{case_of(n)}") for n in (rng.randrange(CASES) for _ in range(PAGES))],
    }
    async with aiohttp.ClientSession() as session:
        for kind, questions in asked.items():
            took = [await _timed(session, at + path, issuer, user) for user, path in questions]
            warm = sorted(took[len(took) // 10 :])
            figures[f"{kind}_p50_ms"].append(median_ms(warm))
            figures[f"{kind}_p99_ms"].append(round(warm[len(warm) * 99 // 100] * 1000, 3))


async def _timed(session: aiohttp.ClientSession, url: str, issuer: Ed25519PrivateKey, user: UserId) -> float:
    token = issue_token(issuer, sub=user, ttl_s=600)
    begun = time.perf_counter()
    async with session.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
        text = await answer.read()
        assert answer.status == 200, text
    return time.perf_counter() - begun


if __name__ == "__main__":
    total, measured = asyncio.run(main())
    middle = {name: spread(values).median for name, values in measured.items()}
    finish(
        "disputes",
        figures={
            "rounds": ROUNDS,
            "cases": CASES,
            "messages": MESSAGES,
            "events": total,
            **{name: spread(values) for name, values in measured.items()},
        },
        ratios={"rebuild_over_fold": middle["rebuild_events_s"] / middle["fold_events_s"]},
        reached={f"{kind}_p99_ms": at_most(middle[f"{kind}_p99_ms"], PAGE_P99_MS) for kind in ("list", "case")}
        | {"rebuild_events_s": at_least(middle["rebuild_events_s"], REBUILD_EVENTS_S)},
    )
