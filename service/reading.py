"""Opens a log for reading alone: nothing is migrated, no key is needed, and the service may run meanwhile."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from eventstore.api import EventLog
from eventstore.embedded import start_embedded
from eventstore.grouped import LogLimits
from eventstore.postgres import PostgresLog, open_pool
from service.settings import Settings

POSTGRES = "pg"
"""Where the embedded database lies in the data folder."""


class NoLog(Exception):
    """There is no log where the settings say."""


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[EventLog]:
    """Opens the log of `DATABASE_URL`, or of the embedded Postgres, which is started when it does not run.

    Raises `NoLog`, `EmbeddedFailed`, `LogUnavailable`.
    """
    async with AsyncExitStack() as stack:
        dsn = settings.database_url or await _embedded(stack, settings)
        limits = LogLimits()
        pool = await open_pool(dsn, size=1, limits=limits)
        stack.push_async_callback(pool.close)
        partitions = await _partitions(PostgresLog(append_pool=pool, pool=pool, partitions=1, limits=limits))
        yield PostgresLog(append_pool=pool, pool=pool, partitions=partitions, limits=limits)


async def _embedded(stack: AsyncExitStack, settings: Settings) -> str:
    folder = settings.thirdkey_home / POSTGRES
    if not folder.exists():
        raise NoLog(f"there is no database in {settings.thirdkey_home}, and DATABASE_URL is not set")
    server = await start_embedded(folder)
    stack.push_async_callback(server.stop)
    return server.dsn


async def _partitions(log: PostgresLog) -> int:
    try:
        heads = await log.heads()
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedObjectError, asyncpg.InvalidParameterValueError):
        heads = []
    if not heads:
        raise NoLog("there is no log in this database yet")
    return len(heads)
