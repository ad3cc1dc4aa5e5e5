"""The hub behind an index that is late: nothing is handed out that the index does not know."""

import asyncio

from prometheus_client import CollectorRegistry

from actors.clock import SystemClock
from eventstore.opening import memory_store
from service.stream.hub import Hub
from service.stream.metrics import StreamMetrics
from service.stream.session import StreamLimits
from tests.sim_world import until_true
from tests.stream_world import append, created, escrow_id_of, noise

MINE = escrow_id_of(1)


class LateIndex:
    """An index that passes a position when the test lets it."""

    def __init__(self):
        self.positions, self._moved = [0], asyncio.Event()
        self.asked = asyncio.Event()

    async def reached(self, *, partition, position, timeout_s):
        self.asked.set()
        while self.positions[partition] < position:
            await self._moved.wait()
            self._moved.clear()
        return True

    async def escrows_of(self, user):
        return [MINE]

    def move(self, position):
        self.positions = [position]
        self._moved.set()


def hub_over(store, index, problems):
    metrics, clock = StreamMetrics(CollectorRegistry()), SystemClock()
    return Hub(store.log, index, clock=clock, limits=StreamLimits(), metrics=metrics, on_broken=problems.append)


async def test_a_position_is_handed_out_only_when_the_index_has_passed_it():
    store, index = memory_store(partitions=1), LateIndex()
    hub = hub_over(store, index, [])
    await hub.start()
    await append(store, MINE, 0, created(MINE))
    await index.asked.wait()
    await asyncio.sleep(0.01)
    assert hub.place == (0,)
    index.move(1)
    await hub.passed((1,))
    await hub.stop()


async def test_it_begins_where_the_index_is():
    store, index = memory_store(partitions=1), LateIndex()
    await append(store, MINE, 0, created(MINE), noise())
    index.move(1)
    hub = hub_over(store, index, [])
    await hub.start()
    assert hub.place == (1,)
    index.move(2)
    await hub.passed((2,))
    await hub.stop()


async def test_a_hub_that_breaks_says_so_and_takes_no_more_sockets():
    store, index = memory_store(partitions=1), LateIndex()
    problems: list[str] = []
    hub = hub_over(store, index, problems)

    async def broken(**_):
        raise ArithmeticError

    index.reached = broken  # type: ignore[method-assign]
    await hub.start()
    await append(store, MINE, 0, created(MINE))
    await until_true(lambda: bool(problems))
    assert problems == ["stream-hub ended: ArithmeticError"]
    await hub.stop()
