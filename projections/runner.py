"""Keeps the live read models at the log's end: on any number of nodes, one of which does the work at a time."""

import asyncio
from collections.abc import Mapping

import structlog

from eventstore.api import EventLog, LogUnavailable
from eventstore.subscription import Subscription
from projections.api import ModelTables, Progress
from projections.feeder import Feeder, Overtaken
from projections.models import MODELS

log = structlog.get_logger(__name__)

GRACE_LOOKS = 10
"""How often a node that looks on looks, within one grace."""


class Runner:
    """Feeds the live generations, or looks on while another node feeds them.

    Checkpoints move by compare-and-set, so any number of nodes is right. So that they do not all do all the work, a
    node that was overtaken only looks on, and takes over when the models stay behind for `grace_s` seconds without
    moving. Looks every `poll_s` seconds, woken at once by the log. A model whose own code fails stays behind alone and
    is tried again when a node starts.
    """

    def __init__(self, event_log: EventLog, tables: ModelTables, *, poll_s: float = 1.0, grace_s: float = 0.2) -> None:
        self._log, self._tables, self._poll_s, self._grace_s = event_log, tables, poll_s, grace_s
        self._waker = Subscription(event_log, poll_s=poll_s)
        self._feeder: Feeder | None = None
        self._looks_on = False
        self._look_at = 0.0
        """When to look at the tables again although nothing seems to have changed: a rebuilt model was swapped in, or
        a database that lost its last moments holds less than it did."""
        self._progress: Mapping[str, Progress] = {}
        self._moved = asyncio.Condition()

    @property
    def leads(self) -> bool:
        """Whether this node does the work at present."""
        return self._feeder is not None

    def positions(self, model: str) -> Mapping[int, int]:
        """How far the live generation of a model is known to be, by partition; it may be further."""
        known = self._progress.get(model)
        if known is None:
            return dict.fromkeys(range(self._log.partitions), 0)
        fed = self._feeder.positions.get(known.generation) if self._feeder else None
        return dict(known.positions if fed is None else fed)

    def stopped(self) -> Mapping[str, str]:
        """Models that stand still, with where and why."""
        return {model: each.stopped for model, each in self._progress.items() if each.stopped}

    def notify(self) -> None:
        """Wakes the runner."""
        self._waker.notify()

    async def catch_up(self) -> None:
        """Brings every model to the log's end as it is now, and gives stopped ones another chance.

        Raises `LogUnavailable`, and `LogGap` when the log itself is broken.
        """
        await self._tables.begin(MODELS)
        for model in MODELS:
            await self._tables.set_stopped(model, None)
        await self._look()
        heads = await self._heads()
        while self._is_behind(heads):
            await self._turn()

    async def run(self) -> None:
        """Keeps the models at the end until cancelled; raises `LogGap` when the log itself is broken."""
        try:
            while True:
                try:
                    await self._turn()
                except LogUnavailable as broken:
                    log.warning("read_models_wait", error=type(broken).__name__)
                await self._waker.wait()
        finally:
            self._step_down()
            self._waker.close()

    async def reached(self, model: str, wanted: Mapping[int, int], *, timeout_s: float) -> bool:
        """Waits until a model has passed these positions; False when it takes too long."""
        if self._has(model, wanted):
            return True
        self.notify()
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self._has(model, wanted))
        except TimeoutError:
            return False
        return True

    def _has(self, model: str, wanted: Mapping[int, int]) -> bool:
        known = self.positions(model)
        return all(known.get(partition, 0) >= position for partition, position in wanted.items())

    # -- leading, or looking on ----------------------------------------------------------------------------------

    async def _turn(self) -> None:
        """Does what there is to do now, unless another node does it."""
        try:
            if self._feeder is None or asyncio.get_running_loop().time() >= self._look_at:
                await self._look()
            if not self._looks_on or await self._nobody_works():
                await self._lead()
        except Overtaken:
            self._step_down()
            self._looks_on = True
            await self._look()
        except BaseException:
            # What was read may not have been written: the next feeder begins at the checkpoints.
            self._step_down()
            raise

    async def _lead(self) -> None:
        self._looks_on = False
        feeder = self._feeder = self._feeder or self._new_feeder()
        while await feeder.step():
            await self._note_failures(feeder)
            await self._tell()

    def _new_feeder(self) -> Feeder:
        fed = {each.generation: each.positions for each in self._fed()}
        return Feeder(self._log, self._tables, positions=fed, poll_s=self._poll_s)

    async def _nobody_works(self) -> bool:
        """Looks on for a while; says whether the models are behind and nobody brings them forward."""
        heads = await self._heads()
        if not self._is_behind(heads):
            return False
        before = self._places()
        for _ in range(GRACE_LOOKS):
            await asyncio.sleep(self._grace_s / GRACE_LOOKS)
            await self._look()
            if self._places() != before:
                self.notify()  # look on at once: somebody may wait for what is still to come
                return False
        return True

    async def _look(self) -> None:
        """Reads how the models stand; steps down when that is not what this node's feeder takes for granted."""
        self._progress = await self._tables.progress()
        self._look_at = asyncio.get_running_loop().time() + self._poll_s
        if self._feeder is not None and not self._agrees(self._feeder):
            self._step_down()
        await self._tell()

    def _agrees(self, feeder: Feeder) -> bool:
        live = {each.generation: each.positions for each in self._fed() if each.generation not in feeder.failed}
        mine = {each: at for each, at in feeder.positions.items() if each not in feeder.failed}
        return live == mine

    def _fed(self) -> list[Progress]:
        return [each for each in self._progress.values() if each.model in MODELS and not each.stopped]

    def _is_behind(self, heads: Mapping[int, int]) -> bool:
        return any(not self._has(each.model, heads) for each in self._fed())

    def _places(self) -> list[Mapping[int, int]]:
        return [each.positions for each in self._fed()]

    def _step_down(self) -> None:
        if self._feeder is not None:
            self._feeder.close()
            self._feeder = None

    async def _note_failures(self, feeder: Feeder) -> None:
        new = {each: says for each, says in feeder.failed.items() if each.model not in self.stopped()}
        for generation, says in new.items():
            await self._tables.set_stopped(generation.model, says)
        if new:
            await self._look()

    async def _heads(self) -> Mapping[int, int]:
        return {head.partition: head.position for head in await self._log.heads()}

    async def _tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()
