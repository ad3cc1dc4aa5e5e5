"""A process that rotates keys and is killed in the middle of it."""

import asyncio
import os
import signal

from eventstore.opening import open_store
from eventstore.rotation import rotate
from tests.patience import PATIENT

BATCH = 7


def rotate_and_die(dsn: str, new: bytes, old: bytes, after: int) -> None:
    """Rotates in small batches and kills itself once so many keys are wrapped anew."""
    asyncio.run(_rotate(dsn, new, old, after))


async def _rotate(dsn: str, new: bytes, old: bytes, after: int) -> None:
    store = await open_store(
        dsn=dsn, encryption_key=new, other_keys=(old,), partitions=4, node_id="rotating", limits=PATIENT
    )

    def die(done: int, _: int) -> None:
        if done >= after:
            os.kill(os.getpid(), signal.SIGKILL)

    await rotate(store.keys, store.ring, batch_max=BATCH, progress=die)
