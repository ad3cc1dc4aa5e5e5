"""Keeps the signed heads of one node: signs when it is due, writes heads outside the database, and tells of them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from eventstore.api import LogUnavailable
from eventstore.heads import HeadStore
from eventstore.opening import Store
from schemas.heads import HEADS_FORMAT, HeadRecord, PublishedHeads
from service.head_signer import HeadLimits, HeadSigner, Now
from service.heads_file import HeadsFile, record_of
from service.house import House
from service.keys import head_key

log = structlog.get_logger(__name__)

PAGE = 1_000
HEAD_MESSAGE = "signed_head"
"""How the stream calls it when a head was signed."""
Announce = Callable[[HeadRecord], None]
"""Told each new head once, in the order of its partition."""


@asynccontextmanager
async def kept_heads(
    house: House, *, file: Path, announce: Callable[[str, dict[str, Any]], None]
) -> AsyncIterator["HeadKeeper"]:
    """Keeps a node's heads for as long as the block lasts; tells `announce` of each as (type, data).

    Raises `KeyFileWrong`, `HeadsUnreadable`, `OSError`.
    """
    settings = house.settings
    keeper = HeadKeeper(
        house.store,
        head_key(settings),
        clock=house.clock,
        file=HeadsFile(file),
        problems=house.problems,
        limits=HeadLimits(interval_s=settings.head_interval_s, events_max=settings.head_events_max),
        announce=lambda record: announce(HEAD_MESSAGE, msgspec.to_builtins(record)),
    )
    task = asyncio.get_running_loop().create_task(keeper.run(), name="head-keeper")
    task.add_done_callback(keeper.ended)
    try:
        yield keeper
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class HeadKeeper:
    """Signs in its turn, and makes every node's heads known: in the heads file and to whoever is told.

    Raises `HeadsUnreadable` and `OSError` when it is made over a heads file that cannot be read.
    """

    def __init__(
        self,
        store: Store,
        key: Ed25519PrivateKey,
        *,
        clock: Now,
        file: HeadsFile,
        problems: list[str],
        limits: HeadLimits | None = None,
        announce: Announce | None = None,
    ) -> None:
        self._store, self._file, self._limits = store, file, limits or HeadLimits()
        self._problems, self._announce = problems, announce
        outside = file.newest()
        self._written = {partition: head.position for partition, head in outside.items()}
        self._told: set[int] = set()
        self.signer = HeadSigner(store, key, clock=clock, limits=self._limits, remembered=outside)

    async def run(self) -> None:
        """Looks again and again until cancelled; then gives its duty back."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(self._limits.look_s)
        finally:
            try:
                await self.signer.release()
            except LogUnavailable:
                log.warning("duty_lease_not_released")

    async def look(self) -> None:
        """Signs what is due and makes known what is new, here or from another node."""
        try:
            await self.signer.sign_due()
            await self._make_known()
        except LogUnavailable as broken:
            log.warning("heads_wait", error=type(broken).__name__)
        except OSError as broken:
            self._problem_once("the heads file cannot be written", error=type(broken).__name__)
        for partition, reason in self.signer.alarms.items():
            if partition not in self._told:
                self._told.add(partition)
                self._problems.append(f"partition {partition} is not signed any more: {reason}")

    def ended(self, task: "asyncio.Task[None]") -> None:
        """Makes it an operator's problem when `run` ended by itself."""
        if not task.cancelled() and (failure := task.exception()):
            log.error("node_part_ended", part=task.get_name(), exc_info=failure)
            self._problems.append(f"{task.get_name()} ended: {type(failure).__name__}")

    async def _make_known(self) -> None:
        for partition, newest in (await self._store.heads.newest()).items():
            while (written := self._written.get(partition, 0)) < newest.head.position:
                heads = await self._store.heads.after(partition, position=written, limit=PAGE)
                if not heads:
                    break
                # A disk can take its time: it holds up no request.
                await asyncio.to_thread(self._file.append, heads)
                self._written[partition] = heads[-1].position
                self.signer.remember(heads[-1])
                for head in heads:
                    if self._announce is not None:
                        self._announce(record_of(head))

    def _problem_once(self, says: str, *, error: str) -> None:
        log.error("heads_file_not_written", error=error)
        if says not in self._problems:
            self._problems.append(says)

    @property
    def written(self) -> int:
        """The sum of the positions up to which heads are in the file."""
        return sum(self._written.values())


class HeadBoard:
    """What the service publishes of its heads; asks the database again only when its answer has become old."""

    def __init__(self, heads: HeadStore, *, clock: Now, keep_s: float = 1.0) -> None:
        self._heads, self._clock, self._keep_us = heads, clock, round(keep_s * 1_000_000)
        self._shown: PublishedHeads | None = None
        self._at = 0

    async def shown(self) -> PublishedHeads:
        """Returns the newest head of each partition and every key that ever signed; raises `LogUnavailable`."""
        if self._shown is None or not 0 <= self._clock.now() - self._at < self._keep_us:
            newest = await self._heads.newest()
            keys = tuple(await self._heads.keys())
            self._shown = PublishedHeads(
                format=HEADS_FORMAT, keys=keys, heads=tuple(record_of(newest[each].head) for each in sorted(newest))
            )
            self._at = self._clock.now()
        return self._shown


class HeadMetrics(Collector):
    """Shows how far the log is signed, and what is not signed any more."""

    def __init__(self, keeper: HeadKeeper) -> None:
        self._keeper = keeper

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics as they are now."""
        alarms = len(self._keeper.signer.alarms)
        yield GaugeMetricFamily("signed_head_alarms", "Partitions whose signed head is lost.", value=alarms)
        says = "Events covered by a signed head that is in the heads file."
        yield CounterMetricFamily("signed_head_events_total", says, value=self._keeper.written)
