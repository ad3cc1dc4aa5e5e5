"""What a node remembers of the log from one append to the next is never believed when it is no longer so."""

import asyncio

from msgspec.structs import replace

from eventstore.api import AlreadyDone, Appended, Conflict
from tests.contract.test_log import event, item
from tests.patience import PATIENT


async def test_a_version_remembered_is_not_believed_once_another_node_appended(store_world):
    here, there = await store_world.open(), await store_world.open()
    await here.log.append(item("s", 0, event()))
    await there.log.append(item("s", 1, event()))
    assert await here.log.append(item("s", 1, event())) == Conflict(actual_version=2)
    assert isinstance(await here.log.append(item("s", 2, event())), Appended)
    assert [each.version for each in await there.log.read_stream("s")] == [1, 2, 3]


async def test_a_version_ahead_of_the_stream_leaves_no_gap_on_any_node(store_world):
    here, there = await store_world.open(), await store_world.open()
    await here.log.append(item("s", 0, event()))
    for node in (here, there):
        assert await node.log.append(item("s", 2, event())) == Conflict(actual_version=1)
        assert await node.log.append(item("t", 1, event())) == Conflict(actual_version=0)
    assert [each.version for each in await here.log.read_stream("s")] == [1]


async def test_an_old_command_behind_a_new_one_of_its_stream_is_already_done(store_world):
    store = await store_world.open()
    old = item("s", 0, event())
    await store.log.append(old)
    new, again = await asyncio.gather(store.log.append(item("s", 1, event())), store.log.append(old))
    assert isinstance(new, Appended) and isinstance(again, AlreadyDone)


async def test_a_command_that_another_node_did_without_events_is_already_done(store_world):
    here, there = await store_world.open(), await store_world.open()
    await here.log.append(item("s", 0, event()))
    refused = item("s", 1)
    assert isinstance(await there.log.append(refused), Appended)
    assert isinstance(await here.log.append(refused), AlreadyDone)


async def test_more_streams_than_are_remembered_append_as_well(store_world):
    store = await store_world.open(limits=replace(PATIENT, append_versions_max=1))
    for version in range(3):
        outcomes = await asyncio.gather(*(store.log.append(item(f"s{n}", version, event())) for n in range(6)))
        assert [outcome.version for outcome in outcomes] == [version + 1] * 6
