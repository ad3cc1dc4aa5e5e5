"""Notices between nodes on Postgres: they make readers quick, and nothing is wrong without them."""

import asyncio

import asyncpg
import pytest

from eventstore.opening import open_store
from eventstore.subscription import Subscription
from tests.contract.test_subscription import NEVER_S, follow, item
from tests.patience import PATIENT

PARTITIONS = 4


class Bell:
    def __init__(self):
        self.rung = asyncio.Event()

    def notify(self):
        self.rung.set()


@pytest.fixture
async def opened(postgres_dsn):
    stores = []

    async def open_one(**more):
        usual = {
            "dsn": postgres_dsn,
            "encryption_key": bytes(32),
            "partitions": PARTITIONS,
            "node_id": "n",
            "limits": PATIENT,
        }
        store = await open_store(**(usual | more))
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        await store.aclose()


async def cut_notices(dsn):
    """Ends every connection that carries notices, as an administrator may."""
    connection = await asyncpg.connect(dsn)
    try:
        cut = await connection.fetchval(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where application_name = 'thirdkey-notices' and datname = current_database()"
        )
    finally:
        await connection.close()
    return cut


async def test_after_the_connections_were_ended_nodes_wake_each_other_again(postgres_dsn, opened):
    writer, other = await opened(), await opened()
    bell = Bell()
    other.log.subscribe_wake(bell)
    async with asyncio.timeout(60):
        await writer.log.append(item("s", 0))
        await bell.rung.wait()
        assert await cut_notices(postgres_dsn) >= 2
        bell.rung.clear()
        await bell.rung.wait()  # on its new connection the other node looks for what it missed
        for version in range(1, 4):
            bell.rung.clear()
            await writer.log.append(item("s", version))
            await bell.rung.wait()


async def test_a_reader_loses_nothing_while_its_notices_are_cut_again_and_again(postgres_dsn, opened):
    writer, other = await opened(), await opened()
    reader = Subscription(other.log, poll_s=0.05)

    async def write():
        for version in range(120):
            await writer.log.append(item("s", version))
            if version % 20 == 0:
                await cut_notices(postgres_dsn)

    _, seen = await asyncio.gather(write(), follow(reader, count=120))
    assert [each.version for each in seen] == list(range(1, 121))


async def test_with_notices_switched_off_a_reader_finds_everything_by_polling(opened):
    writer, other = await opened(), await opened(notice_dsn="")
    assert other.notices is None
    bell = Bell()
    other.log.subscribe_wake(bell)
    reader = Subscription(other.log, poll_s=0.02)
    for version in range(5):
        await writer.log.append(item("s", version))
    assert [each.version for each in await follow(reader, count=5)] == [1, 2, 3, 4, 5]
    assert not bell.rung.is_set()


async def test_a_node_is_not_woken_twice_by_its_own_commit(opened):
    alone, other = await opened(), await opened()
    rung = []
    alone.log.subscribe_wake(type("Counter", (), {"notify": lambda self: rung.append(1)})())
    reader = Subscription(other.log, poll_s=NEVER_S)
    await alone.log.append(item("s", 0))
    await follow(reader, count=1)  # its notice has come round
    assert len(rung) == 1


async def test_a_database_that_takes_no_notices_stops_no_store(opened):
    store = await opened(notice_dsn="postgresql://127.0.0.1:1/nothing")
    await store.log.append(item("s", 0))
    assert [each.version for each in await follow(Subscription(store.log), count=1)] == [1]
