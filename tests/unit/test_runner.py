"""The runner of the read models ends when it is told to, whatever else happens at that moment."""

import asyncio

from eventstore.opening import memory_store
from projections.opening import open_models
from projections.runner import Runner


async def test_a_wake_at_the_same_moment_does_not_swallow_the_end() -> None:
    store = memory_store(partitions=1)
    runner = Runner(store.log, open_models(store)[0], poll_s=60)
    running = asyncio.get_running_loop().create_task(runner.run())
    await asyncio.sleep(0.01)
    runner.notify()
    await asyncio.sleep(0)  # what waits for the wake is done, the runner has not heard of it yet
    running.cancel()
    done, _ = await asyncio.wait({running}, timeout=60)
    running.cancel()
    assert done == {running}
