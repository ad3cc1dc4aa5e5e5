"""Feeds read models from the log: in order, without gaps, by polling, woken early where the writer is near."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

import structlog

from eventstore.api import EventLog, LogUnavailable, Recorded

log = structlog.get_logger(__name__)


class Poisoned(Exception):
    """A model cannot apply an event: it stops, alone, and says where."""

    def __init__(self, *, model: str, position: int) -> None:
        super().__init__(f"{model} at position {position}")
        self.model, self.position = model, position


class Model(Protocol):
    """A read model in memory."""

    name: str

    def apply(self, batch: Iterable[Recorded]) -> None: ...


class Runner:
    """Reads every partition behind one model and keeps it at the log's end.

    Reads at most `page_max` events at a time; polls every `poll_s` seconds; `notify` wakes it at once.
    """

    def __init__(self, event_log: EventLog, model: Model, *, poll_s: float = 1.0, page_max: int = 1000) -> None:
        self._log, self._model, self._poll_s, self._page_max = event_log, model, poll_s, page_max
        self._positions = dict.fromkeys(range(event_log.partitions), 0)
        self._wake = asyncio.Event()
        self._moved = asyncio.Condition()
        event_log.subscribe_wake(self)

    @property
    def positions(self) -> Sequence[int]:
        """How far the model is, by partition."""
        return [self._positions[partition] for partition in sorted(self._positions)]

    def notify(self) -> None:
        """Wakes the runner."""
        self._wake.set()

    async def catch_up(self) -> None:
        """Reads to the end of every partition, as it is now."""
        for partition in self._positions:
            while await self._step(partition) == self._page_max:
                pass
        async with self._moved:
            self._moved.notify_all()

    async def run(self) -> None:
        """Keeps the model at the end until cancelled; raises `Poisoned`."""
        while True:
            self._wake.clear()
            try:
                await self.catch_up()
            except LogUnavailable as broken:
                log.warning("read_model_waits", model=self._model.name, error=type(broken).__name__)
            try:
                # Not `wait_for`: in Python 3.11 it swallows a cancellation that comes together with the wake.
                async with asyncio.timeout(self._poll_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def reached(self, *, partition: int, position: int, timeout_s: float) -> bool:
        """Waits until the model has passed a position; False when it takes too long."""
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self._positions[partition] >= position)
        except TimeoutError:
            return False
        return True

    async def _step(self, partition: int) -> int:
        before = self._positions[partition]
        page = await self._log.read_partition(partition, after_position=before, limit=self._page_max)
        for offset, recorded in enumerate(page, start=1):
            if recorded.position != before + offset:
                raise Poisoned(model=self._model.name, position=recorded.position)
        self._model.apply(page)
        self._positions[partition] = before + len(page)
        return len(page)
