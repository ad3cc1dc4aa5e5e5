"""A Postgres of a test's own that is killed, and comes back."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from eventstore.embedded import EmbeddedPostgres, start_embedded

DOWN_S = 0.4


class Database:
    """One embedded Postgres that is killed, and started again after a while."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.running: EmbeddedPostgres | None = None
        self.kills = 0
        self._starting: asyncio.Task[str] | None = None

    async def start(self) -> str:
        """Starts it and returns its address."""
        self.running = await start_embedded(self._folder)
        return self.running.dsn

    async def killed(self) -> None:
        """Kills it, and has it started again a little later."""
        assert self.running is not None
        self.kills += 1
        os.kill(self.running.pid, signal.SIGKILL)
        self._starting = asyncio.get_running_loop().create_task(self._start_again())

    async def back(self) -> None:
        """Waits until it is there."""
        if self._starting is not None:
            await asyncio.shield(self._starting)

    async def _start_again(self) -> str:
        await asyncio.sleep(DOWN_S)
        return await self.start()


@pytest_asyncio.fixture
async def database() -> AsyncIterator[Database]:
    # Not under pytest's own folder: as root the server's user has to pass every folder above it.
    folder = Path(tempfile.mkdtemp(prefix="tk-"))
    database = Database(folder / "pg")
    yield database
    await database.back()
    assert database.running is not None
    await database.running.stop()
    shutil.rmtree(folder)
