"""Reading the log as it grows: every event once, in order within its partition, without gaps."""

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from eventstore.api import EventLog, Recorded


class LogGap(Exception):
    """A page of the log does not follow on what was read before it: nothing of it was handed out."""

    def __init__(self, *, partition: int, position: int) -> None:
        super().__init__(f"partition {partition} does not go on at position {position}")
        self.partition, self.position = partition, position


class Rest:
    """Rests until the log has grown: woken by it where that is known at once, else after `poll_s` seconds."""

    def __init__(self, log: EventLog, *, poll_s: float = 1.0) -> None:
        self._log, self._poll_s, self._woken = log, poll_s, asyncio.Event()
        log.subscribe_wake(self)

    def notify(self) -> None:
        """Ends a `wait`, the present one or the next."""
        self._woken.set()

    async def wait(self) -> None:
        """Returns when woken, or after `poll_s` seconds."""
        try:
            # Not `wait_for`: in Python 3.11 it swallows a cancellation that comes together with the wake.
            async with asyncio.timeout(self._poll_s):
                await self._woken.wait()
        except TimeoutError:
            pass
        # Cleared before what follows is read: a wake during the reads counts for the next wait.
        self._woken.clear()

    def close(self) -> None:
        """Asks for no more wakes."""
        self._log.unsubscribe_wake(self)


class Subscription(Rest):
    """A place in the log that only moves on: whoever writes, and however often its reader begins again.

    `after` are the positions a reader has seen, by partition; one that is missing begins at 0. Call `pull` until it
    returns nothing, then `wait`; wakes only shorten the wait, so a wake that is lost costs at most `poll_s` seconds.
    One task reads at a time.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        after: Mapping[int, int] | None = None,
        poll_s: float = 1.0,
        page_max: int = 1000,
    ) -> None:
        seen = dict(after or {})
        if any(not 0 <= partition < log.partitions or position < 0 for partition, position in seen.items()):
            raise ValueError(f"positions of partitions 0 to {log.partitions - 1} are 0 or more")
        super().__init__(log, poll_s=poll_s)
        self._page_max = page_max
        self._positions = {partition: seen.get(partition, 0) for partition in range(log.partitions)}
        self._behind: list[int] = []

    @property
    def positions(self) -> Mapping[int, int]:
        """What has been handed out, by partition; a live view."""
        return MappingProxyType(self._positions)

    async def pull(self) -> Sequence[Recorded]:
        """Returns the next page of one partition, nothing at the end of all.

        Partitions with something to read take turns, so that a long one keeps none waiting. Raises `LogUnavailable`,
        and `LogGap` when the log itself is broken; nothing counts as handed out then.
        """
        if not self._behind:
            # One look at all heads instead of a read of each partition: most have nothing new.
            heads = await self._log.heads()
            self._behind = [head.partition for head in heads if head.position > self._positions[head.partition]]
        while self._behind:
            page = await self._page(self._behind[0])
            self._behind.pop(0)
            if page:
                return page
        return ()

    async def _page(self, partition: int) -> Sequence[Recorded]:
        before = self._positions[partition]
        page = await self._log.read_partition(partition, after_position=before, limit=self._page_max)
        for expected, recorded in enumerate(page, start=before + 1):
            if (recorded.partition, recorded.position) != (partition, expected):
                raise LogGap(partition=partition, position=expected)
        self._positions[partition] = before + len(page)
        return page
