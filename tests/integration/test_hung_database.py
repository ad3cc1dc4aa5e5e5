"""A database that stops answering: outcomes are unknown, never called refused, and no connection stays stuck."""

import os
import signal
from hashlib import sha256

import asyncpg
import pytest

from eventstore.api import Append, Appended, LogUnavailable, NewEvent, OutcomeUnknown
from eventstore.grouped import LogLimits
from eventstore.opening import open_store


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
"""


async def _appending_backend(dsn: str) -> int:
    connection: asyncpg.Connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval(WHO_APPENDED))
    finally:
        await connection.close()


async def test_an_append_to_a_stopped_server_is_unknown_and_the_next_takes_another_connection(postgres_dsn):
    limits = LogLimits(append_timeout_s=0.3, connect_timeout_s=2)
    store = await open_store(dsn=postgres_dsn, encryption_key=bytes(32), partitions=1, node_id="n", limits=limits)
    assert isinstance(await store.log.append(item(1)), Appended)
    backend = await _appending_backend(postgres_dsn)
    os.kill(backend, signal.SIGSTOP)
    try:
        with pytest.raises((OutcomeUnknown, LogUnavailable)):
            await store.log.append(item(2))
        assert isinstance(await store.log.append(item(3)), Appended)
    finally:
        os.kill(backend, signal.SIGCONT)
    await store.aclose()
