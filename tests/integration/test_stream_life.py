"""Sockets that are slow, silent, many, or on a node that ends: nothing is lost, and nobody waits for another."""

import asyncio
import socket
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest
from aiohttp import ClientSession, TCPConnector, WSMsgType, WSServerHandshakeError

from eventstore.api import AlreadyDone, Appended, LogBusy, LogUnavailable, OutcomeUnknown
from eventstore.opening import open_store
from schemas.cursor import decode_cursor
from schemas.stream import HEARTBEAT, SIGNED_HEAD, Message
from service.api.stream import HUB
from service.auth import Right
from tests.given import ARBITER, BUYER, VENDOR
from tests.patience import PATIENCE_S, PATIENT
from tests.sim_world import until_true
from tests.stream_world import ADMIN, Cut, Listener, append, created, escrow_id_of, item_of, listen, listen_live, noise
from tests.worlds import house_world

ADMINS = (Right.ADMIN,)
MINE = escrow_id_of(1)
BULK = 100
"""Events in one append."""


def hub_of(world):
    return world.client.app[HUB]


async def grow(store, escrow_id, count, *, version=1):
    """Adds noise in bulk."""
    while version < count:
        step = min(BULK, count - version)
        await append(store, escrow_id, version, *[noise()] * step)
        version += step


# -- a node that ends ----------------------------------------------------------------------------------------


async def test_a_node_that_stops_says_good_bye_with_a_cursor_and_its_successor_goes_on(store_world):
    first = await store_world.open()
    async with house_world(store=first) as world:
        trusted, issuer = world.house.settings.issuer_public_key, world.issuer
        listener = await listen_live(world)
        await append(first, MINE, 0, created(MINE), noise())
        seen = await listener.events(2)
        closing = asyncio.create_task(listener.event())
        await world.client.server.close()
        with pytest.raises(Cut) as cut:
            await closing
    assert (cut.value.code, cut.value.word, cut.value.cursor) == (1012, "stopping", seen[-1].cursor)
    second = await store_world.open()
    await append(second, MINE, 2, noise())
    async with house_world(store=second, issuer_public_key=trusted) as world:
        world.issuer = issuer
        listener = await listen(world, after=cut.value.cursor)
        assert [each.version for each in await listener.caught_up()] == [3]
        await append(second, MINE, 3, noise())
        assert (await listener.event()).version == 4


async def test_a_cursor_from_a_node_that_is_further_waits_for_this_one(store_world):
    stores = [await store_world.open(), await store_world.open(node_id="m")]
    async with house_world(store=stores[0]) as one:
        trusted = one.house.settings.issuer_public_key
        async with house_world(store=stores[1], issuer_public_key=trusted) as two:
            two.issuer = one.issuer
            ahead = await listen_live(one)
            await append(stores[0], MINE, 0, created(MINE))
            for version in range(1, 10):
                message = await ahead.event()
                resumed = await listen(two, after=message.cursor)
                await append(stores[version % 2], MINE, version, noise())
                assert (await resumed.event()).version == version + 1
                await resumed.close()


# -- slow, silent, broken ------------------------------------------------------------------------------------

MANY = 4_000
"""Events that no socket's buffers hold."""


@asynccontextmanager
async def cramped(world, **more):
    """A live listener whose connection has little room: what it does not read soon stands at the sender's."""
    async with ClientSession(connector=TCPConnector(socket_factory=_with_little_room)) as session:
        headers = {"Authorization": f"Bearer {world.token(BUYER)}"}
        opened = await session.ws_connect(world.client.make_url("/api/stream"), headers=headers, **more)
        listener = Listener(opened)
        await listener.caught_up()
        yield listener


def _with_little_room(address):
    plain = socket.socket(address[0], address[1])
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    return plain


def sample(world, name, **labels):
    return world.telemetry.registry.get_sample_value(name, labels) or 0


async def hear(world, count, *, user):
    """Listens as a good client does: whoever is cut, be it by a machine that stood still, goes on where it was."""
    heard: list[Message] = []
    cursor = "0"
    while len(heard) < count:
        listener = await listen(world, user, after=cursor)
        with suppress(Cut):
            while len(heard) < count:
                heard.append(await listener.event())
                cursor = heard[-1].cursor
    return heard


async def test_a_slow_socket_is_told_and_cut_and_finds_everything_when_it_comes_back():
    async with house_world(stream_slow_s=1) as world, cramped(world) as slow:
        store, (session,) = world.house.store, hub_of(world)._by_user[BUYER]
        await append(store, MINE, 0, created(MINE))
        reading = asyncio.create_task(hear(world, MANY, user=VENDOR))
        growing = asyncio.create_task(grow(store, MINE, MANY))
        await until_true(session._ending.done)  # only now it reads on, and not too late for the good-bye
        seen = []
        with pytest.raises(Cut) as cut:
            while True:
                seen.append(await slow.event())
        assert (cut.value.code, cut.value.word) == (1013, "slow")
        assert sample(world, "stream_closed_total", why="slow") >= 1
        await growing
        assert [each.version for each in await reading] == list(range(1, MANY + 1)), "nobody waits for the slow one"
        assert cut.value.cursor == seen[-1].cursor
        again = await listen(world, after=cut.value.cursor)
        seen += await again.caught_up()
        assert [each.version for each in seen] == list(range(1, MANY + 1))


async def test_a_socket_that_pauses_falls_behind_and_is_served_from_the_log_again():
    async with house_world(stream_queue_max=4, stream_page_max=300) as world, cramped(world) as slow:
        await append(world.house.store, MINE, 0, created(MINE))
        await grow(world.house.store, MINE, MANY)
        await until_true(lambda: sum(hub_of(world).place) == MANY)
        assert [each.version for each in await slow.events(MANY)] == list(range(1, MANY + 1))
        assert sample(world, "stream_behind_total") >= 1
        await slow.caught_up()
        await append(world.house.store, MINE, MANY, noise())
        assert (await slow.event()).version == MANY + 1


async def test_a_socket_that_gives_no_sign_of_life_is_cut():
    async with house_world(stream_heartbeat_s=0.05, stream_slow_s=0.2) as world:
        headers = {"Authorization": f"Bearer {world.token(BUYER)}"}
        silent = Listener(await world.client.ws_connect("/api/stream", headers=headers, autoping=False))
        with pytest.raises(Cut) as cut:
            while True:
                got = await silent.socket.receive()
                if got.type is WSMsgType.CLOSE or got.type is WSMsgType.CLOSED:
                    raise Cut(silent.socket.close_code or 0, str(got.extra or ""))
        assert (cut.value.code, cut.value.word) == (1013, "silent")


async def test_an_idle_socket_gets_heartbeats_with_a_fresh_cursor():
    async with house_world(stream_heartbeat_s=0.05) as world:
        carol = await listen(world, "carol")
        first = [await carol.next() for _ in range(3)]
        assert {each.type for each in first} == {HEARTBEAT}
        where = await append(world.house.store, MINE, 0, created(MINE))
        async with asyncio.timeout(60):
            while decode_cursor((await carol.next()).cursor)[where.partition] < where.position:
                pass
        assert await (await listen(world, BUYER, after=carol.cursor)).caught_up() == []


async def test_what_a_socket_says_is_heard_by_nobody_and_too_much_of_it_ends_it():
    async with house_world() as world:
        chatty, other = await listen_live(world), await listen_live(world)
        await chatty.socket.send_str("{}")
        await chatty.socket.send_bytes(b"\0" * 100)
        await chatty.socket.ping()
        await append(world.house.store, MINE, 0, created(MINE))
        assert (await chatty.event()).version == (await other.event()).version == 1
        await chatty.socket.send_str("x" * 5_000)
        with pytest.raises(Cut) as cut:
            await chatty.event()
        assert cut.value.code == 1009
        await append(world.house.store, MINE, 1, noise())
        assert (await other.event()).version == 2


# -- many ----------------------------------------------------------------------------------------------------


async def test_a_hundred_sockets_hear_everything_and_leave_nothing_behind():
    sockets, events = 100, 30
    async with house_world(stream_user_sockets_max=sockets) as world:
        people = [(BUYER, ()), (VENDOR, ()), (ARBITER, ()), (ADMIN, ADMINS)]
        listeners = await asyncio.gather(
            *(listen_live(world, user, rights=rights) for user, rights in people * (sockets // len(people)))
        )
        assert sample(world, "stream_sockets") == sockets
        await append(world.house.store, MINE, 0, created(MINE))
        hearing = [asyncio.create_task(listener.events(events)) for listener in listeners]
        for version in range(1, events):
            await append(world.house.store, MINE, version, noise())
        for heard in await asyncio.gather(*hearing):
            assert [each.version for each in heard] == list(range(1, events + 1))
        assert sample(world, "stream_messages_total") == sockets * events
        for listener in listeners[::2]:
            listener.drop()
        await asyncio.gather(*(listener.close() for listener in listeners))
        await until_true(lambda: sample(world, "stream_sockets") == 0)


async def test_what_is_announced_reaches_everybody_and_moves_no_cursor():
    async with house_world() as world:
        listeners = [await listen_live(world, user) for user in (BUYER, "carol")]
        hub_of(world).announce(SIGNED_HEAD, {"partition": 0, "position": 7})
        for listener in listeners:
            before = listener.cursor
            message = await listener.event()
            assert (message.type, message.escrow_id, message.version) == (SIGNED_HEAD, None, None)
            assert message.data == {"partition": 0, "position": 7}
            assert message.cursor == before


# -- a database that goes away -------------------------------------------------------------------------------


async def cut_all(dsn):
    """Ends every connection of the service to the database, as a restart of it does."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name like 'thirdkey%' and datname = current_database()"
        )
    finally:
        await connection.close()


async def listen_later(world, **how):
    """Opens a socket as a good client does: who is told to come later comes again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await listen(world, **how)
            except WSServerHandshakeError as refused:
                assert refused.status == 503, refused
                await asyncio.sleep(0.05)


async def append_whatever_happens(store, version):
    """Repeats one append until it is known to be done."""
    while True:
        try:
            outcome = await store.log.append(item_of(MINE, version, noise()))
        except (LogUnavailable, LogBusy, OutcomeUnknown):
            await asyncio.sleep(0.02)
            continue
        assert isinstance(outcome, Appended | AlreadyDone), outcome
        return


async def test_sockets_outlive_the_connections_to_the_database(postgres_dsn):
    events = 60
    store = await open_store(dsn=postgres_dsn, encryption_key=bytes(32), partitions=4, node_id="n", limits=PATIENT)
    async with house_world(store=store, stream_page_max=7) as world:
        alice = await listen_live(world)
        await append(store, MINE, 0, created(MINE))
        for version in range(1, events):
            if version == events // 2:
                await cut_all(postgres_dsn)
            await append_whatever_happens(store, version)
        await cut_all(postgres_dsn)
        assert [each.version for each in await alice.events(events)] == list(range(1, events + 1))
        behind = await listen_later(world, after="0")
        assert [each.version for each in await behind.events(events)] == list(range(1, events + 1))
