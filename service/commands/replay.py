"""`thirdkey replay`: the life of one escrow, from the log alone."""

import sys
from datetime import UTC, datetime

from domain.evolve import ImpossibleHistory
from domain.ids import Micros
from eventstore.api import EventLog, LogUnavailable, Recorded
from eventstore.embedded_os import EmbeddedFailed
from schemas.answers import micros
from schemas.codec import UnknownEvent
from service.read_log import NoLog
from service.reading import reading
from service.replay import json_lines, life, story
from service.settings import Settings

PAGE = 1_000


async def replay(
    settings: Settings, escrow_id: str, *, at_version: int | None, at_time: datetime | None, as_json: bool
) -> int:
    """Prints a life and returns 0, or says why there is none and returns 1."""
    try:
        async with reading(settings) as log:
            events = await read_all(log, escrow_id)
        _, kept = life(events, at_version=at_version, at_time=_micros(at_time))
        if not kept:
            print(f"there is nothing of {escrow_id} in the log up to there", file=sys.stderr)
            return 1
        _print(kept, as_json=as_json)
    except (NoLog, LogUnavailable, EmbeddedFailed, UnknownEvent, ImpossibleHistory) as wrong:
        print(f"{type(wrong).__name__}: {wrong}", file=sys.stderr)
        return 1
    return 0


async def read_all(log: EventLog, stream_id: str) -> list[Recorded]:
    """Reads a whole stream."""
    events: list[Recorded] = []
    while page := await log.read_stream(stream_id, after_version=len(events), limit=PAGE):
        events += page
    return events


def _print(events: list[Recorded], *, as_json: bool) -> None:
    lines = (line.decode() for line in json_lines(events)) if as_json else story(events)
    for line in lines:
        print(line)


def _micros(when: datetime | None) -> Micros | None:
    if when is None:
        return None
    return micros(when if when.tzinfo else when.replace(tzinfo=UTC))
