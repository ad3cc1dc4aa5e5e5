"""Readers of a growing log: nothing skipped, nothing twice, whoever writes and however often they begin again."""

import asyncio
import random
from typing import Any

import pytest

from eventstore.api import Append, NewEvent
from eventstore.memory import MemoryTables
from eventstore.opening import memory_store
from eventstore.subscription import LogGap, Subscription

EVENTS = 160
NEVER_S = 3_600.0


def item(stream, version):
    event = NewEvent(type="counted", schema_version=1, occurred_at=version, meta=b"{}", body=b"%d" % version)
    command_id = random.Random(f"{stream} {version}").randbytes(32).hex()
    return Append(stream_id=stream, expected_version=version, events=(event,), command_id=command_id)


async def write(store, *, writer, count):
    """Appends to streams of its own, several at once."""

    async def one(stream):
        for version in range(count // 4):
            await store.log.append(item(f"{writer}-{stream}", version))

    await asyncio.gather(*(one(stream) for stream in range(4)))


async def drain(reader):
    seen: list[Any] = []
    while page := await reader.pull():
        seen.extend(page)
    return seen


async def follow(reader, *, count):
    seen: list[Any] = []
    async with asyncio.timeout(60):
        while len(seen) < count:
            seen.extend(await drain(reader))
            if len(seen) < count:
                await reader.wait()
    return seen


def places(events):
    return [(each.partition, each.position) for each in events]


def assert_whole(events, store_world, *, count):
    assert len(events) == count
    for partition in range(store_world.partitions):
        mine = [position for where, position in places(events) if where == partition]
        assert mine == list(range(1, len(mine) + 1))


async def test_readers_beside_writers_on_two_nodes_skip_and_repeat_nothing(store_world):
    first, second = await store_world.open(), await store_world.open(node_id="m")
    readers = [Subscription(store.log, page_max=7) for store in (first, second)]
    *_, here, there = await asyncio.gather(
        write(first, writer="a", count=EVENTS // 2),
        write(second, writer="b", count=EVENTS // 2),
        *(follow(reader, count=EVENTS) for reader in readers),
    )
    for seen in (here, there):
        assert_whole(seen, store_world, count=EVENTS)


async def test_a_reader_that_begins_again_at_its_positions_goes_on_where_it_was(store_world):
    store = await store_world.open()
    draw = random.Random(store_world.partitions)
    writing = asyncio.create_task(write(store, writer="a", count=EVENTS))
    seen: list[Any] = []
    positions = None
    async with asyncio.timeout(60):
        while len(seen) < EVENTS:
            reader = Subscription(store.log, after=positions, page_max=draw.randint(1, 9))
            for _ in range(draw.randint(1, 4)):
                seen.extend(await reader.pull())
            positions = dict(reader.positions)
            reader.close()
            await asyncio.sleep(0)
    await writing
    assert_whole(seen, store_world, count=EVENTS)


async def test_a_commit_of_another_node_wakes_a_reader_long_before_its_poll(store_world):
    writer, other = await store_world.open(), await store_world.open(node_id="m")
    reader = Subscription(other.log, poll_s=NEVER_S)
    assert await drain(reader) == []
    for version in range(3):
        await writer.log.append(item("s", version))
        assert [each.version for each in await follow(reader, count=1)] == [version + 1]


async def test_a_wake_that_comes_between_the_last_pull_and_the_wait_is_not_lost(store_world):
    store = await store_world.open()
    reader = Subscription(store.log, poll_s=NEVER_S)
    assert await drain(reader) == []
    await store.log.append(item("s", 0))
    async with asyncio.timeout(30):
        await reader.wait()
    assert len(await drain(reader)) == 1


async def test_without_any_wake_a_reader_finds_everything_by_polling(store_world):
    store, other = await store_world.open(), await store_world.open(node_id="m")
    reader = Subscription(other.log, poll_s=0.01)
    reader.close()
    writing = asyncio.create_task(write(store, writer="a", count=EVENTS))
    assert_whole(await follow(reader, count=EVENTS), store_world, count=EVENTS)
    await writing


async def test_a_long_partition_keeps_no_other_waiting():
    store = memory_store(partitions=4)
    for version in range(40):
        await store.log.append(item("long", version))
    short = next(f"s{n}" for n in range(99) if store.log.partition_of(f"s{n}") != store.log.partition_of("long"))
    await store.log.append(item(short, 0))
    reader = Subscription(store.log, page_max=5)
    two_pages = [*await reader.pull(), *await reader.pull()]
    assert short in {each.stream_id for each in two_pages}


async def test_a_cancelled_wait_ends_even_when_a_wake_comes_with_it():
    store = memory_store(partitions=1)
    reader = Subscription(store.log, poll_s=NEVER_S)
    waiting = asyncio.create_task(reader.wait())
    await asyncio.sleep(0)
    reader.notify()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_hole_in_the_log_is_never_passed_over():
    tables = MemoryTables(partitions=1)
    store = memory_store(partitions=1, tables=tables)
    for version in range(3):
        await store.log.append(item("s", version))
    del tables.events[0][1]
    reader = Subscription(store.log)
    with pytest.raises(LogGap):
        await reader.pull()
    assert dict(reader.positions) == {0: 0}


async def test_a_closed_subscription_is_not_woken_any_more():
    store = memory_store(partitions=1)
    reader, other = (Subscription(store.log, poll_s=NEVER_S) for _ in range(2))
    reader.close()
    await store.log.append(item("s", 0))
    await other.wait()
    still = asyncio.create_task(reader.wait())
    await asyncio.sleep(0.01)
    assert not still.done()
    still.cancel()
    await asyncio.gather(still, return_exceptions=True)


@pytest.mark.parametrize("after", [{4: 0}, {-1: 0}, {0: -1}])
def test_positions_that_no_log_has_are_refused(after):
    async def subscribe():
        Subscription(memory_store(partitions=4).log, after=after)

    with pytest.raises(ValueError, match="positions of partitions"):
        asyncio.run(subscribe())
