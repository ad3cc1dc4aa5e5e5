"""A server that ends its connections, as its restart does: who only reads notices nothing."""

import asyncio
from contextlib import aclosing

import asyncpg

from eventstore.opening import open_store
from projections.opening import open_models
from tests.patience import PATIENT
from tests.postgres_fixtures import run_apart

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
        _, rows = open_models(store)
        for read in (store.log.heads, store.heads.newest, store.keys.wrapped_by, store.slot_leases.held, rows.counts):
            before = await asyncio.gather(*(read() for _ in range(KEPT)))
            # On another thread, with this loop standing still: nothing here can learn of the end before it tries.
            assert run_apart(end_all(postgres_dsn)) >= KEPT
            assert await read() == before[0]
