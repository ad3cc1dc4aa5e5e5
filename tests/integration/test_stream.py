"""The stream over real WebSockets: each of the three gets every event of theirs, once and in order."""

import asyncio
import random
from collections import defaultdict
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import WSServerHandshakeError

from schemas.cursor import encode_cursor
from schemas.stream import Message
from service.api.stream import HUB
from service.auth import Right
from tests.given import ARBITER, BUYER, VENDOR
from tests.patience import PATIENCE_S
from tests.postgres_fixtures import fresh_database
from tests.sim_world import until_true
from tests.soak import done, rounds
from tests.store_worlds import PostgresWorld
from tests.stream_world import ADMIN, Cut, append, created, escrow_id_of, listen, listen_live, noise
from tests.worlds import house_world

ADMINS = (Right.ADMIN,)


def hub_of(world):
    return world.client.app[HUB]


@asynccontextmanager
async def two_nodes(stores, **settings):
    """Two nodes on one log, behind one issuer of tokens."""
    async with house_world(store=stores[0], **settings) as one:
        trusted = one.house.settings.issuer_public_key
        async with house_world(store=stores[1], issuer_public_key=trusted, **settings) as two:
            two.issuer = one.issuer
            yield one, two


def versions(messages):
    """Versions by escrow, in the order they came."""
    found = defaultdict(list)
    for each in messages:
        found[each.escrow_id].append(each.version)
    return dict(found)


# -- what comes to whom --------------------------------------------------------------------------------------


async def test_each_of_the_three_sees_an_escrow_from_its_first_event(store_world):
    async with house_world(store=await store_world.open()) as world:
        listeners = [await listen_live(world, user) for user in (BUYER, VENDOR, ARBITER)]
        escrow_id = await world.create()
        await world.set_addresses(escrow_id)
        _, shown = await world.ask("GET", f"/api/escrows/{escrow_id}")
        for listener in listeners:
            events = await listener.events(shown["version"])
            assert [(each.version, each.type) for each in events] == [
                (entry["version"], entry["type"]) for entry in shown["history"]
            ]
            assert {each.escrow_id for each in events} == {escrow_id}
            assert events[0].data["terms"]["order_id"] == shown["order_id"]


async def test_nobody_sees_an_escrow_of_others_and_an_administrator_sees_all(store_world):
    store = await store_world.open()
    async with house_world(store=store) as world:
        alice, carol = await listen_live(world, BUYER), await listen_live(world, "carol")
        root = await listen_live(world, ADMIN, rights=ADMINS)
        theirs, mine = escrow_id_of(1), escrow_id_of(2)
        await append(store, theirs, 0, created(theirs, buyer="dave", vendor="erin"), noise())
        await append(store, mine, 0, created(mine, vendor="carol"), noise())
        assert versions(await alice.events(2)) == {mine: [1, 2]}
        assert versions(await carol.events(2)) == {mine: [1, 2]}
        assert versions(await root.events(4)) == {theirs: [1, 2], mine: [1, 2]}
        for user, expected in ((BUYER, {mine: [1, 2]}), (ADMIN, {}), ("mallory", {})):
            assert versions(await (await listen(world, user, after="0")).caught_up()) == expected
        everything = await (await listen(world, ADMIN, after="0", rights=ADMINS)).caught_up()
        assert versions(everything) == {theirs: [1, 2], mine: [1, 2]}


async def test_events_of_other_streams_move_the_cursor_and_are_not_sent():
    async with house_world() as world:
        alice = await listen_live(world)
        store, mine = world.house.store, escrow_id_of(1)
        before = alice.cursor
        await append(store, "order-x", 0, noise())
        hub = hub_of(world)
        await until_true(lambda: sum(hub.place) == 1)
        assert versions(await (await listen(world, ADMIN, after="0", rights=ADMINS)).caught_up()) == {}
        await append(store, mine, 0, created(mine))
        assert (await alice.event()).escrow_id == mine
        assert alice.cursor != before


# -- where it begins -----------------------------------------------------------------------------------------


async def test_without_a_cursor_it_begins_now_and_from_zero_at_the_beginning(store_world):
    store, mine = await store_world.open(), escrow_id_of(1)
    async with house_world(store=store) as world:
        outcome = await append(store, mine, 0, created(mine), noise(), noise())
        hub = hub_of(world)
        await until_true(lambda: sum(hub.place) == 3)
        now = await listen(world)
        assert await now.caught_up() == []
        for beginning in ("0", "", encode_cursor({})):
            assert versions(await (await listen(world, after=beginning)).caught_up()) == {mine: [1, 2, 3]}
        second = encode_cursor({outcome.partition: outcome.position - 1})
        assert versions(await (await listen(world, after=second)).caught_up()) == {mine: [3]}
        assert await (await listen(world, after=now.cursor)).caught_up() == []
        await append(store, mine, 3, noise())
        assert (await now.event()).version == 4


async def test_the_cursor_of_a_command_continues_behind_it():
    async with house_world() as world:
        body = {"order_id": "o", "buyer_id": BUYER, "vendor_id": VENDOR, "amount": 10**12}
        _, answer = await world.ask("POST", "/api/escrows", body)
        await world.set_addresses(answer["escrow_id"])
        behind = await (await listen(world, after=answer["cursor"])).caught_up()
        assert [each.version for each in behind][:2] == [answer["version"] + 1, answer["version"] + 2]


async def refused(world, status, code, query="", **more):
    with pytest.raises(WSServerHandshakeError) as failed:
        await listen(world, after=query or None, **more)
    assert failed.value.status == status
    headers = more.get("headers") or {"Authorization": f"Bearer {world.token(BUYER)}"}
    path = f"/api/stream?after={query}" if query else "/api/stream"
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
    }
    assert (await world.ask("GET", path, user=None, headers=upgrade | dict(headers)))[1]["code"] == code


@pytest.mark.parametrize(
    "after",
    ["x", "%00", *(encode_cursor(each) for each in ({4: 0}, {-1: 0}, {0: -1}, {0: 1}))],
    ids=["no cursor", "zero byte", "no such partition", "below", "negative", "ahead of the log"],
)
async def test_a_cursor_that_is_none_of_this_log_is_refused_before_the_upgrade(after):
    async with house_world() as world:
        await refused(world, 400, "cursor_invalid", after)


async def test_odd_queries_and_plain_requests_are_refused():
    async with house_world() as world:
        await refused(world, 422, "validation", "0&after=0")
        await refused(world, 422, "validation", "0&state=funded")
        assert (await world.ask("GET", "/api/stream"))[1]["code"] == "request_invalid"
        assert (await world.ask("POST", "/api/stream", {}))[0] == 405


# -- who may listen ------------------------------------------------------------------------------------------


async def test_a_token_may_come_as_a_protocol_and_is_never_said_back(caplog):
    async with house_world() as world:
        token = world.token(BUYER)
        listener = await listen(world, headers={"Sec-WebSocket-Protocol": f"thirdkey.v1, bearer.{token}"})
        assert await listener.caught_up() == []
        assert listener.socket.protocol is None or listener.socket.protocol == "thirdkey.v1"
        await refused(world, 400, "request_invalid", headers={"Sec-WebSocket-Protocol": f"bearer.{token}"})
        twice = f"thirdkey.v1, bearer.{token}, bearer.{token}"
        await refused(world, 401, "token_invalid", headers={"Sec-WebSocket-Protocol": twice})
        both = {"Sec-WebSocket-Protocol": f"thirdkey.v1, bearer.{token}", "Authorization": f"Bearer {token}"}
        await refused(world, 401, "token_invalid", headers=both)
        await refused(world, 401, "token_invalid", headers={"Sec-WebSocket-Protocol": "thirdkey.v1, bearer.x"})
        await refused(world, 401, "token_missing", headers={"X-Nothing": "1"})
        assert token not in caplog.text


async def until_its_token_ends(world, *, ttl_s):
    """Returns the one event heard before the end, and the end; None when the machine was too slow for that."""
    with suppress(WSServerHandshakeError, Cut):
        listener = await listen(world, after="0", ttl_s=ttl_s)
        first = await listener.event()
        try:
            await listener.event()
        except Cut as cut:
            return first, cut
    return None


async def test_a_socket_ends_with_its_token_and_says_how_far_it_came():
    async with house_world() as world:
        mine = escrow_id_of(1)
        await append(world.house.store, mine, 0, created(mine))
        ended = await until_its_token_ends(world, ttl_s=2) or await until_its_token_ends(world, ttl_s=20)
        assert ended is not None
        first, cut = ended
        assert (cut.code, cut.word) == (4401, "token_expired")
        await append(world.house.store, mine, 1, noise())
        behind = await listen(world, after=cut.cursor)
        assert [first.version, (await behind.event()).version] == [1, 2]
        await refused(world, 401, "token_invalid", headers={"Authorization": "Bearer nonsense"})


async def test_sockets_are_bounded_for_each_user_and_for_the_node():
    async with house_world(stream_sockets_max=3, stream_user_sockets_max=2) as world:
        first, _ = [await listen_live(world) for _ in range(2)]
        await refused(world, 429, "streams_of_user")
        await listen_live(world, VENDOR)
        headers = {"Authorization": f"Bearer {world.token(ARBITER)}"}
        await refused(world, 503, "streams_full", headers=headers)
        await first.close()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with suppress(WSServerHandshakeError):
                    await listen_live(world)
                    break
                await asyncio.sleep(0.01)


# -- again and again -----------------------------------------------------------------------------------------

ESCROWS = [
    (escrow_id_of(1), (BUYER, VENDOR, ARBITER)),
    (escrow_id_of(2), (BUYER, "carol", ARBITER)),
    (escrow_id_of(3), ("dave", VENDOR, "judge")),
    (escrow_id_of(4), (VENDOR, BUYER, "judge")),
    (escrow_id_of(5), ("dave", "carol", ARBITER)),
]
EACH = 24


async def grow(stores, *, seed):
    """Lets all escrows grow, on nodes drawn at random."""
    draw = random.Random(seed)
    left = [(escrow_id, people, version) for escrow_id, people in ESCROWS for version in range(EACH)]
    draw.shuffle(left)
    versions = dict.fromkeys([escrow_id for escrow_id, _ in ESCROWS], 0)
    for escrow_id, (buyer, vendor, arbiter), _ in left:
        version = versions[escrow_id]
        event = noise() if version else created(escrow_id, buyer=buyer, vendor=vendor, arbiter=arbiter)
        await append(draw.choice(stores), escrow_id, version, event)
        versions[escrow_id] += 1
        if draw.random() < 0.3:
            await asyncio.sleep(0)


def expected_of(user):
    mine = [escrow_id for escrow_id, people in ESCROWS if user in (*people, ADMIN)]
    return {escrow_id: list(range(1, EACH + 1)) for escrow_id in mine}


async def hear_all(worlds, user, *, seed):
    """Listens from the beginning, cut at random and going on at a random node, until everything was heard."""
    draw, rights = random.Random(seed), ADMINS if user == ADMIN else ()
    heard: list[Message] = []
    cursor, missing, drops = "0", len(expected_of(user)) * EACH, 0
    while len(heard) < missing:
        listener = await listen(draw.choice(worlds), user, after=cursor, rights=rights)
        for _ in range(min(draw.randint(0, 30), missing - len(heard))):
            heard.append(await listener.event())
            cursor = heard[-1].cursor
        if draw.random() < 0.5:
            listener.drop()
            drops += 1
        await listener.close()
    return heard, drops


@pytest.mark.parametrize("seed", [1, 2])
async def test_whoever_is_cut_at_any_message_and_resumes_at_any_node_misses_and_repeats_nothing(store_world, seed):
    await grow_and_hear(store_world, seed=seed)


@pytest.mark.soak
async def test_a_thousand_dropped_sockets_miss_and_repeat_nothing(postgres_server):
    drops = 0
    for seed in rounds("lives of five escrows whose listeners' sockets were dropped 15 to 25 times", short=1, full=70):
        with fresh_database(postgres_server) as dsn:
            world = PostgresWorld(dsn, partitions=4)
            drops += await grow_and_hear(world, seed=100 + seed)
            await world.aclose()
            done("dropped sockets", drops, full=1_000)


async def grow_and_hear(store_world, *, seed):
    """Plays five lives to six listeners who miss and repeat nothing; returns how many sockets were dropped."""
    stores = [await store_world.open(), await store_world.open(node_id="m")]
    async with two_nodes(stores, stream_queue_max=5) as worlds:
        users = (BUYER, VENDOR, ARBITER, "carol", "judge", ADMIN)
        async with asyncio.timeout(4 * PATIENCE_S):
            _, *heard = await asyncio.gather(
                grow(stores, seed=seed),
                *(hear_all(worlds, user, seed=seed + n) for n, user in enumerate(users)),
            )
        for user, (messages, _) in zip(users, heard, strict=True):
            assert versions(messages) == expected_of(user)
        return sum(drops for _, drops in heard)
