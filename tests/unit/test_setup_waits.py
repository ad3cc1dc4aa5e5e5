"""Waiting for set-ups: one reader for all, which misses nothing and rests when nobody waits."""

import asyncio
from collections.abc import Sequence
from typing import Any

from domain import events as e
from domain.ids import EscrowId, Micros
from eventstore.api import LogUnavailable, Recorded
from eventstore.memory import MemoryLog, MemoryTables
from eventstore.opening import Store, memory_store
from service.setup_waits import SetupWaits
from tests.patience import PATIENCE_S
from tests.stream_world import append, created, escrow_id_of, noise

LONG_S = 2 * PATIENCE_S


def cancelled() -> e.Cancelled:
    return e.Cancelled(at=Micros(9), by=None, reason="pending_timeout")


async def begun(store: Store, count: int) -> dict[EscrowId, int]:
    """Creates escrows and names their positions."""
    escrows = [escrow_id_of(number) for number in range(count)]
    return {each: (await append(store, each, 0, created(each))).position for each in escrows}


async def test_who_waits_hears_when_the_last_has_ended_and_not_before() -> None:
    store = memory_store(partitions=4)
    waits, places = SetupWaits(store.log, waiting_max=99), await begun(store, 5)
    waiting = asyncio.create_task(waits.ended(places, timeout_s=LONG_S))
    for escrow_id in places:
        assert not waiting.done()
        await append(store, escrow_id, 1, noise(), noise())
        await append(store, escrow_id, 3, cancelled())
    async with asyncio.timeout(PATIENCE_S):
        await waiting


async def test_who_comes_after_the_end_hears_it_at_once_though_others_have_read_past_it() -> None:
    store = memory_store(partitions=1)
    waits, places = SetupWaits(store.log, waiting_max=99), await begun(store, 2)
    one, two = places
    early = asyncio.create_task(waits.ended(places, timeout_s=LONG_S))
    async with asyncio.timeout(PATIENCE_S):
        await append(store, one, 1, cancelled())
        await waits.ended({one: places[one]}, timeout_s=LONG_S)
        await waits.ended({one: places[one]}, timeout_s=LONG_S)
        assert not early.done()
        await append(store, two, 1, cancelled())
        await early


async def test_when_time_is_up_nobody_waits_any_longer_and_nothing_is_read() -> None:
    store = memory_store(partitions=4)
    waits = SetupWaits(store.log, waiting_max=2)
    for _ in range(3):  # more than may wait at once: each has made room for the next
        await waits.ended(await _one(store), timeout_s=0.01)
    async with asyncio.timeout(PATIENCE_S):
        while waits.reading:
            await asyncio.sleep(0.01)


async def test_beyond_the_bound_nobody_waits() -> None:
    store = memory_store(partitions=4)
    waits = SetupWaits(store.log, waiting_max=4)
    async with asyncio.timeout(PATIENCE_S):
        await waits.ended(await begun(store, 5), timeout_s=LONG_S)
        await waits.ended({}, timeout_s=LONG_S)


async def test_a_log_that_did_not_answer_is_asked_again_though_nobody_wakes_the_reader() -> None:
    tables = MemoryTables(partitions=1)
    store, flaky = memory_store(partitions=1, tables=tables), Flaky(tables)
    waits, places = SetupWaits(flaky, waiting_max=99), await begun(store, 1)
    await append(store, next(iter(places)), 1, cancelled())
    async with asyncio.timeout(PATIENCE_S):
        await waits.ended(places, timeout_s=LONG_S)
    assert flaky.failures == 0


class Flaky(MemoryLog):
    """A log whose database does not answer the first time."""

    failures = 1

    async def read_streams(self, *streams: Any, **where: Any) -> Sequence[Recorded]:
        if self.failures:
            self.failures -= 1
            raise LogUnavailable("away")
        return await super().read_streams(*streams, **where)


async def test_once_stopped_everybody_goes() -> None:
    store = memory_store(partitions=4)
    waits, places = SetupWaits(store.log, waiting_max=99), await begun(store, 3)
    waiting = asyncio.create_task(waits.ended(places, timeout_s=LONG_S))
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await waits.stop()
        await waiting
        await waits.ended(places, timeout_s=LONG_S)
    assert not waits.reading


async def _one(store: Store) -> dict[EscrowId, int]:
    number = sum(head.position for head in await store.log.heads())
    escrow_id = escrow_id_of(number)
    return {escrow_id: (await append(store, escrow_id, 0, created(escrow_id))).position}
