"""The embedded world: what it does when something in it dies."""

import asyncio
from pathlib import Path

import structlog

from eventstore.embedded import EmbeddedPostgres
from eventstore.embedded_os import me
from service.embedded import POSTGRES, EmbeddedWorld

NO_PID = 1 << 30
"""Above what the kernel gives out."""


async def test_a_database_that_cannot_be_started_now_is_tried_again(tmp_path: Path):
    folder = tmp_path / POSTGRES
    folder.write_text("in the way")
    dead = EmbeddedPostgres(folder=folder, dsn="", pid=NO_PID, socket_folder=folder, owner=me())
    world = EmbeddedWorld(home=tmp_path, postgres=dead)
    with structlog.testing.capture_logs() as logs:
        keeping = asyncio.create_task(world.keep_alive())
        async with asyncio.timeout(60):
            while [each["event"] for each in logs].count("world_not_revived") < 2:
                assert not keeping.done(), "given up"
                await asyncio.sleep(0.05)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
