"""`thirdkey audit verify`: the whole log, checked from its first event to its heads."""

import sys

from eventstore.api import LogUnavailable
from eventstore.embedded_os import EmbeddedFailed
from service.audit import Verified
from service.audit import verify as check
from service.reading import NoLog, reading
from service.settings import Settings


async def verify(settings: Settings) -> int:
    """Prints what was checked; returns 1 when anything is wrong, with the first finding and their count."""
    try:
        async with reading(settings) as log:
            verified = await check(log, progress=_progress if sys.stderr.isatty() else None)
    except (NoLog, LogUnavailable, EmbeddedFailed) as wrong:
        print(f"{type(wrong).__name__}: {wrong}", file=sys.stderr)
        return 1
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(told(verified))
    return 1 if verified.count else 0


def told(verified: Verified) -> str:
    """Says in a sentence what a check came to."""
    where = f"{verified.events} events of {verified.streams} streams ({verified.escrows} escrows)"
    where += f" in {verified.partitions} partitions"
    if not verified.count:
        return f"{where}: every leaf, chain, head and transition is right"
    return f"{where}: {verified.count} findings, the first: {verified.findings[0]}"


def _progress(done: int, total: int) -> None:
    print(f"\r{done} of {total} events", end="", file=sys.stderr, flush=True)
