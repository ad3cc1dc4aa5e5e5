"""Opens a log for reading alone: nothing is migrated, no key is needed, and the service may run meanwhile.

Apart from the settings, whose modules take 0.1 s to import: other processes of an audit start with this.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec

from eventstore.api import Leases
from eventstore.grouped import LogLimits
from eventstore.heads_postgres import PostgresHeads
from eventstore.leases import LeaseTable, PostgresLeases
from eventstore.postgres import Pool, PostgresLog, open_pool

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


@asynccontextmanager
async def reading_at(dsn: str, *, connections: int = CONNECTIONS) -> AsyncIterator[Read]:
    """Opens the log of one database with its signed heads, on so many connections; raises `NoLog`, `LogUnavailable`."""
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
        )
    finally:
        await pool.close()


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
