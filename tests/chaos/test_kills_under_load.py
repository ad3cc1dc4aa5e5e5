"""kill -9 of the service and of Postgres, again and again, while sixteen customers keep both busy."""

import asyncio
import random
from pathlib import Path

import pytest

from eventstore.chain import GENESIS, verify_chain
from eventstore.opening import Store
from projections.differences import differences
from projections.models import MODELS
from projections.opening import open_models
from projections.runner import Runner
from tests.chaos.loaded import ACKNOWLEDGED, Load, open_loaded_store, run
from tests.killed_postgres import Database
from tests.patience import PATIENT
from tests.service_process import run_process
from tests.soak import rounds

KILLED = -9
PAGE = 1000
ENOUGH = 60
"""Of what a life acknowledges before it is killed; every fifth may be killed while it starts."""


@pytest.mark.soak
async def test_kills_under_load_lose_nothing_that_was_acknowledged(
    database: Database,
    tmp_path: Path,
) -> None:
    dsn = await database.start()
    for number in rounds("kills of the service under load, half of them with one of Postgres", short=6, full=200):
        draw = random.Random(number)
        least = 0 if number % 5 == 4 else ENOUGH
        load = Load(dsn=dsn, folder=tmp_path, seed=number, live_s=draw.uniform(0.4, 1.5), acknowledged_min=least)
        killing = asyncio.create_task(_kill_database(database, draw)) if number % 2 else None
        assert await run_process(run, load, out=tmp_path / "out") == KILLED, (tmp_path / "out").read_text()[-3000:]
        if killing:
            await killing
            await database.back()
    store = await open_loaded_store(dsn, limits=PATIENT)
    acknowledged = (tmp_path / ACKNOWLEDGED).read_text().splitlines()
    assert await _missing(store, acknowledged) == []
    await _models_equal_the_fold(store)
    await store.aclose()


async def _kill_database(database: Database, draw: random.Random) -> None:
    await asyncio.sleep(draw.uniform(0.3, 1.2))
    await database.killed()


async def _missing(store: Store, acknowledged: list[str]) -> list[str]:
    """Reads the whole log, checks it for holes, and returns what was acknowledged and is not in it."""
    there: set[str] = set()
    for head in await store.log.heads():
        position, chain = 0, GENESIS
        while page := await store.log.read_partition(head.partition, after_position=position, limit=PAGE):
            assert [each.position for each in page] == list(range(position + 1, position + 1 + len(page)))
            chain, position = verify_chain(chain, page), page[-1].position
            there |= {f"{each.stream_id} {each.version} {each.command_id}" for each in page}
        assert (position, chain) == (head.position, head.chain)
    assert len(acknowledged) > 100
    return [line for line in acknowledged if line not in there]


async def _models_equal_the_fold(store: Store) -> None:
    tables, _ = open_models(store, limits=PATIENT)
    await Runner(store.log, tables).catch_up()
    behind = {each.model: dict(each.positions) for each in (await tables.progress()).values()}
    heads = {head.partition: head.position for head in await store.log.heads()}
    assert behind == dict.fromkeys(MODELS, heads)
    assert await differences(store.log, tables) == ()
