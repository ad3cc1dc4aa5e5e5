"""A process that feeds and rebuilds read models, and dies at one of its writes."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any, cast

import msgspec

from eventstore.opening import open_store
from projections.api import Batch, Generation, ModelTables
from projections.models import MODELS
from projections.opening import open_models
from projections.rebuild import rebuild
from projections.runner import Runner
from tests.patience import PATIENT

PARTITIONS = 4


class Doom(msgspec.Struct, frozen=True, kw_only=True):
    """On which database, at which of its writes a child dies, and whether it rebuilds everything at the end."""

    dsn: str
    folder: Path
    write: int
    moment: str
    """before, during or after that write."""


class DeadlyTables:
    """Tables whose process dies around its n-th write."""

    def __init__(self, tables: ModelTables, doom: Doom) -> None:
        self._tables, self._doom, self._written = tables, doom, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)

    async def write(self, batch: Batch) -> frozenset[Generation]:
        """Writes, and dies before, while or after that."""
        self._written += 1
        doomed = self._doom.moment if self._written == self._doom.write else ""
        if doomed == "before":
            _die()
        if doomed == "during":
            # Within the two or three round trips of its transaction.
            asyncio.get_running_loop().call_later(self._written % 7 / 2_000, _die)
        moved = await self._tables.write(batch)
        if doomed == "after":
            _die()
        return moved


def run(doom: Doom) -> None:
    """Feeds all models to the log's end and rebuilds them, or dies on the way."""
    asyncio.run(_live(doom))


async def _live(doom: Doom) -> None:
    store = await open_store(dsn=doom.dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id="n", limits=PATIENT)
    tables = cast(ModelTables, DeadlyTables(open_models(store, limits=PATIENT)[0], doom))
    await Runner(store.log, tables).catch_up()
    await rebuild(store.log, tables, tuple(MODELS))
    await store.aclose()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
