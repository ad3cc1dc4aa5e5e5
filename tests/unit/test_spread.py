"""The partitions of a log are shared among processes; whatever becomes of one of them, none is left behind."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from eventstore.api import LogUnavailable
from service.spread import ProcessFailed, Program, spread

PATIENCE_S = 120

# Each of the others is a process that starts Python: seconds of a loaded machine.
pytestmark = pytest.mark.timeout(300)

WORKS = """
import asyncio, sys
from service import spread
taken = [spread.job().decode().strip()]
async def take(partition):
    taken.append(partition)
    spread.tell(10)
asyncio.run(spread.take_all(take))
spread.answer(taken)
"""
ENDS_EARLY = "import sys; sys.stdin.readline(); sys.exit(7)"
LOSES_THE_DATABASE = """
from eventstore.api import LogUnavailable
from service import spread
async def work():
    raise LogUnavailable("gone")
spread.job()
spread.run_other(work())
"""
NEVER_ENDS = """
import os, pathlib, sys, time
pathlib.Path(sys.stdin.readline().strip(), str(os.getpid())).touch()
time.sleep(3600)
"""


def program(text: str, *, job: str = "job") -> Program:
    return Program(command=(sys.executable, "-c", text), job=job.encode())


async def until(folder: Path, *, processes: int) -> Sequence[int]:
    """Waits until so many have written their numbers down."""
    async with asyncio.timeout(PATIENCE_S):
        while len(found := [int(file.name) for file in folder.iterdir()]) < processes:
            await asyncio.sleep(0.02)
    return found


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


async def test_every_partition_is_taken_once_by_whoever_is_free() -> None:
    here: list[int] = []
    told: list[int] = []

    async def take(partition: int) -> None:
        here.append(partition)
        async with asyncio.timeout(PATIENCE_S):  # until the others have taken theirs, who each come back for more
            while not told:
                await asyncio.sleep(0.02)

    results = await spread(take, program(WORKS), partitions=9, processes=3, told=told.append)
    others = [result.decode().strip("[]").split(",") for result in results]
    assert [other[0] for other in others] == ['"job"', '"job"']
    there = [int(partition) for other in others for partition in other[1:]]
    assert sorted(here + there) == list(range(9))
    assert told == [10] * len(there)


async def test_one_process_alone_starts_no_other() -> None:
    here: list[int] = []

    async def take(partition: int) -> None:
        here.append(partition)

    nowhere = Program(command=("/nowhere/at/all",), job=b"")
    assert await spread(take, nowhere, partitions=3, processes=1, told=here.append) == []
    assert here == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "raised"), [(ENDS_EARLY, ProcessFailed), (LOSES_THE_DATABASE, LogUnavailable)], ids=["early", "lost"]
)
async def test_what_ends_another_process_early_ends_the_work(text: str, raised: type[Exception]) -> None:
    async def take(_: int) -> None:
        await asyncio.sleep(3600)

    with pytest.raises(raised) as failed:
        await spread(take, program(text), partitions=2, processes=2, told=lambda _: None)
    assert "job" not in str(failed.value), "what it was told may hold a password"


async def test_no_process_outlives_work_that_is_broken_off(tmp_path: Path) -> None:
    async def take(_: int) -> None:
        await asyncio.sleep(3600)

    forever = program(NEVER_ENDS, job=str(tmp_path))
    working = asyncio.create_task(spread(take, forever, partitions=3, processes=3, told=lambda _: None))
    processes = await until(tmp_path, processes=2)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert [is_gone(process) for process in processes] == [True, True]


async def test_no_process_outlives_a_failure_of_this_one(tmp_path: Path) -> None:
    started: list[int] = []

    async def take(_: int) -> None:
        started.extend(await until(tmp_path, processes=1))
        raise ValueError

    forever = program(NEVER_ENDS, job=str(tmp_path))
    with pytest.raises(ValueError):
        await spread(take, forever, partitions=2, processes=2, told=started.append)
    assert [is_gone(process) for process in started] == [True]


async def test_a_process_that_nobody_listens_to_ends_by_itself() -> None:
    process = await asyncio.create_subprocess_exec(
        *program(WORKS).command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(b"job\n")
    process.stdin.close()
    async with asyncio.timeout(PATIENCE_S):
        await process.communicate()
    assert process.returncode == 0
