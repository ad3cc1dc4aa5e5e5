"""Spreads the partitions of a log over processes, this one and others: whoever is free takes the next."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from eventstore.api import LogUnavailable

LINE_BYTES_MAX = 16 << 20
"""What one line of another process may hold: its result, with the findings it kept."""

Take = Callable[[int], Awaitable[None]]
"""Works one partition through."""
Told = Callable[[int], None]
"""Told of so many more events that were worked through."""


class ProcessFailed(Exception):
    """One of the processes ended early: what it was to check is not checked."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """How another process is started, and what it is told first."""

    command: tuple[str, ...]
    job: bytes
    """One line for its standard input: a password in it stands in no list of processes."""


async def spread(here: Take, program: Program, *, partitions: int, processes: int, told: Told) -> list[bytes]:
    """Works all partitions through with so many processes, this one counted; returns the others' results, as JSON.

    This one begins at once, while the others start. None of them outlives the call.
    Raises what `here` raises, `LogUnavailable` when another one lost the database, and `ProcessFailed` when one ended
    early.
    """
    left = iter(range(partitions))
    own = asyncio.create_task(_here(here, left))
    others = [asyncio.create_task(_there(program, left, told)) for _ in range(processes - 1)]
    tasks = [own, *others]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in filter(asyncio.Task.done, tasks):
            task.result()
        return [other.result() for other in others]
    finally:
        # Each is cancelled once: a second time would break off what ends its process. `gather` does that.
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _here(take: Take, left: Iterator[int]) -> None:
    for partition in left:
        await take(partition)


async def _there(program: Program, left: Iterator[int], told: Told) -> bytes:
    # A session of its own: Ctrl-C reaches this process alone, which then ends the others.
    process = await asyncio.create_subprocess_exec(
        *program.command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        _give(process.stdin, program.job)
        for partition in left:
            _give(process.stdin, b"%d" % partition)
            while not (said := await _heard(process)).done:
                told(said.events)
        process.stdin.close()
        return bytes((await _heard(process)).result)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.stdin.close()
        await process.communicate()


def _give(stdin: asyncio.StreamWriter, line: bytes) -> None:
    stdin.write(line + b"\n")


async def _heard(process: asyncio.subprocess.Process) -> "_Said":
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line.endswith(b"\n"):
        raise ProcessFailed(f"a process ended before its work was done, with {await process.wait()}")
    said = msgspec.json.decode(line, type=_Said)
    if said.away:
        raise LogUnavailable(said.away)
    return said


# -- in another process --------------------------------------------------------------------------------------


class _Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of another process."""

    events: int = 0
    done: bool = False
    """The partition that was given last is worked through."""
    result: msgspec.Raw = msgspec.Raw(b"null")
    away: str = ""
    """The database does not answer, and how."""


def run_other(work: Coroutine[Any, Any, None]) -> None:
    """Runs what another process does; tells when the database does not answer."""
    try:
        asyncio.run(work)
    except LogUnavailable as away:
        _say(_Said(away=str(away)))
        raise SystemExit(1) from None


def job() -> bytes:
    """Reads what this process is told first."""
    return sys.stdin.buffer.readline()


def tell(events: int) -> None:
    """Says that so many more events are worked through."""
    _say(_Said(events=events))


async def take_all(take: Take) -> None:
    """Takes partitions from standard input until it ends, as it also does when the process at its other end is gone."""
    # Waiting blocks the loop: there is nothing else to do meanwhile.
    while line := sys.stdin.buffer.readline():
        await take(int(line))
        _say(_Said(done=True))


def answer(result: object) -> None:
    """Says what everything came to."""
    _say(_Said(result=msgspec.Raw(msgspec.json.encode(result))))


def _say(said: _Said) -> None:
    try:
        sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise SystemExit(1) from None  # nobody listens any more
