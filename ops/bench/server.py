"""A throw-away Postgres for benchmarks: the embedded one, durable, in a folder of its own."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from eventstore.embedded import EmbeddedPostgres, start_embedded


@asynccontextmanager
async def bench_server() -> AsyncIterator[EmbeddedPostgres]:
    """Starts a server that commits to disk as the service's own does, and removes it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tk-bench-"))
    try:
        running = await start_embedded(folder / "pg")
        try:
            yield running
        finally:
            await running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
