"""A server that ends its connections, as its restart does: who only reads notices nothing."""

import asyncio
from contextlib import aclosing

import asyncpg
import pytest

from eventstore.api import LogUnavailable
from eventstore.opening import open_store
from projections.opening import open_models
from tests.patience import PATIENT
from tests.postgres_fixtures import run_apart
from tests.store_worlds import LossyProxy

KEPT = 4
"""Connections that lie idle in the pool when they end."""


async def end_all(dsn):
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(
            "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity"
            " where application_name like 'thirdkey%' and datname = current_database()"
        )
    finally:
        await connection.close()


async def test_log_and_read_models_are_read_although_every_idle_connection_has_ended(postgres_dsn):
    store = await open_store(dsn=postgres_dsn, encryption_key=bytes(32), partitions=4, node_id="n", limits=PATIENT)
    async with aclosing(store):
        _, rows = open_models(store, limits=PATIENT)
        for read in (store.log.heads, store.heads.newest, store.keys.wrapped_by, store.slot_leases.held, rows.counts):
            before = await asyncio.gather(*(read() for _ in range(KEPT)))
            # On another thread, with this loop standing still: nothing here can learn of the end before it tries.
            assert run_apart(end_all(postgres_dsn)) >= KEPT
            assert await read() == before[0]


async def test_who_opens_a_store_while_the_server_ends_is_told_that_it_is_away(postgres_dsn):
    proxy = await LossyProxy.start(postgres_dsn)
    proxy.arm(deliver=False)
    with pytest.raises(LogUnavailable):
        await open_store(dsn=proxy.dsn, encryption_key=bytes(32), partitions=1, node_id="n", limits=PATIENT)
    store = await open_store(dsn=proxy.dsn, encryption_key=bytes(32), partitions=1, node_id="n", limits=PATIENT)
    await store.aclose()
    await proxy.aclose()
