"""Service processes for tests that kill them: forked from a process that has the imports behind it.

An interpreter with the service's imports takes about a second of CPU to start, a fork a few milliseconds; a test with
fifty kills starts fifty of them. What is killed is a process like any other.
"""

import asyncio
import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import structlog

PRELOADED = [
    "tests.chaos.child",
    "tests.chaos.loaded",
    "tests.chaos.node_child",
    "tests.chaos.door_child",
    "tests.chaos.evidence_child",
    "tests.real.child",
]
ENDED_S = 300.0
STDOUT, STDERR = 1, 2


async def run_process(target: Callable[..., None], *arguments: object, out: Path, limit_s: float = ENDED_S) -> int:
    """Runs a function in a process of its own to its end and returns the exit code, -9 after SIGKILL.

    Standard output, errors and logs go to the file `out`. Raises `TimeoutError`, the process killed.
    """
    process = start_process(target, *arguments, out=out)
    try:
        async with asyncio.timeout(limit_s):
            await _gone(process.sentinel)
    finally:
        process.kill()
        process.join()
    assert process.exitcode is not None
    return process.exitcode


def start_process(target: Callable[..., None], *arguments: object, out: Path) -> BaseProcess:
    """Starts a function in a process of its own; the caller kills and joins it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_become, args=(out, target, arguments))
    process.start()
    return process


async def _gone(sentinel: int) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(sentinel)


def _become(out: Path, target: Callable[..., None], arguments: tuple[object, ...]) -> None:
    file = out.open("a", buffering=1)
    for descriptor in (STDOUT, STDERR):
        os.dup2(file.fileno(), descriptor)
    sys.stdout = sys.stderr = file
    _keep_files_from_children()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file), cache_logger_on_first_use=False)
    target(*arguments)


def _keep_files_from_children() -> None:
    """Leaves what the fork inherited (the pipes it is watched by) to no program that outlives it."""
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if descriptor > STDERR:
            with contextlib.suppress(OSError):  # the folder's own, closed by now
                os.set_inheritable(descriptor, False)
