"""The runner of a read model ends when it is told to, whatever else happens at that moment."""

import asyncio

from eventstore.opening import memory_store
from projections.escrows import Escrows
from projections.runner import Runner


async def test_a_wake_at_the_same_moment_does_not_swallow_the_end() -> None:
    runner = Runner(memory_store(partitions=1).log, Escrows(), poll_s=60)
    running = asyncio.get_running_loop().create_task(runner.run())
    await asyncio.sleep(0.01)
    runner.notify()
    await asyncio.sleep(0)  # what waits for the wake is done, the runner has not heard of it yet
    running.cancel()
    done, _ = await asyncio.wait({running}, timeout=1)
    running.cancel()
    assert done == {running}
