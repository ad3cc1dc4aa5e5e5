"""Three `thirdkey serve --node` on one world of real wallets: one dies in the middle of a set-up, others finish it."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg
import msgspec
import pytest

from domain.ids import UserId
from service.auth import issue_token
from service.commands.serve import RUN_FILE, Running
from service.commands.stage import Person
from service.embedded import NODES, WORLD_FILE, joined_world
from service.keys import issuer_key
from service.settings import Settings
from tests.chaos.haproxy import HAPROXY, all_answer, haproxy
from tests.given import USERS
from tests.real.test_serve import home, programs_of
from tests.sim_world import payout_address

pytestmark = [pytest.mark.timeout(1200)]
LIMIT_S = 300
NAMES = ("north", "east", "west")
LEASES = {"SLOT_LEASE_S": "6", "SEAT_LEASE_S": "4", "NODE_LEASE_S": "4"}
__all__ = ["home"]


class World:
    """A world and three nodes on it, as an operator starts them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.processes: dict[str, Process] = {}

    async def start(self, name: str, *command: str) -> None:
        with (self.home / f"{name}.log").open("ab") as out:
            self.processes[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "service", *command),
                env={**os.environ, **LEASES, "THIRDKEY_HOME": str(self.home), "SERVER_PORT": "0", "METRICS_PORT": "0"},
                stdout=out,
                stderr=out,
            )

    async def appears(self, path: Path, name: str) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not path.exists() or not path.read_bytes():
                assert self.processes[name].returncode is None, self.said(name)
                await asyncio.sleep(0.1)

    async def start_node(self, name: str) -> None:
        run_file = self.home / NODES / name / RUN_FILE
        run_file.unlink(missing_ok=True)
        await self.start(name, "serve", "--node", name)
        await self.appears(run_file, name)

    def api_of(self, name: str) -> str:
        return msgspec.json.decode((self.home / NODES / name / RUN_FILE).read_bytes(), type=Running).api

    def said(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text()

    async def ends(self, name: str) -> int:
        self.processes[name].terminate()
        async with asyncio.timeout(LIMIT_S):
            return await self.processes[name].wait()

    async def holder(self) -> str:
        """Names the node that has a wallet in its hands now."""
        connection = await asyncpg.connect(joined_world(self.home).dsn)
        try:
            async with asyncio.timeout(LIMIT_S):
                while True:
                    found = await connection.fetchval(
                        "select holder from slot_leases where detail <> '' and expires_at > clock_timestamp() limit 1"
                    )
                    if found:
                        return str(found)
                    await asyncio.sleep(0.02)
        finally:
            await connection.close()


@pytest.fixture
async def world(home: Path) -> AsyncIterator[World]:  # the fixture of the same name
    world = World(home)
    await world.start("world", "world")
    await world.appears(home / WORLD_FILE, "world")
    await asyncio.gather(*(world.start_node(name) for name in NAMES))
    yield world
    for process in world.processes.values():
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_set_up_goes_on_when_its_node_is_killed_and_when_it_is_stopped_and_a_name_is_one_nodes_own(
    world: World,
) -> None:
    # One test for several claims: bringing a world and three nodes up is what costs.
    await world.start("second-north", "serve", "--node", "north")
    assert await world.processes["second-north"].wait() == 1
    assert "FolderInUse" in world.said("second-north")

    async with people(world, world.api_of("east")) as three:
        path = await begun(three, "order-1")
        victim = await world.holder()
        world.processes[victim].kill()
        await world.processes[victim].wait()
        other = next(name for name in NAMES if name != victim)
        async with people(world, world.api_of(other)) as elsewhere:
            await set_up(elsewhere, path)
    await world.start_node(victim)

    async with one_address(world) as url, people(world, url) as three:
        path = await begun(three, "order-2")
        victim = await world.holder()
        world.processes[victim].send_signal(signal.SIGSTOP)
        stopped_slot(world.home)
        other = next(name for name in NAMES if name != victim)
        async with people(world, world.api_of(other)) as elsewhere:
            facts = await set_up(elsewhere, path)
            if HAPROXY is not None:
                assert await three[0].get(path) == facts, "the proxy knows by now that the node does not answer"
            world.processes[victim].send_signal(signal.SIGCONT)
            await asyncio.sleep(1)
            again = await elsewhere[0].get(path)
            assert (again["version"], again["payin_address"]) == (facts["version"], facts["payin_address"])

    assert [await world.ends(name) for name in NAMES] == [0, 0, 0]
    assert await world.ends("world") == 0
    assert programs_of(world.home) == []


def stopped_slot(home: Path) -> None:
    """Stops a wallet process, as a debugger or a swapping machine does: whoever leases its slot must end it.

    There may be none just now: one that is being started anew is as good.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
        newest = max((home / "run").glob("slot-arbiter-0.*.pid"), key=lambda each: each.stat().st_mtime)
        os.kill(int(newest.read_text().split(" ", 1)[0]), signal.SIGSTOP)


@asynccontextmanager
async def one_address(world: World) -> AsyncIterator[str]:
    """HAProxy in front of all nodes; one of them where there is none on this machine."""
    if HAPROXY is None:
        yield world.api_of(NAMES[0])
        return
    with haproxy({name: int(world.api_of(name).rpartition(":")[2]) for name in NAMES}) as url:
        async with aiohttp.ClientSession() as session:
            await all_answer(session, url)
        yield url


@asynccontextmanager
async def people(world: World, api: str) -> AsyncIterator[list[Person]]:
    """Alice, Bob and the arbiter, who ask at one address."""
    issuer = issuer_key(Settings(thirdkey_home=world.home))
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield [
            Person(user, token=issue_token(issuer, sub=UserId(user), ttl_s=600), api=api, session=session)
            for user in ("alice", "bob", "arbiter")
        ]


async def begun(three: list[Person], order: str) -> str:
    """Creates an escrow and says where everybody's money goes."""
    wish = {"order_id": order, "buyer_id": "alice", "vendor_id": "bob", "amount": 10**12}
    path = f"/api/escrows/{(await three[0].post('/api/escrows', wish))['escrow_id']}"
    for person, role in zip(three, USERS, strict=True):
        await person.put(f"{path}/payout-address", {"address": payout_address(role)})
    return path


async def set_up(three: list[Person], path: str) -> dict[str, object]:
    """Waits until the three wallets agree on an address."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            facts = await three[0].get(path)
            assert facts["state"] in ("setting_up", "awaiting_funding"), facts
            if facts["state"] == "awaiting_funding":
                return facts
            await asyncio.sleep(0.1)
