"""Has log and chain compared again and again, by one node at a time, and brings each escrow what came of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager

import msgspec
import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from actors.desk import Desk, derived_id
from actors.escrow import Accepted
from actors.ports import Clock, DaemonDown
from actors.seat import LATER
from domain import commands as c
from domain.difference import DifferenceCode
from domain.ids import MICROS, Micros
from eventstore.api import Lease, Leases, LogUnavailable
from service.reconcile import Compared, Unchecked
from service.reconcile_apart import ReconcileBroken

log = structlog.get_logger(__name__)

LEASE = "reconcile/0"
"""The duty's lease; duties lie in a partition each, and this one is for all of them."""
ACTOR = "reconciler"
COMPARED = "compared"
_BROKEN_OFF = (ReconcileBroken, DaemonDown, LogUnavailable, OSError)

OVERLAP_BLOCKS = 100
"""How far below the last run's height the next one begins for escrows that have ended: no reorg reaches as deep."""

Compare = Callable[[int | None], AsyncGenerator[Compared, None]]
"""Begins to compare every escrow; those that have ended from this height on, where it is known."""


class DutyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When comparisons run; times in seconds."""

    every_s: int = 3_600
    """From the beginning of one run to that of the next, or to the end of a longer one."""
    first_s: int = 60
    """From taking the duty to the first run."""
    look_s: float = 5.0
    lease_s: float = 30.0


class Run(msgspec.Struct, kw_only=True):
    """What one run came to."""

    escrows: Counter[str] = msgspec.field(default_factory=Counter)
    """Compared ones, and the others by what kept them from it."""
    differences: Counter[str] = msgspec.field(default_factory=Counter)
    """By code."""
    ended_at: Micros = Micros(0)
    height: int | None = None
    """Number of blocks when it began."""

    def take(self, each: Compared) -> None:
        """Counts one escrow."""
        self.escrows[each.unchecked or COMPARED] += 1
        if each.unchecked is None and self.height is None:
            self.height = each.height
        self.differences.update(found.code for found in each.differences)


class ReconcileDuty:
    """Compares while this node has the duty; `ready` says whether its watcher has caught the log up after a start.

    A watcher that never does puts a run off for one `every_s` at the most: then the run says what it does not see.
    """

    def __init__(
        self,
        compare: Compare,
        *,
        desk: Desk,
        leases: Leases,
        node_id: str,
        clock: Clock,
        ready: Callable[[], bool],
        limits: DutyLimits | None = None,
    ) -> None:
        self._compare, self._desk, self._leases, self._node_id = compare, desk, leases, node_id
        self._clock, self._ready, self._limits = clock, ready, limits or DutyLimits()
        self._lease: Lease | None = None
        self._due = self._overdue = 0
        self._begin: int | None = None
        self._running: asyncio.Task[None] | None = None
        self.last: Run | None = None
        """The newest run that came to its end on this node, while it has the duty."""
        self.runs: Counter[str] = Counter()

    async def run(self) -> None:
        """Looks again and again until cancelled; then ends what runs and gives the duty back."""
        try:
            while True:
                await self.look()
                await self._clock.sleep(self._limits.look_s)
        finally:
            await self._end_run()
            if self._lease is not None:
                try:
                    await self._leases.release(self._lease)
                except LogUnavailable:
                    log.warning("duty_lease_not_released")

    async def look(self) -> None:
        """Takes or keeps the duty, and begins a run when one is due; without the duty none goes on."""
        try:
            has_duty = await self._has_duty()
        except LogUnavailable:
            has_duty = False
        if not has_duty:
            await self._end_run()
            self.last = self._begin = None
        elif self._running is None or self._running.done():
            self._begin_if_due(self._clock.now())

    async def compare_once(self) -> None:
        """Compares every escrow once and brings each one what is news of it."""
        run = Run()
        try:
            async with aclosing(self._compare(self._begin)) as compared:
                async for each in compared:
                    run.take(each)
                    if each.is_news:
                        await self._tell(each)
        except _BROKEN_OFF as broken:
            self.runs["broken_off"] += 1
            log.warning("reconciliation_broken_off", error=type(broken).__name__)
            return
        run.ended_at = Micros(self._clock.now())
        if run.height is not None:
            self._begin = max(0, run.height - OVERLAP_BLOCKS)
        self.runs["finished"] += 1
        self.last = run
        log.info("reconciled", escrows=dict(run.escrows), differences=dict(run.differences))

    def _begin_if_due(self, now: int) -> None:
        latest = now + self._limits.every_s * MICROS
        # A clock that was put back must not put the runs off by as much.
        self._due, self._overdue = min(self._due, latest), min(self._overdue, latest)
        if now >= self._due and (self._ready() or now >= self._overdue):
            self._due = latest
            self._running = asyncio.get_running_loop().create_task(self.compare_once(), name="reconciliation")
            self._running.add_done_callback(_ended)

    async def _has_duty(self) -> bool:
        held, self._lease = self._lease, None
        if held is not None and await self._leases.renew(held):
            self._lease = held
            return True
        self._lease = await self._leases.acquire(LEASE, holder=self._node_id, seconds=self._limits.lease_s)
        if self._lease is not None:
            now, limits = self._clock.now(), self._limits
            self._due = max(self._due, now + min(limits.first_s, limits.every_s) * MICROS)
            self._overdue = now + limits.every_s * MICROS
        return self._lease is not None

    async def _end_run(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None

    async def _tell(self, each: Compared) -> None:
        """Brings one escrow the news; one that has moved since is left to the next run."""
        command = c.ReportComparison(
            at=Micros(self._clock.now()), height=each.height, differences=each.differences, version=each.version
        )
        command_id = derived_id(each.escrow_id, "compared", each.version, each.height)
        try:
            answer = await self._desk.handle(each.escrow_id, command, command_id=command_id, actor=ACTOR)
        except LATER as later:
            log.warning("comparison_waits", escrow=each.escrow_id, error=type(later).__name__)
            return
        except Exception as broken:  # what is wrong with one escrow must not keep the others from being compared
            log.error("comparison_not_told", escrow=each.escrow_id, error=type(broken).__name__)
            return
        if isinstance(answer, Accepted):
            codes = sorted({found.code for found in each.differences})
            log.warning("chain_differs", escrow=each.escrow_id, codes=codes)


@asynccontextmanager
async def on_duty(duty: ReconcileDuty) -> AsyncIterator[None]:
    """Lets a node take the duty for as long as the block lasts."""
    task = asyncio.get_running_loop().create_task(duty.run(), name="reconcile-duty")
    task.add_done_callback(_ended)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class ReconcileMetrics(Collector):
    """Shows the newest run; nothing of it on nodes without the duty."""

    def __init__(self, duty: ReconcileDuty) -> None:
        self._duty = duty

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics as they are now."""
        runs = CounterMetricFamily("reconcile_runs", "Comparisons of log and chain.", labels=["result"])
        for result in ("finished", "broken_off"):
            runs.add_metric([result], self._duty.runs[result])
        yield runs
        last = self._duty.last
        if last is None:
            return
        ended = last.ended_at / MICROS
        yield GaugeMetricFamily("reconcile_last_run_timestamp_seconds", "When the newest one ended.", value=ended)
        escrows = GaugeMetricFamily("reconcile_escrows", "Escrows in the newest one.", labels=["result"])
        for result in (COMPARED, *Unchecked):
            escrows.add_metric([result], last.escrows[result])
        differences = GaugeMetricFamily("reconcile_differences", "Differences it found.", labels=["code"])
        for code in DifferenceCode:
            differences.add_metric([code], last.differences[code])
        yield from (escrows, differences)


def _ended(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (failure := task.exception()):
        log.error("node_part_ended", part=task.get_name(), exc_info=failure)
