"""What a reader missed: the events of its escrows between two places, stream by stream and not along the whole log."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias

from eventstore.api import EventLog, Recorded
from service.stream.members import is_of_an_escrow, patiently
from service.stream.messages import Place, moved

STREAMS_MAX = 1_000
"""Escrows in one partition that are read by stream; of whoever has more, the partition's own order is quicker."""


_Read: TypeAlias = Callable[[list[str] | None, int, int], Awaitable[Sequence[Recorded]]]
"""Streams or None, partition, position to read behind."""


async def history(
    event_log: EventLog,
    streams: Sequence[str] | None,
    *,
    after: Place,
    upto: Place,
    page_max: int,
    slots: asyncio.Semaphore,
) -> AsyncGenerator[tuple[Recorded, Place], None]:
    """Yields events behind `after` up to `upto`, each with the place it brings its reader to.

    Those of the streams named, or of all escrows for None: partition by partition, each in order of position. So the
    place after each of them says exactly what was yielded before it. `slots` bounds how many pages are read at a time.
    """

    async def read(streams: list[str] | None, partition: int, after: int) -> Sequence[Recorded]:
        async with slots:
            return await patiently(partial(_page, event_log, streams, partition, after, page_max))

    place = after
    for partition, until in enumerate(upto):
        mine = None if streams is None else [each for each in streams if event_log.partition_of(each) == partition]
        async for recorded in _partition(read, mine, partition, place[partition], until):
            place = moved(place, partition=partition, position=recorded.position)
            yield recorded, place
        place = moved(place, partition=partition, position=max(until, place[partition]))


async def _partition(
    read: "_Read", streams: list[str] | None, partition: int, after: int, until: int
) -> AsyncIterator[Recorded]:
    wanted = None if streams is None else frozenset(streams)
    while after < until and wanted != frozenset():
        page = await read(streams, partition, after)
        if not page:
            return
        for recorded in page:
            if recorded.position > until:
                return
            if is_of_an_escrow(recorded) and (wanted is None or recorded.stream_id in wanted):
                yield recorded
        after = page[-1].position


async def _page(
    event_log: EventLog, streams: list[str] | None, partition: int, after: int, page_max: int
) -> Sequence[Recorded]:
    if streams is None or len(streams) > STREAMS_MAX:
        return await event_log.read_partition(partition, after_position=after, limit=page_max)
    return await event_log.read_streams(streams, partition=partition, after_position=after, limit=page_max)
