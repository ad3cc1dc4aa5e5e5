"""The duty of comparing log and chain: who has it, when it runs, what comes of it, and what its metrics show."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from actors.clock import SystemClock
from actors.desk import Desk
from actors.directory import Directory
from actors.escrow import EscrowActor
from actors.ports import DaemonDown
from domain.difference import CHAIN_DIFFERS, Difference
from domain.difference import DifferenceCode as Code
from domain.ids import EscrowId
from eventstore.memory import MemoryTables
from eventstore.opening import memory_store
from service.environment import SettingsWrong, load_settings
from service.reconcile import Compared, Unchecked
from service.reconcile_duty import DutyLimits, ReconcileDuty, ReconcileMetrics
from tests.given import AMOUNT
from tests.patience import PATIENCE_S
from tests.reconcile_world import ReconcileWorld
from tests.sim_world import until_true

SECOND = 1_000_000
EVERY = DutyLimits(every_s=3_600, first_s=60, lease_s=30)


class Clock(SystemClock):
    """Moves when the test says so."""

    def __init__(self) -> None:
        self.moment = 1_700_000_000 * SECOND

    def now(self) -> int:
        return self.moment

    def pass_time(self, seconds: float) -> None:
        self.moment += round(seconds * SECOND)


@asynccontextmanager
async def desk_of(world: ReconcileWorld) -> AsyncIterator[Desk]:
    clock = SystemClock()
    directory: Directory[EscrowId] = Directory(
        lambda escrow_id: EscrowActor(escrow_id, event_log=world.store.log, clock=clock),
        clock=clock,
        on_parked=lambda _, failure: print("parked", failure),
    )
    try:
        yield Desk(directory)
    finally:
        await directory.stop_all(timeout_s=PATIENCE_S)


class Nodes:
    """Nodes on one database, whose comparisons take as long as the test wants."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.tables = MemoryTables(partitions=1, clock=self.clock.now)
        self.begun: list[str] = []
        self.ended_from: list[int | None] = []
        self.height = 5_000
        self.may_end = asyncio.Event()
        self.ready = True
        self.breaks = False

    def duty(self, node: str) -> ReconcileDuty:
        async def compare(ended_from: int | None) -> AsyncGenerator[Compared, None]:
            self.begun.append(node)
            self.ended_from.append(ended_from)
            if self.breaks:
                raise DaemonDown("gone")
            yield Compared(escrow_id=EscrowId("esc_1"), height=self.height)
            yield Compared(escrow_id=EscrowId("esc_3"), height=self.height + 50)
            yield Compared(escrow_id=EscrowId("esc_2"), unchecked=Unchecked.SHREDDED)
            await self.may_end.wait()

        store = memory_store(partitions=1, tables=self.tables, node_id=node)
        directory: Directory[EscrowId] = Directory(
            lambda key: EscrowActor(key, event_log=store.log, clock=self.clock),
            clock=self.clock,
            on_parked=lambda _, failure: None,
        )
        return ReconcileDuty(
            compare,
            desk=Desk(directory),
            leases=store.duty_leases,
            node_id=node,
            clock=self.clock,
            ready=lambda: self.ready,
            limits=EVERY,
        )

    async def until_ended(self, duty: ReconcileDuty, runs: int = 1) -> None:
        await until_true(lambda: duty.runs.total() == runs)


# -- what comes of it ----------------------------------------------------------------------------------------


async def test_a_difference_becomes_an_item_that_closes_when_a_later_run_finds_none() -> None:
    world = ReconcileWorld()
    written = await world.awaiting("missed")
    written.pay(AMOUNT)
    world.chain.mine(10)
    async with desk_of(world) as desk:
        duty = ReconcileDuty(
            lambda _: world.reconciler().all(),
            desk=desk,
            leases=world.store.duty_leases,
            node_id="n",
            clock=SystemClock(),
            ready=lambda: True,
        )
        for _ in range(2):  # told once, however often it is found
            await duty.compare_once()
        state = await desk.state(written.escrow_id)
        assert state is not None and state.core.recovery == (CHAIN_DIFFERS,)
        assert [each.code for each in state.core.differences] == [Code.DEPOSIT_NOT_LOGGED]
        assert state.core.version == written.life.state.core.version + 2
        assert duty.last is not None and duty.last.differences == {Code.DEPOSIT_NOT_LOGGED: 1}
        world.chain.pop(10)
        world.chain.pool.clear()
        world.chain.mine(20)
        await duty.compare_once()
        state = await desk.state(written.escrow_id)
        assert state is not None and not state.core.recovery and not state.core.differences


async def test_an_escrow_that_moved_after_it_was_compared_is_left_to_the_next_run() -> None:
    world = ReconcileWorld()
    written = await world.awaiting("moves")
    found = (Difference(code=Code.DEPOSIT_NOT_ON_CHAIN, about="gone"),)

    async def compare(_: int | None) -> AsyncGenerator[Compared, None]:
        yield Compared(escrow_id=written.escrow_id, version=1, height=9, differences=found)
        yield Compared(escrow_id=EscrowId("esc_nobody"), version=1, height=9, differences=found)

    async with desk_of(world) as desk:
        duty = ReconcileDuty(
            compare,
            desk=desk,
            leases=world.store.duty_leases,
            node_id="n",
            clock=SystemClock(),
            ready=lambda: True,
        )
        await duty.compare_once()
        state = await desk.state(written.escrow_id)
        assert state is not None and not state.core.recovery
        assert duty.runs == {"finished": 1}


# -- who, and when -------------------------------------------------------------------------------------------


async def test_a_node_compares_a_minute_after_it_took_the_duty_and_then_every_hour() -> None:
    nodes = Nodes()
    nodes.may_end.set()
    duty = nodes.duty("a")
    await duty.look()
    nodes.clock.pass_time(59)
    await duty.look()
    assert nodes.begun == []
    nodes.clock.pass_time(1)
    await duty.look()
    await nodes.until_ended(duty)
    nodes.clock.pass_time(3_599)
    await duty.look()
    assert nodes.begun == ["a"]
    nodes.clock.pass_time(1)
    await duty.look()
    await nodes.until_ended(duty, runs=2)
    assert nodes.begun == ["a", "a"]


async def test_a_clock_that_is_put_back_puts_no_run_off_by_more_than_an_hour() -> None:
    nodes = Nodes()
    nodes.may_end.set()
    duty = nodes.duty("a")
    await duty.look()
    nodes.clock.pass_time(60)
    await duty.look()
    await nodes.until_ended(duty)
    nodes.clock.pass_time(-86_400)
    await duty.look()
    nodes.clock.pass_time(3_600)
    await duty.look()
    await nodes.until_ended(duty, runs=2)


async def test_only_the_node_that_has_the_duty_compares_and_another_takes_it_over() -> None:
    nodes = Nodes()
    first, second = nodes.duty("a"), nodes.duty("b")
    await first.look()
    await second.look()
    for _ in range(4):
        nodes.clock.pass_time(20)
        await first.look()
        await second.look()
    await until_true(lambda: nodes.begun == ["a"])
    nodes.clock.pass_time(31)  # the first stands still
    await second.look()
    await first.look()
    assert first.last is None and first.runs == {}, "what it was at is broken off"
    nodes.clock.pass_time(25)
    await second.look()
    nodes.clock.pass_time(25)
    await second.look()
    nodes.clock.pass_time(25)
    nodes.may_end.set()
    await second.look()
    await nodes.until_ended(second)
    assert nodes.begun == ["a", "b"]


async def test_a_run_begins_for_ended_escrows_a_little_below_where_the_last_one_began() -> None:
    nodes = Nodes()
    nodes.may_end.set()
    duty = nodes.duty("a")
    await duty.compare_once()
    nodes.height, nodes.breaks = 6_000, True
    await duty.compare_once()
    nodes.breaks = False
    await duty.compare_once()
    await duty.compare_once()
    assert nodes.ended_from == [None, 4_900, 4_900, 5_900], "a run that was broken off counts for nothing"


async def test_a_run_waits_until_the_watcher_has_caught_up_but_not_for_ever() -> None:
    nodes = Nodes()
    nodes.ready = False
    nodes.may_end.set()
    duty = nodes.duty("a")
    await duty.look()
    for _ in range(143):
        nodes.clock.pass_time(25)
        await duty.look()
    assert nodes.begun == []
    nodes.clock.pass_time(25)
    await duty.look()
    await nodes.until_ended(duty)


async def test_a_run_that_is_broken_off_is_counted_and_comes_again_in_its_time() -> None:
    nodes = Nodes()
    nodes.breaks = True
    duty = nodes.duty("a")
    await duty.look()
    nodes.clock.pass_time(60)
    await duty.look()
    await nodes.until_ended(duty)
    assert (duty.runs, duty.last) == ({"broken_off": 1}, None)
    nodes.clock.pass_time(3_600)
    await duty.look()
    await nodes.until_ended(duty, runs=2)


async def test_a_node_that_ends_breaks_its_run_off_and_gives_the_duty_back() -> None:
    nodes = Nodes()
    duty = nodes.duty("a")
    running = asyncio.create_task(duty.run())
    await until_true(lambda: bool(nodes.tables.duty_leases))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await nodes.duty("b").look()
    (row,) = nodes.tables.duty_leases.values()
    assert row.holder == "b"


# -- metrics -------------------------------------------------------------------------------------------------


async def test_the_metrics_show_the_newest_run_by_result_and_by_code() -> None:
    nodes = Nodes()
    nodes.may_end.set()
    duty, registry = nodes.duty("a"), CollectorRegistry()
    registry.register(ReconcileMetrics(duty))
    assert b"reconcile_last_run" not in generate_latest(registry)
    await duty.compare_once()
    shown = generate_latest(registry).decode()
    assert 'reconcile_runs_total{result="finished"} 1.0' in shown
    assert 'reconcile_escrows{result="compared"} 2.0' in shown
    assert 'reconcile_escrows{result="shredded"} 1.0' in shown
    assert 'reconcile_differences{code="deposit_not_logged"} 0.0' in shown
    (ended,) = (line for line in shown.splitlines() if line.startswith("reconcile_last_run_timestamp_seconds "))
    assert float(ended.split()[1]) == nodes.clock.now() / SECOND


@pytest.mark.parametrize("value", ["0", "-1", "604801", "hourly"])
def test_an_interval_that_makes_no_sense_is_named(value: str) -> None:
    with pytest.raises(SettingsWrong, match="RECONCILE_EVERY_S: expected a whole number from 1 to 604800"):
        load_settings({"RECONCILE_EVERY_S": value})
    assert load_settings({"RECONCILE_EVERY_S": "60"}).reconcile_every_s == 60
