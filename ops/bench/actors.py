"""`make bench-actors`: escrow actors on the event loop against as many Pykka actors, each on a thread of its own.

All are resident at once in this process. What an escrow actor costs is what tracemalloc sees of a directory full of
them, less what their states cost when they are merely kept. An ask brings one message to one actor, round the
directory, and waits for its answer; both sides answer with a state they have in memory. The sides take turns. The bound
is for asks one after another; waves of asks that wait together are measured beside it, where each of ours also pays for
a task of its asker. BENCH_ACTORS asks for another number of actors.
"""

import asyncio
import gc
import os
import resource
import time
import tracemalloc
from collections.abc import Awaitable

import pykka

from actors.clock import SystemClock
from actors.directory import Directory
from actors.escrow import EscrowActor, GetState, Snapshot
from domain.commands import CreateEscrow
from domain.decide import decide
from domain.evolve import fold
from domain.ids import EscrowId, Micros, OrderId, UserId
from domain.money import Atomic
from domain.refusals import Refused
from domain.roles import THREE, SeatKind
from domain.states import Escrow
from domain.terms import Policy, Terms
from eventstore.api import Append, Appended, EventLog, NewEvent
from eventstore.opening import memory_store
from ops.bench.report import at_least, at_most, finish, spread
from schemas.codec import decode, encode

ACTORS = int(os.environ.get("BENCH_ACTORS", "10000"))
THREADS_FALLBACK = 1_000
ROUNDS = 7
ASKS = 2_500
"""Of each side in each round and shape."""
WAVE = 500
BYTES_BOUND, RATIO_BOUND = 10_000.0, 8.0
TIMEOUT_S = 60.0


class Threaded(pykka.ThreadingActor):
    """What an escrow actor is asked for, on a thread."""

    def __init__(self, state: Escrow | None) -> None:
        super().__init__()
        self._state = state

    def on_receive(self, message: object) -> Snapshot:
        """Answers as an escrow actor does."""
        assert isinstance(message, GetState)
        return Snapshot(state=self._state, position=1)


async def main() -> None:
    """Measures, prints the line and ends the program."""
    log = memory_store(partitions=4).log
    ids = [await _created(log, number) for number in range(ACTORS)]
    directory, state_bytes, actor_bytes = await _residents(log, ids)
    threads = _threads(await _state(log, ids[0]))
    compared = ids[: len(threads)]
    gc.freeze()  # the log in memory stands in for a database: no collector would ever walk through that
    one, wave = await _rounds(directory, compared, threads)
    _ended(threads)
    await directory.stop_all(timeout_s=TIMEOUT_S)
    beyond = (actor_bytes - state_bytes) / len(ids)
    ratios = {"one_after_another": _ratio(*one), "waves": _ratio(*wave)}
    finish(
        "actors",
        figures={
            "resident_actors": len(ids),
            "threads_beside_them": len(threads),
            "state_bytes": state_bytes // len(ids),
            "asks_per_s": {"escrow_actors": spread(one[0]), "pykka_threads": spread(one[1])},
            "asks_per_s_in_waves": {"escrow_actors": spread(wave[0]), "pykka_threads": spread(wave[1])},
            "process_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        },
        ratios=ratios,
        reached={
            "bytes_each_beyond_state": at_most(beyond, BYTES_BOUND),
            "asks_one_after_another": at_least(ratios["one_after_another"], RATIO_BOUND),
        },
    )


def _ratio(ours: list[float], threads: list[float]) -> float:
    return spread(ours).median / spread(threads).median


# -- who is resident -----------------------------------------------------------------------------------------


async def _created(log: EventLog, number: int) -> EscrowId:
    terms = Terms(
        escrow_id=EscrowId(f"esc_{number:032x}"),
        order_id=OrderId(f"order-{number}"),
        buyer_id=UserId("alice"),
        vendor_id=UserId("bob"),
        arbiter_id=UserId("judy"),
        amount=Atomic(1_000_000_000_000),
        network="regtest",
        seats=dict.fromkeys(THREE, SeatKind.POOL),
        policy=Policy(),
    )
    events = decide(None, CreateEscrow(at=Micros(1), terms=terms, by=terms.buyer_id))
    assert not isinstance(events, Refused)
    written = [(encode(event), event.at) for event in events]
    new = [
        NewEvent(type=each.type, schema_version=each.schema_version, occurred_at=at, meta=b"{}", body=each.body)
        for each, at in written
    ]
    item = Append(stream_id=terms.escrow_id, expected_version=0, events=tuple(new), command_id=f"{number:064x}")
    assert isinstance(await log.append(item), Appended)
    return terms.escrow_id


async def _state(log: EventLog, escrow_id: EscrowId) -> Escrow | None:
    recorded = await log.read_stream(escrow_id)
    return fold([decode(type=each.type, schema_version=each.schema_version, body=each.body) for each in recorded])


async def _residents(log: EventLog, ids: list[EscrowId]) -> tuple[Directory[EscrowId], int, int]:
    """Wakes an actor for each id; returns them with the bytes of their states alone and of all of them."""
    clock = SystemClock()
    directory: Directory[EscrowId] = Directory(
        lambda escrow_id: EscrowActor(escrow_id, event_log=log, clock=clock),
        clock=clock,
        on_parked=lambda escrow_id, failure: None,
        resident_max=len(ids),
    )
    tracemalloc.start()
    states, before = [], _traced()
    for escrow_id in ids:
        states.append(await _state(log, escrow_id))
    state_bytes, before = _traced() - before, _traced()
    for escrow_id in ids:
        await directory.ask(escrow_id, GetState(), timeout_s=TIMEOUT_S)
    actor_bytes = _traced() - before
    tracemalloc.stop()
    assert directory.counts().resident == len(ids) == len(states)
    return directory, state_bytes, actor_bytes


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _threads(state: Escrow | None) -> list[pykka.ActorRef[Threaded]]:
    """Starts as many Pykka actors, or a tenth of them where the system has no more threads to give."""
    started: list[pykka.ActorRef[Threaded]] = []
    try:
        for _ in range(ACTORS):
            started.append(Threaded.start(state))
    except RuntimeError:
        _ended(started[THREADS_FALLBACK:])
        return started[:THREADS_FALLBACK]
    return started


def _ended(threads: list[pykka.ActorRef[Threaded]]) -> None:
    for stopping in [thread.stop(block=False) for thread in threads]:
        stopping.get(timeout=TIMEOUT_S)


# -- asks ----------------------------------------------------------------------------------------------------

Sides = tuple[list[float], list[float]]


async def _rounds(
    directory: Directory[EscrowId], ids: list[EscrowId], threads: list[pykka.ActorRef[Threaded]]
) -> tuple[Sides, Sides]:
    """Returns asks per second of the escrow actors and of the threads: one after another, and in waves."""
    one: Sides = ([], [])
    wave: Sides = ([], [])
    for number in range(ROUNDS):
        places = [(number * ASKS + n) % len(ids) for n in range(ASKS)]
        asked, threaded = [ids[at] for at in places], [threads[at] for at in places]
        one[0].append(await _timed(_ours_one(directory, asked)))
        one[1].append(await _timed(_threads_one(threaded)))
        wave[0].append(await _timed(_ours_wave(directory, asked)))
        wave[1].append(await _timed(_threads_wave(threaded)))
    return one, wave


async def _timed(work: Awaitable[None]) -> float:
    begun = time.perf_counter()
    await work
    return ASKS / (time.perf_counter() - begun)


async def _ours_one(directory: Directory[EscrowId], ids: list[EscrowId]) -> None:
    for escrow_id in ids:
        await directory.ask(escrow_id, GetState(), timeout_s=TIMEOUT_S)


async def _ours_wave(directory: Directory[EscrowId], ids: list[EscrowId]) -> None:
    for at in range(0, len(ids), WAVE):
        wave = [directory.ask(escrow_id, GetState(), timeout_s=TIMEOUT_S) for escrow_id in ids[at : at + WAVE]]
        await asyncio.gather(*wave)


async def _threads_one(threads: list[pykka.ActorRef[Threaded]]) -> None:
    for thread in threads:
        thread.ask(GetState(), timeout=TIMEOUT_S)


async def _threads_wave(threads: list[pykka.ActorRef[Threaded]]) -> None:
    for at in range(0, len(threads), WAVE):
        asked = [thread.ask(GetState(), block=False) for thread in threads[at : at + WAVE]]
        for future in asked:
            future.get(timeout=TIMEOUT_S)


if __name__ == "__main__":
    asyncio.run(main())
