"""kill -9 of whoever feeds or rebuilds the read models, at each of its writes: the rows are those of the log."""

from pathlib import Path

import pytest

from eventstore.opening import Store, open_store
from projections.differences import differences
from projections.opening import open_models
from tests.chaos.models_child import PARTITIONS, Doom, run
from tests.model_worlds import append_lives
from tests.patience import PATIENT
from tests.service_process import run_process

STARTS_MAX = 60
KILLED = -9


@pytest.mark.parametrize("moment", ["before", "during", "after"])
async def test_read_models_survive_a_kill_at_every_write(postgres_dsn: str, tmp_path: Path, moment: str) -> None:
    store = await open_store(
        dsn=postgres_dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id="n", limits=PATIENT
    )
    kills = 0
    for number in range(1, STARTS_MAX):
        await append_lives(store.log, prefix=f"esc_{number}_")
        doom = Doom(dsn=postgres_dsn, folder=tmp_path, write=number, moment=moment)
        code = await run_process(run, doom, out=tmp_path / "out")
        assert code in (0, KILLED), (tmp_path / "out").read_text()[-3000:]
        await _check_as_far_as_they_are(store)
        kills += code == KILLED
        if code == 0:
            break
    print(f"{kills} kills {moment} a write")
    progress = await open_models(store, limits=PATIENT)[0].progress()
    heads = {head.partition: head.position for head in await store.log.heads()}
    assert all(dict(each.positions) == heads and each.building is None for each in progress.values())
    assert kills > 5
    await store.aclose()


async def _check_as_far_as_they_are(store: Store) -> None:
    assert await differences(store.log, open_models(store, limits=PATIENT)[0]) == ()
