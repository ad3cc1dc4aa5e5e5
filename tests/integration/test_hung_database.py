"""A database that stops answering: outcomes are unknown, never called refused, and no connection stays stuck."""

import asyncio
import os
import signal
from hashlib import sha256

import asyncpg
import pytest

from eventstore.api import AlreadyDone, Append, Appended, LogBusy, LogUnavailable, NewEvent, OutcomeUnknown
from eventstore.grouped import LogLimits
from eventstore.opening import Store, open_store
from tests.patience import PATIENCE_S


def item(number: int) -> Append:
    event = NewEvent(type="noted", schema_version=1, occurred_at=number, meta=b"{}", body=b"{}")
    return Append(
        stream_id=f"s-{number}",
        expected_version=0,
        events=(event,),
        command_id=sha256(str(number).encode()).hexdigest(),
    )


WHO_APPENDED = """
select pid from pg_stat_activity
where datname = current_database() and query like '-- Appends a group%' and pid <> pg_backend_pid()
order by backend_start desc limit 1
"""


async def _appending_backend(dsn: str) -> int:
    connection: asyncpg.Connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval(WHO_APPENDED))
    finally:
        await connection.close()


async def _appended(store: Store, one: Append) -> None:
    """Appends as a client does: whoever does not know, or is told to come later, comes again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                assert isinstance(await store.log.append(one), Appended | AlreadyDone)
                return
            except (OutcomeUnknown, LogUnavailable, LogBusy):
                await asyncio.sleep(0.05)


async def test_an_append_to_a_stopped_server_is_unknown_and_the_next_takes_another_connection(postgres_dsn):
    limits = LogLimits(append_timeout_s=0.5, connect_timeout_s=PATIENCE_S)
    store = await open_store(dsn=postgres_dsn, encryption_key=bytes(32), partitions=1, node_id="n", limits=limits)
    await _appended(store, item(1))
    backend = await _appending_backend(postgres_dsn)
    os.kill(backend, signal.SIGSTOP)
    try:
        with pytest.raises((OutcomeUnknown, LogUnavailable)):
            await store.log.append(item(2))
        await _appended(store, item(3))
    finally:
        os.kill(backend, signal.SIGCONT)
    await store.aclose()
