"""Pages that wait for their case to move, so that they are drawn anew when there is something new."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Moves:
    """Wakes whoever waits for a stream to move; one in a node, told by the hub of the event stream."""

    def __init__(self, *, waits_max: int) -> None:
        self._waits_max = waits_max
        self._waits: dict[str, set[asyncio.Event]] = {}

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return sum(len(each) for each in self._waits.values())

    def note(self, stream_id: str) -> None:
        """Wakes those who wait for a stream."""
        for moved in self._waits.get(stream_id, ()):
            moved.set()

    @contextmanager
    def listening(self, stream_id: str) -> Iterator[asyncio.Event | None]:
        """Gives what is set when the stream moves from here on; None when too many wait already.

        How the stream stands is looked at inside the block: between a look before it and the block something may move.
        """
        if self.waiting >= self._waits_max:
            yield None
            return
        moved = asyncio.Event()
        self._waits.setdefault(stream_id, set()).add(moved)
        try:
            yield moved
        finally:
            self._waits[stream_id].discard(moved)
            if not self._waits[stream_id]:
                del self._waits[stream_id]

    def stop(self) -> None:
        """Lets everybody go, now and later: the service ends."""
        self._waits_max = 0
        for stream_id in self._waits:
            self.note(stream_id)
