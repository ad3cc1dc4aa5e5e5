"""Three nodes answer as one: with and without HAProxy in front, whichever is asked."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from domain.ids import EscrowId, UserId
from domain.roles import Role
from service.auth import issue_token
from service.commands.stage import LATER
from tests.chaos.haproxy import HAPROXY, all_answer, haproxy
from tests.chaos.node_child import open_node_store
from tests.chaos.nodes import LIMIT_S, NAMES, Nodes, People, nodes_running
from tests.chaos.wire import WireWorld
from tests.given import AMOUNT, BUYER, VENDOR
from tests.patience import PATIENT
from tests.sim_world import payout_address

LEASE_S = 5.0
LIVE_MAX = 7


@pytest_asyncio.fixture
async def people(postgres_dsn: str, tmp_path: Path) -> AsyncIterator[People]:
    """Three nodes that let seven escrows be under way."""
    world = WireWorld()
    await world.start()
    (tmp_path / "locks").mkdir()
    nodes = Nodes(world=world, dsn=postgres_dsn, folder=tmp_path, lease_s=LEASE_S, escrows_max=LIVE_MAX)
    async with nodes_running(nodes) as people:
        yield people
    await world.stop()


async def at(people: People, name: str, method: str, path: str, body: Any = None, **how: Any) -> tuple[int, Any]:
    """Asks one node, whose answer may take its time, and again where it says "later"."""
    how = {"user": BUYER, "key": None} | how
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                status, answer = await people.ask_at(people.nodes.url_of(name) + path, method, body, **how)
                if status != 503 or answer["code"] not in LATER:
                    return status, answer
            except TimeoutError:
                assert method == "GET" or how["key"], "not known whether it happened"
            await asyncio.sleep(0.05)


async def test_any_node_takes_a_command_once_shows_it_at_once_and_holds_the_limits_with_the_others(
    people: People, postgres_dsn: str
) -> None:
    # One test for three claims: bringing three nodes up is what costs.
    escrow_id = await people.create("order-0")
    await _a_hundred_racing_requests_are_one_event(people, postgres_dsn, escrow_id)
    await _what_one_node_wrote_every_node_shows(people, escrow_id)
    await _the_limit_of_escrows_under_way_holds(people)


async def _a_hundred_racing_requests_are_one_event(people: People, dsn: str, escrow_id: str) -> None:
    path, body = f"/api/escrows/{escrow_id}/payout-address", {"address": payout_address(Role.BUYER)}
    racing = [at(people, NAMES[each % 3], "PUT", path, body, key="race") for each in range(100)]
    answers = await asyncio.gather(*racing)
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == 200
    store = await open_node_store(dsn, name="observer", limits=PATIENT)
    events = await store.log.read_stream(EscrowId(escrow_id))
    await store.aclose()
    assert [event.type for event in events].count("payout_address_set") == 1


async def _what_one_node_wrote_every_node_shows(people: People, escrow_id: str) -> None:
    path = f"/api/escrows/{escrow_id}"
    for name in NAMES:  # now all three have the escrow awake
        assert (await at(people, name, "GET", path))[0] == 200
    status, answer = await at(people, "north", "POST", f"{path}/cancel", key="cancel")
    assert status == 200, answer
    for name in ("east", "west"):
        _, facts = await at(people, name, "GET", path)
        assert (facts["state"], facts["version"] >= answer["version"]) == ("cancelled", True)
        status, problem = await at(people, name, "POST", f"{path}/ship", user=VENDOR, key=f"late-{name}")
        assert (status, problem["code"]) == (409, "wrong_state")


async def _the_limit_of_escrows_under_way_holds(people: People) -> None:
    def wish(number: int) -> dict[str, Any]:
        return {"order_id": f"many-{number}", "buyer_id": BUYER, "vendor_id": VENDOR, "amount": AMOUNT}

    asked = [at(people, NAMES[each % 3], "POST", "/api/escrows", wish(each), key=f"many-{each}") for each in range(40)]
    statuses = [status for status, _ in await asyncio.gather(*asked)]
    assert statuses.count(201) == LIVE_MAX


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed (ops/install.sh --dev brings it)")
async def test_haproxy_keeps_an_escrow_with_its_node_while_that_lives_and_passes_the_stream_through(
    people: People, postgres_dsn: str
) -> None:
    with haproxy({name: people.nodes.orders[name].port for name in NAMES}) as url:
        await all_answer(people.session, url)
        escrow_id = await people.create("order-0")
        homes = await _settled(people, url, [escrow_id, *(f"esc_{n:032x}" for n in range(12))])
        assert len(set(homes.values())) > 1
        heard = asyncio.create_task(_first_event(people, url))
        dead = homes[escrow_id]
        people.nodes.kill(NAMES[int(dead.removeprefix("node-")) - 1])
        moved = await _settled(people, url, homes, without=dead)
        people.nodes.start(NAMES[int(dead.removeprefix("node-")) - 1])
        assert {name for name in homes if moved[name] != homes[name]} == {n for n in homes if homes[n] == dead}
        async with asyncio.timeout(LIMIT_S):
            assert await heard == "escrow_created"


async def _settled(people: People, url: str, escrows: Iterable[str], *, without: str | None = None) -> dict[str, str]:
    """Names the node of each escrow, once they stay the same and are those of all nodes but one.

    HAProxy takes a node for dead that is silent for two checks, as on a busy machine the living may be as well.
    """
    expected = {f"node-{n}" for n in range(1, len(NAMES) + 1)} - {without}
    async with asyncio.timeout(LIMIT_S):
        while True:
            first, second = [{name: await _home(people, url, name) for name in escrows} for _ in range(2)]
            if first == second and set(first.values()) == expected:
                return first


async def _home(people: People, url: str, escrow_id: str) -> str:
    """Names the node that answers for an escrow, asking until one does."""
    headers = {"Authorization": f"Bearer {issue_token(people.nodes.issuer, sub=UserId(BUYER), ttl_s=600)}"}
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                async with people.session.get(f"{url}/api/escrows/{escrow_id}", headers=headers) as answer:
                    if answer.status in (200, 404):
                        return answer.headers["X-Thirdkey-Node"]
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.05)


async def _first_event(people: People, url: str) -> str:
    """Follows the stream through the proxy from the log's beginning, again where it was cut; names the first event."""
    headers = {"Authorization": f"Bearer {issue_token(people.nodes.issuer, sub=UserId(BUYER), ttl_s=600)}"}
    while True:
        try:
            async with people.session.ws_connect(f"{url}/api/stream?after=0", headers=headers) as socket:
                async for message in socket:
                    event = message.json()
                    if event.get("type") == "escrow_created":
                        return str(event["type"])
        except (aiohttp.ClientError, TimeoutError):
            await asyncio.sleep(0.05)
