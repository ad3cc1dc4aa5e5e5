"""Rotation: every key wrapped anew under the current `ENCRYPTION_KEY`, in batches, while the service runs."""

from collections.abc import Callable, Mapping

import msgspec

from eventstore.api import SealBroken
from eventstore.keys import KeyRing, KeyStore, Rewrapped, StoredKey

BATCH_MAX = 500
"""Keys wrapped anew by one statement."""

Progress = Callable[[int, int], None]
"""Told how many keys are wrapped anew, of how many there were to do when it began."""


class Rotated(msgspec.Struct, frozen=True, kw_only=True):
    """What a rotation came to."""

    rewrapped: int
    left: Mapping[str, int]
    """Keys that another `ENCRYPTION_KEY` still wraps, by its fingerprint; empty when rotation is done."""


async def rotate(
    keys: KeyStore, ring: KeyRing, *, batch_max: int = BATCH_MAX, progress: Progress | None = None
) -> Rotated:
    """Wraps anew what another key of the ring wraps. Stopped anywhere and begun again it goes on where it was.

    A key that the ring cannot open stays as it is, and so does one that somebody else changed meanwhile: both are
    counted in `left` if another `ENCRYPTION_KEY` wraps them at the end. Raises `LogUnavailable`.
    """
    total, done = sum((await _left(keys, ring)).values()), 0
    for partition in range(keys.partitions):
        after = ""
        while page := await keys.wrapped_otherwise(ring.current_id, partition=partition, after=after, limit=batch_max):
            done += await keys.rewrap([new for each in page if (new := _rewrapped(ring, each))])
            after = page[-1].stream_id
            if progress:
                progress(done, max(total, done))
    return Rotated(rewrapped=done, left=await _left(keys, ring))


async def _left(keys: KeyStore, ring: KeyRing) -> Mapping[str, int]:
    return {key_id: count for key_id, count in (await keys.wrapped_by()).items() if key_id != ring.current_id}


def _rewrapped(ring: KeyRing, stored: StoredKey) -> Rewrapped | None:
    try:
        key = ring.unwrap(stored.stream_id, stored.key)
    except SealBroken:
        return None
    return Rewrapped(read=stored, key=ring.wrap(stored.stream_id, key))
