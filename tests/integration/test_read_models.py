"""Read models beside a running service: several nodes, rebuilds under load, models that fail alone, the command."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from domain.ids import EscrowId
from eventstore.grouped import LogLimits
from eventstore.memory import MemoryTables
from eventstore.opening import Store, memory_store, open_store
from projections.api import EscrowQuery, Generation, ModelReader, ModelTables
from projections.asking import ReadModels
from projections.differences import differences
from projections.folds import Standing
from projections.models import MODELS, Model
from projections.opening import open_models
from projections.postgres import QUERIES, PostgresModels
from projections.rebuild import RebuildFailed, rebuild
from projections.rows import Row
from projections.runner import Runner
from service.commands import projections as command
from service.settings import Settings
from tests.model_worlds import LIVES, append, append_lives, batch_of, new_events, unreadable
from tests.patience import PATIENT
from tests.store_worlds import StoreWorld
from tests.worlds import house_world

WAIT_S = 120.0
two_backends = pytest.mark.parametrize("store_world", ["memory-4", "postgres-4"], indirect=True)


class ModelNode:
    """One node's read models, running."""

    def __init__(self, store: Store, runner: Runner, tables: ModelTables, rows: ModelReader) -> None:
        self.store, self.log, self.runner, self.tables, self.rows = store, store.log, runner, tables, rows
        self.models = ReadModels(store.log, rows, runner)

    async def at_the_end(self) -> None:
        """Waits until every model has passed what is in the log now."""
        for model in MODELS:
            assert await self.models.passed_all(model, timeout_s=WAIT_S)


@asynccontextmanager
async def running(store: Store) -> AsyncIterator[ModelNode]:
    """Runs a node's read models for as long as the block lasts."""
    tables, rows = open_models(store, limits=PATIENT)
    runner = Runner(store.log, tables)
    await runner.catch_up()
    task = asyncio.get_running_loop().create_task(runner.run())
    try:
        yield ModelNode(store, runner, tables, rows)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def broken_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Lets the model of deadlines stumble over the escrows whose ids are put into the list."""
    stumbles: list[str] = []
    sound = MODELS["deadlines"]

    def rows(standing: Standing) -> tuple[Row, ...]:
        if standing.escrow_id in stumbles and standing.read:
            raise ZeroDivisionError("somebody's mistake")
        return tuple(sound.rows(standing))

    monkeypatch.setitem(MODELS, "deadlines", Model(name="deadlines", row=sound.row, rows=rows))
    yield stumbles


# -- several nodes ---------------------------------------------------------------------------------------------


@two_backends
async def test_several_nodes_make_every_row_once_and_one_of_them_does_the_work(store_world: StoreWorld) -> None:
    stores = [await store_world.open(node_id=f"node-{number}") for number in range(3)]
    async with running(stores[0]) as one, running(stores[1]) as two, running(stores[2]) as three:
        nodes = (one, two, three)
        for number, node in zip(range(9), itertools.cycle(nodes)):
            await append_lives(node.log, prefix=f"esc_{number}_")
        for node in nodes:
            await node.at_the_end()
        assert (await one.rows.counts())["created"] == 9 * len(LIVES)
        assert await differences(one.log, one.tables) == ()
        async with asyncio.timeout(WAIT_S):
            while sum(node.runner.leads for node in nodes) > 1:
                await append(one.log, f"esc_more_{next(COUNT)}", new_events(LIVES["created"].events))
                for node in nodes:
                    await node.at_the_end()


COUNT = itertools.count()


@two_backends
async def test_when_the_working_node_is_gone_another_goes_on(store_world: StoreWorld) -> None:
    first, second = await store_world.open(node_id="a"), await store_world.open(node_id="b")
    async with running(first) as worker:
        await append_lives(worker.log)
        await worker.at_the_end()
        other = running(second)
        onlooker = await other.__aenter__()
    await append(onlooker.log, "esc_late", new_events(LIVES["created"].events))
    await onlooker.at_the_end()
    assert await onlooker.rows.escrow(EscrowId("esc_late")) is not None
    assert await differences(onlooker.log, onlooker.tables) == ()
    await other.__aexit__(None, None, None)


async def test_a_node_that_is_stopped_within_a_write_holds_the_others_up_for_a_bounded_time(postgres_dsn: str) -> None:
    store = await open_store(dsn=postgres_dsn, encryption_key=bytes(32), partitions=1, node_id="n", limits=PATIENT)
    tables = PostgresModels(store.pools[-1], limits=LogLimits(lock_timeout_s=WAIT_S))
    await tables.begin(MODELS)
    batch = batch_of(LIVES["funded"], model="escrows")
    stopped = await asyncpg.connect(postgres_dsn)
    await stopped.execute("begin")
    moved = await stopped.fetch(QUERIES["move"], 0, ["escrows@1"], 0, batch.after, "1s", "300ms")
    assert len(moved) == 1, "it holds the checkpoint, and says nothing more"
    assert await tables.write(batch) == {Generation("escrows", 1)}
    await stopped.close()
    await store.aclose()


# -- rebuilding under load -------------------------------------------------------------------------------------


@pytest.mark.parametrize("store_world", ["postgres-4"], indirect=True)
async def test_a_rebuild_under_load_serves_whole_models_all_the_time(store_world: StoreWorld) -> None:
    store, beside = await store_world.open(), await store_world.open(node_id="tool")
    async with running(store) as node:
        await append_lives(node.log)
        await node.at_the_end()
        stop = asyncio.Event()
        writing = asyncio.create_task(_write_on(node, stop))
        reading = asyncio.create_task(_read_on(node, stop))
        for _ in range(3):
            await rebuild(beside.log, open_models(beside, limits=PATIENT)[0], tuple(MODELS))
        stop.set()
        written, shown = await writing, await reading
        await node.at_the_end()
        assert shown > 1 and written > 1
        assert {each.live for each in (await node.tables.progress()).values()} == {4}
        assert await differences(node.log, node.tables) == ()


async def _write_on(node: ModelNode, stop: asyncio.Event) -> int:
    for number in itertools.count(1):
        await append(node.log, f"esc_written_{number}", new_events(LIVES["funded"].events))
        await asyncio.sleep(0.02)
        if stop.is_set():
            return number
    raise AssertionError


async def _read_on(node: ModelNode, stop: asyncio.Event) -> int:
    """Reads again and again: what a reader has seen is never gone, and never half there."""
    most = 0
    for number in itertools.count(1):
        shown = await node.rows.escrow_page(EscrowQuery(user=None, limit=10_000))
        assert len(shown) >= most >= 0, "a swap took rows away"
        most = len(shown)
        if stop.is_set():
            return number
        await asyncio.sleep(0.02)
    raise AssertionError


# -- what fails alone ------------------------------------------------------------------------------------------


@two_backends
async def test_a_model_whose_own_code_fails_stops_alone_and_says_where(
    store_world: StoreWorld, broken_model: list[str]
) -> None:
    store = await store_world.open()
    broken_model.append("esc_disputed")
    async with running(store) as node:
        await append_lives(node.log)
        assert await node.models.passed_all("escrows", timeout_s=WAIT_S)
        await append(node.log, "esc_later", new_events(LIVES["created"].events))
        assert await node.models.passed_all("escrows", timeout_s=WAIT_S)
        progress = (await node.tables.progress())["deadlines"]
        assert progress.stopped is not None
        assert "ZeroDivisionError: somebody's mistake" in progress.stopped
        assert set(node.runner.stopped()) == {"deadlines"}
        with pytest.raises(RebuildFailed, match="deadlines cannot be rebuilt"):
            await rebuild(node.log, node.tables, ["deadlines", "turns"])
        broken_model.clear()
        await rebuild(node.log, node.tables, ["deadlines"])
        await node.at_the_end()
        assert (node.runner.stopped(), await differences(node.log, node.tables)) == ({}, ())


@two_backends
async def test_a_stopped_model_is_tried_again_when_a_node_starts(
    store_world: StoreWorld, broken_model: list[str]
) -> None:
    store = await store_world.open()
    broken_model.append("esc_disputed")
    async with running(store) as node:
        await append_lives(node.log)
        assert await node.models.passed_all("turns", timeout_s=WAIT_S)
        async with asyncio.timeout(WAIT_S):
            while not (await node.tables.progress())["deadlines"].stopped:
                await asyncio.sleep(0.01)
    broken_model.clear()
    async with running(store) as node:
        await node.at_the_end()
        assert await differences(node.log, node.tables) == ()


async def test_the_metrics_show_a_stopped_model_and_how_far_it_is_behind(broken_model: list[str]) -> None:
    async with house_world() as world:
        broken_model.append(await world.create())
        await world.ask("POST", f"/api/escrows/{broken_model[0]}/cancel")
        async with asyncio.timeout(WAIT_S):
            while not world.house.runner.stopped():
                await asyncio.sleep(0.01)
        await world.ask("GET", "/api/escrows")
        shown = (await world.telemetry.render(world.house)).decode().splitlines()
        assert 'projection_stopped{model="deadlines"} 1.0' in shown
        assert 'projection_lag_events{model="deadlines"} 0.0' not in shown
        assert 'projection_stopped{model="escrows"} 0.0' in shown
        assert 'projection_lag_events{model="escrows"} 0.0' in shown


async def test_one_escrow_that_cannot_be_read_is_listed_and_the_others_go_on() -> None:
    async with house_world() as world:
        ill, well = await world.create(), await world.create()
        log = world.house.store.log
        await append(log, ill, [unreadable()], after=await world.version(ill))
        await world.ask("POST", f"/api/escrows/{well}/cancel")
        _, page = await world.ask("GET", "/api/escrows")
        assert {each["escrow_id"]: each["state"] for each in page["escrows"]} == {ill: "setting_up", well: "cancelled"}
        (row,) = await world.house.models.rows.stopped(limit=5)
        assert row.escrow_id == ill
        await world.create(order="another-order")


# -- the command line ------------------------------------------------------------------------------------------


async def test_the_command_lists_and_rebuilds_beside_a_running_service(
    postgres_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = await open_store(dsn=postgres_dsn, encryption_key=bytes(32), partitions=4, node_id="n", limits=PATIENT)
    settings = Settings(database_url=postgres_dsn)
    async with running(store) as node:
        await append_lives(node.log)
        await append(node.log, "esc_created", [unreadable()], after=len(LIVES["created"].events))
        await node.at_the_end()
        assert await command.show(settings) == 0
        shown = capsys.readouterr().out
        assert all(f"{model:<12} {1:>10} {0:>8}  live" in shown for model in MODELS)
        assert "esc_created stands still at version" in shown
        assert await command.rebuild(settings, "turns") == 0
        assert capsys.readouterr().out == "turns: generation 2 is live\n"
        assert await command.rebuild(settings, "all") == 0
        async with node.tables.building(["turns"]):
            assert await command.rebuild(settings, "all") == 1
            assert "turns is being rebuilt by another process" in capsys.readouterr().err
            assert await command.show(settings) == 0
            assert "building" in capsys.readouterr().out
        assert await command.rebuild(settings, "nothing") == 1
        await node.at_the_end()
        assert await differences(node.log, node.tables) == ()
    await store.aclose()


async def test_without_a_log_the_command_says_so(postgres_dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert await command.show(Settings(database_url=postgres_dsn)) == 1
    assert "there is no log in this database yet" in capsys.readouterr().err


# -- a memory that is lost -------------------------------------------------------------------------------------


async def test_a_database_that_lost_its_last_moments_is_fed_again() -> None:
    tables = MemoryTables(partitions=2)
    store = memory_store(partitions=2, tables=tables)
    async with running(store) as node:
        await append_lives(node.log)
        await node.at_the_end()
        shelf = tables.beside["read_models"]
        for generation in [each for each, _ in shelf.checkpoints]:
            shelf.rows[generation].clear()
            shelf.counts[generation].clear()
        shelf.checkpoints.update(dict.fromkeys(shelf.checkpoints, 0))
        async with asyncio.timeout(WAIT_S):
            while await differences(node.log, node.tables) or not shelf.rows[next(iter(shelf.checkpoints))[0]]:
                await asyncio.sleep(0.05)
