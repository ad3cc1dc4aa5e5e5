"""`make bench-draws`: what comparing draws adds to an audit, on a log in which every escrow was drawn.

Each of BENCH_DRAWS escrows (2,000) lives the recorded life of 43 events with a link of its own. `whole` is an audit in
one process, `compared` what of it goes along the links, and `named` the same where a draw is in doubt, so that one of
four partitions is read again. BENCH_ROUNDS can be set.
"""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

import asyncpg
import msgspec

from actors.limit_events import new_limit_event
from domain.arbiters import DRAWS_STREAM, ChainCommitted, LinkTaken
from domain.draw import LINKS_MAX, ArbiterDraw, drawn, hashed
from domain.events import EscrowCreated
from domain.ids import EscrowId, OrderId, Sealed, UserId
from domain.limits import AnyLimitEvent
from eventstore.api import NewEvent
from eventstore.embedded import EmbeddedPostgres
from eventstore.opening import open_store
from ops.bench.life import Part, fill_with, whole_life
from ops.bench.report import at_most, finish, spread
from ops.bench.server import bench_server
from schemas.codec import decode, encode
from service.audit import verify, with_draws
from service.read_log import Read, reading_at

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
DRAWS = int(os.environ.get("BENCH_DRAWS", "2000"))
PARTITIONS = 4
ELIGIBLE = (UserId("judy"), UserId("mara"), UserId("noor"))
BOUNDS_MOST = {"compared_over_whole": 0.1}

Figures = Mapping[str, Sequence[float]]


async def main() -> Figures:
    """Returns the seconds of each part, round by round."""
    async with bench_server() as server:
        await _fill(server)
        figures: dict[str, list[float]] = defaultdict(list)
        async with reading_at(server.dsn) as read:
            for _ in range(ROUNDS):
                for name, seconds in (await _round(read)).items():
                    figures[name].append(seconds)
        return figures


async def _round(read: Read) -> Mapping[str, float]:
    begun = time.perf_counter()
    verified = await verify(read.log)
    whole = time.perf_counter()
    assert (verified.count, verified.links, verified.draws) == (0, DRAWS, DRAWS), verified
    assert await with_draws(read.log, verified) == verified
    compared = time.perf_counter()
    first, *rest = verified.drawn
    doubtful = (msgspec.structs.replace(first, draws=first.draws + 1), *rest)
    await with_draws(read.log, msgspec.structs.replace(verified, drawn=doubtful))
    named = time.perf_counter()
    return {"whole_s": whole - begun, "compared_s": compared - whole, "named_s": named - compared}


# -- the log -------------------------------------------------------------------------------------------------


async def _fill(server: EmbeddedPostgres) -> None:
    store = await open_store(dsn=server.dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id="bench")
    await store.aclose()
    connection = await asyncpg.connect(server.dsn)
    try:
        await fill_with(connection, _parts(), partitions=PARTITIONS)
        # What the server would do in the background sooner or later: not in the middle of a round.
        await connection.execute("vacuum analyze")
        await connection.execute("checkpoint")
    finally:
        await connection.close()


async def _parts() -> AsyncIterator[Part]:
    version = 1
    for created in _created():
        assert created.draw is not None
        chain, link, escrow_id = created.draw.chain, created.draw.link, created.terms.escrow_id
        events: list[AnyLimitEvent] = [LinkTaken(at=created.at, chain=chain, link=link, escrow_id=escrow_id)]
        if link == 1:
            anchor = created.draw.anchor
            events.insert(0, ChainCommitted(at=created.at, chain=chain, anchor=anchor, seed=Sealed("seed")))
        yield DRAWS_STREAM, version, [new_limit_event(event, meta={}) for event in events]
        yield escrow_id, 1, [_new(created), *whole_life()[1:]]
        version += len(events)


def _created() -> Iterator[EscrowCreated]:
    """Draws with one chain after the other, as the service would."""
    first = whole_life()[0]
    usual = decode(type=first.type, schema_version=first.schema_version, body=first.body)
    assert isinstance(usual, EscrowCreated)
    for number in range(DRAWS):
        chain, link = number // LINKS_MAX + 1, number % LINKS_MAX + 1
        if link == 1:
            hashes = [chain.to_bytes(32)]
            while len(hashes) <= LINKS_MAX:
                hashes.append(hashed(hashes[-1], times=1))
        secret, anchor = hashes[LINKS_MAX - link].hex(), hashes[-1].hex()
        draw = ArbiterDraw(chain=chain, anchor=anchor, link=link, secret=secret, eligible=ELIGIBLE, excluded={})
        names = {"escrow_id": EscrowId(f"esc_{number}"), "order_id": OrderId(f"order-{number}")}
        terms = msgspec.structs.replace(usual.terms, **names)
        arbiter_id = drawn(terms, secret=secret, eligible=ELIGIBLE)
        terms = msgspec.structs.replace(terms, arbiter_id=arbiter_id)
        yield msgspec.structs.replace(usual, terms=terms, draw=draw)


def _new(created: EscrowCreated) -> NewEvent:
    written = encode(created)
    return NewEvent(
        type=written.type,
        schema_version=written.schema_version,
        occurred_at=created.at,
        meta=whole_life()[0].meta,
        body=written.body,
    )


if __name__ == "__main__":
    measured = asyncio.run(main())
    middle = {name: spread(values) for name, values in measured.items()}
    ratios = {
        "compared_over_whole": middle["compared_s"].median / middle["whole_s"].median,
        "named_over_whole": middle["named_s"].median / middle["whole_s"].median,
    }
    finish(
        "draws",
        figures={"rounds": ROUNDS, "draws": DRAWS, **middle},
        ratios=ratios,
        reached={name: at_most(ratios[name], bound) for name, bound in BOUNDS_MOST.items()},
    )
