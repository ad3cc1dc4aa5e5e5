"""Opens the log that the settings name for reading alone, on its database or the embedded one."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from eventstore.api import EventLog
from eventstore.embedded import start_embedded
from service.read_log import CONNECTIONS, NoLog, Read, reading_at
from service.settings import Settings

POSTGRES = "pg"
"""Where the embedded database lies in the data folder."""


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[EventLog]:
    """Opens the log of `DATABASE_URL`, or of the embedded Postgres, which is started when it does not run.

    Raises `NoLog`, `EmbeddedFailed`, `LogUnavailable`.
    """
    async with reading_heads(settings) as read:
        yield read.log


@asynccontextmanager
async def reading_heads(settings: Settings, *, connections: int = CONNECTIONS) -> AsyncIterator[Read]:
    """Opens a log with its signed heads, on so many connections at most; raises as `reading` does."""
    async with AsyncExitStack() as stack:
        dsn = await database(stack, settings)
        yield await stack.enter_async_context(reading_at(dsn, connections=connections))


async def database(stack: AsyncExitStack, settings: Settings) -> str:
    """Returns the address of `DATABASE_URL`'s database, or of the embedded one, started for as long as the stack lasts.

    Raises `NoLog`, `EmbeddedFailed`.
    """
    if settings.database_url is not None:
        return settings.database_url
    folder = settings.thirdkey_home / POSTGRES
    if not folder.exists():
        raise NoLog(f"there is no database in {settings.thirdkey_home}, and DATABASE_URL is not set")
    server = await start_embedded(folder)
    stack.push_async_callback(server.stop)
    return server.dsn
