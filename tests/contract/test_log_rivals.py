"""Several nodes on one partition: whoever comes second is written behind the first, and works nothing out again."""

import asyncio

from eventstore.api import Appended, Conflict
from eventstore.chain import GENESIS, verify_chain
from tests.contract.test_log import event, item, whole


async def test_nodes_that_take_turns_write_one_chain(store_world):
    nodes = [await store_world.open() for _ in range(3)]
    for version in range(12):
        for n, node in enumerate(nodes):
            outcomes = await asyncio.gather(*(node.log.append(item(f"{n}-{k}", version, event())) for k in range(3)))
            for outcome in outcomes:
                assert isinstance(outcome, Appended)
                (written,) = outcome.events
                assert [written] == list(await node.log.read_stream(written.stream_id, after_version=version))
    for partition in range(store_world.partitions):
        events = await whole(nodes[0], partition)
        assert verify_chain(GENESIS, events) == (await nodes[0].log.heads())[partition].chain


async def test_a_version_remembered_from_before_a_rival_is_not_believed_for_a_receipt_alone(store_world):
    here, there = await store_world.open(), await store_world.open()
    partition = here.log.partition_of("s")
    other = next(name for name in map(str, range(99)) if here.log.partition_of(name) == partition)
    await here.log.append(item("s", 0, event()))
    await there.log.append(item("s", 1, event()))
    # This moves the head past what the rival did, and says nothing of the stream.
    assert isinstance(await here.log.append(item(other, 0, event())), Appended)
    assert await here.log.append(item("s", 1)) == Conflict(actual_version=2)


async def test_a_node_whose_rival_is_gone_goes_on_as_alone(store_world):
    here, there = await store_world.open(), await store_world.open()
    await here.log.append(item("s", 0, event()))
    await there.log.append(item("s", 1, event()))
    for version in range(2, 24):
        assert isinstance(await here.log.append(item("s", version, event())), Appended)
    verify_chain(GENESIS, await whole(here, here.log.partition_of("s")))


async def test_an_item_twice_in_a_group_behind_a_rival_has_the_receipt_that_was_written(store_world):
    here, there = await store_world.open(), await store_world.open()
    await here.log.append(item("s", 0, event()))
    await there.log.append(item("s", 1, event()))
    await here.log.append(item("s", 2, event()))
    twice = item("s", 3, event(), event())
    first, again = await asyncio.gather(here.log.append(twice), here.log.append(twice))
    kept = await there.log.receipt(stream_id="s", command_id=twice.command_id)
    assert (first.position, first.version) == (kept.position, kept.version)
    assert again.receipt == kept
