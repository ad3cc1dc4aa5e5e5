"""Opens a log for reading alone: nothing is migrated, no key is needed, and the service may run meanwhile."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import msgspec

from eventstore.api import EventLog, Leases
from eventstore.embedded import start_embedded
from eventstore.grouped import LogLimits
from eventstore.heads_postgres import PostgresHeads
from eventstore.leases import LeaseTable, PostgresLeases
from eventstore.postgres import Pool, PostgresLog, open_pool
from service.settings import Settings

POSTGRES = "pg"
"""Where the embedded database lies in the data folder."""
CONNECTIONS = 2
"""A comparison holds a snapshot on one while it reads the log on the other."""


class NoLog(Exception):
    """There is no log where the settings say."""


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """A log, its signed heads, and what it takes to sign one; as `HeadPlace` wants it."""

    log: PostgresLog
    heads: PostgresHeads
    duty_leases: Leases
    node_id: str
    """Of this process alone: it never takes back the lease of a service."""
    pool: Pool
    dsn: str
    """For another process that reads along; it may hold a password."""


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


@asynccontextmanager
async def reading_at(dsn: str, *, connections: int = CONNECTIONS) -> AsyncIterator[Read]:
    """Opens the log of one database, as `reading_heads` does; raises `NoLog`, `LogUnavailable`."""
    limits = LogLimits()
    pool = await open_pool(dsn, size=connections, limits=limits)
    try:
        heads = PostgresHeads(pool, limits=limits)
        partitions = await _partitions(PostgresLog(append_pool=pool, pool=pool, partitions=1, limits=limits), heads)
        yield Read(
            log=PostgresLog(append_pool=pool, pool=pool, partitions=partitions, limits=limits),
            heads=heads,
            duty_leases=PostgresLeases(pool, table=LeaseTable.DUTIES, partitions=partitions, limits=limits),
            node_id=f"audit-{secrets.token_hex(8)}",
            pool=pool,
            dsn=dsn,
        )
    finally:
        await pool.close()


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


async def _partitions(log: PostgresLog, store: PostgresHeads) -> int:
    try:
        heads = await log.heads()
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedObjectError, asyncpg.InvalidParameterValueError):
        heads = []
    if not heads:
        raise NoLog("there is no log in this database yet")
    try:
        await store.newest()
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
        raise NoLog("this log was last served by an older version; start the service once") from None
    return len(heads)
