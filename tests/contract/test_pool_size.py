"""The file that says how many slots there are: of processes that change it at once each is heard or told no."""

import asyncio
from pathlib import Path

from service.pool_size import PoolFile
from tests.service_process import run_process

CHANGES, PROCESSES, MOST = 40, 3, 1_000


def change_often(home: Path) -> None:
    """Adds a slot so many times, each time from what was just read."""
    file, done = PoolFile(home), 0
    while done < CHANGES:
        seen = file.read()
        done += file.change(seen, slots_per_role=seen.slots_per_role + 1, drained=()) is not None


async def test_of_changes_made_at_once_by_several_processes_none_is_lost_and_none_made_twice(tmp_path: Path) -> None:
    first = PoolFile(tmp_path).begin(least=1, most=MOST, keep=False)
    codes = await asyncio.gather(
        *(run_process(change_often, tmp_path, out=tmp_path / f"out-{number}") for number in range(PROCESSES))
    )
    assert codes == [0] * PROCESSES
    last = PoolFile(tmp_path).read()
    assert last.slots_per_role - first.slots_per_role == last.change - first.change == CHANGES * PROCESSES


async def test_what_was_decided_of_an_older_size_changes_nothing(tmp_path: Path) -> None:
    file = PoolFile(tmp_path)
    seen = file.begin(least=1, most=3, keep=False)
    up = file.change(seen, slots_per_role=2, drained=())
    assert up is not None and file.change(up, slots_per_role=1, drained=()) is not None
    assert file.change(seen, slots_per_role=2, drained=()) is None, "the same size again, but not the same change"
    assert file.read().slots_per_role == 1
