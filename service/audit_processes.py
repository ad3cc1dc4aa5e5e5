"""Checks a large log with several processes; started as a program, it is one of the others."""

import os
import sys
from collections.abc import Sequence

import msgspec

from service import spread
from service.audit import FINDINGS_KEPT, Checker, HeadSources, Progress, Verified, counted, with_draws
from service.head_checks import Outside
from service.read_log import Read, reading_at

EVENTS_A_PROCESS = 50_000
"""A process takes 0.2 s to start, in which another one checks 14,000 events: fewer are not worth it."""
PROCESSES_MAX = 64


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What another process has to know."""

    dsn: str
    outside: Outside
    trusted: frozenset[str] | None


async def verify_together(
    read: Read,
    heads: HeadSources,
    *,
    dsn: str,
    processes: int | None = None,
    progress: Progress | None = None,
    comparing: Progress | None = None,
) -> Verified:
    """Checks a log as `verify` does, with a process for each core where the log is large enough, or with so many.

    `dsn` is where the others read it; `comparing` is told of draws compared, which this one does by itself in the end.
    Raises `LogUnavailable`, `ProcessFailed`.
    """
    ends = await read.log.heads()
    events, partitions = sum(end.position for end in ends), len(ends)
    told = counted(progress, total=events)
    checker = Checker(read.log, heads, told)
    program = spread.Program(
        command=(sys.executable, "-m", __name__),
        job=msgspec.json.encode(Job(dsn=dsn, outside=heads.outside, trusted=heads.trusted)),
    )
    number = min(partitions, PROCESSES_MAX, processes or processes_for(events))
    results = await spread.spread(checker.partition, program, partitions=partitions, processes=number, told=told)
    checker.foreign_heads(partitions=partitions)
    others = [msgspec.json.decode(result, type=Verified) for result in results]
    checked = together([checker.result(partitions=partitions), *others])
    return await with_draws(read.log, checked, progress=comparing)


def processes_for(events: int) -> int:
    """Says how many processes pay for a log of so many events: at most one for each core that may be used."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, events // EVENTS_A_PROCESS))


def together(parts: Sequence[Verified]) -> Verified:
    """Adds up what several processes found, in the order in which one alone would have found it."""
    findings = sorted((finding for part in parts for finding in part.findings), key=lambda each: each.partition)
    return Verified(
        events=sum(part.events for part in parts),
        streams=sum(part.streams for part in parts),
        escrows=sum(part.escrows for part in parts),
        partitions=max(part.partitions for part in parts),
        heads=sum(part.heads for part in parts),
        uncovered=sum(part.uncovered for part in parts),
        drawn=tuple(sorted((each for part in parts for each in part.drawn), key=lambda each: each.partition)),
        count=sum(part.count for part in parts),
        findings=tuple(findings[:FINDINGS_KEPT]),
    )


async def _other() -> None:
    job = msgspec.json.decode(spread.job(), type=Job)
    async with reading_at(job.dsn) as read:
        heads = HeadSources(stored=read.heads, outside=job.outside, trusted=job.trusted)
        checker = Checker(read.log, heads, spread.tell)
        await spread.take_all(checker.partition)
        spread.answer(checker.result(partitions=read.log.partitions))


if __name__ == "__main__":
    spread.run_other(_other())
