"""Several service nodes as processes of their own, what is done to them, and the people who use whichever answers."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from actors.monero_programs import reserved_port
from domain.ids import UserId
from service.auth import issue_token
from tests.chaos.node_child import NodeOrders, run
from tests.chaos.wire import WireWorld
from tests.given import AMOUNT, BUYER, USERS, VENDOR
from tests.service_process import start_process
from tests.sim_world import payout_address

NAMES = ("north", "east", "west")
ANSWER_S, ANSWER_MAX_S = 1.5, 30.0
"""How long a person waits before they try another node; a stopped one takes calls and answers none. They wait longer
each time, as nodes on a busy machine may need it."""
LIMIT_S = 300.0
BLOCKS = 5
STILL_S = 20.0
"""When nobody has got on for so long, blocks come half as often, and so forth: a machine that is slow enough would
otherwise read blocks and do nothing else."""
LIFE_S = 900.0
"""How long one life may take: 5 s on a free machine, 40 s on one with six times as much to do as it can."""
Body: TypeAlias = Mapping[str, Any] | None


class Nodes:
    """Three nodes on one database and one simulated world."""

    def __init__(self, *, world: WireWorld, dsn: str, folder: Path, lease_s: float, escrows_max: int = 1_000) -> None:
        self.issuer, self.world, self.lease_s = Ed25519PrivateKey.generate(), world, lease_s
        self._ports = ExitStack()
        public = self.issuer.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.orders = {
            name: NodeOrders(
                name=name,
                port=self._ports.enter_context(reserved_port()),
                dsn=dsn,
                url=world.url,
                folder=folder,
                issuer=public,
                lease_s=lease_s,
                escrows_max=escrows_max,
            )
            for name in NAMES
        }
        self._processes: dict[str, BaseProcess] = {}

    def start(self, name: str) -> None:
        """Starts a node."""
        orders = self.orders[name]
        self._processes[name] = start_process(run, orders, out=orders.folder / f"{name}.out")

    def kill(self, name: str) -> None:
        """kill -9."""
        self._processes[name].kill()
        self._processes[name].join()

    def tell(self, name: str, number: signal.Signals) -> None:
        """Sends a signal."""
        pid = self._processes[name].pid
        assert pid is not None
        os.kill(pid, number)

    def url_of(self, name: str) -> str:
        """Where a node answers."""
        return f"http://127.0.0.1:{self.orders[name].port}"

    def said(self, name: str) -> str:
        """A node's last words if it has ended by itself."""
        out = self.orders[name].folder / f"{name}.out"
        return "" if self._processes[name].exitcode is None else f"{name} ended: {out.read_text()[-3000:]}"

    def end(self) -> None:
        """Ends them all; none may have ended by itself."""
        ended = "".join(map(self.said, self._processes))
        for name in self._processes:
            self.kill(name)
        self._ports.close()
        assert not ended, ended


@asynccontextmanager
async def nodes_running(nodes: Nodes) -> AsyncIterator["People"]:
    """Runs all nodes for the block and yields the people, once every node answers."""
    for name in NAMES:
        nodes.start(name)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_MAX_S)) as session:
            people = People(nodes, session)
            for name in NAMES:
                await people.answered_by(name)
            yield people
    finally:
        nodes.end()


@dataclass
class People:
    """Alice, Bob and Judy, who try the next node when one does not answer."""

    nodes: Nodes
    session: aiohttp.ClientSession
    draw: random.Random = field(default_factory=lambda: random.Random(1))
    under_way: dict[str, str] = field(default_factory=dict)
    """The state in which each life was last seen that is not over."""
    got_on_at: float = field(default_factory=time.monotonic)
    """When one of them was last seen in another state."""

    async def answered_by(self, name: str) -> None:
        """Waits until a node answers."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    async with self.session.get(f"{self.nodes.url_of(name)}/health"):
                        return
                except (aiohttp.ClientError, TimeoutError):
                    assert not self.nodes.said(name), self.nodes.said(name)
                    await asyncio.sleep(0.05)

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        user: str = BUYER,
        key: str | None = None,
    ) -> tuple[int, Any]:
        """Asks one node after another until one answers with anything but "later"."""
        patience_s = ANSWER_S
        async with asyncio.timeout(LIMIT_S):
            while True:
                url = self.nodes.url_of(self.draw.choice(NAMES)) + path
                try:
                    async with asyncio.timeout(patience_s):
                        status, answer = await self.ask_at(url, method, body, user=user, key=key)
                except TimeoutError:
                    patience_s = min(2 * patience_s, ANSWER_MAX_S)
                    continue
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
                    continue
                if status != 503:
                    return status, answer
                await asyncio.sleep(0.05)

    async def ask_at(self, url: str, method: str, body: Body, *, user: str, key: str | None) -> tuple[int, Any]:
        """Asks at one address."""
        headers = {"Authorization": f"Bearer {issue_token(self.nodes.issuer, sub=UserId(user), ttl_s=3_600)}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        async with self.session.request(method, url, json=body, headers=headers) as answer:
            return answer.status, msgspec.json.decode(await answer.read())

    async def live(self, order: str) -> str:
        """Plays an escrow from its creation to its release and returns its id; none may take longer than `LIFE_S`."""
        escrow_id = await self.create(order)
        try:
            async with asyncio.timeout(LIFE_S):
                await self._play(escrow_id)
        except TimeoutError:
            raise AssertionError(f"{escrow_id} was {self.under_way} after {LIFE_S} s") from None
        return escrow_id

    async def mine(self) -> None:
        """Mines some blocks a second: a wallet whose calls take their time catches up in between."""
        while True:
            await asyncio.sleep(1 + (time.monotonic() - self.got_on_at) / STILL_S)
            self.nodes.world.chain.mine(BLOCKS)

    async def create(self, order: str) -> str:
        """Creates an escrow."""
        body = {"order_id": order, "buyer_id": BUYER, "vendor_id": VENDOR, "amount": AMOUNT}
        status, answer = await self.ask("POST", "/api/escrows", body, key=f"create-{order}")
        assert status == 201, answer
        return str(answer["escrow_id"])

    async def _play(self, escrow_id: str) -> None:
        path, world, paid = f"/api/escrows/{escrow_id}", self.nodes.world, False
        await self._set_addresses(path)
        while True:
            _, facts = await self.ask("GET", path)
            state = facts["state"]
            self._saw(escrow_id, state)
            if state == "completed":
                return
            if state == "awaiting_funding" and not paid and _reminded(facts):
                world.chain.pay(facts["payin_address"], AMOUNT)
                paid = True
            # A refusal is kept with its key: who sees that more has happened since asks under another one.
            if state == "funded":
                await self.ask("POST", f"{path}/ship", user=VENDOR, key=f"ship-{facts['version']}")
            if state == "delivering":
                await self.ask("POST", f"{path}/confirm-delivery", key=f"confirm-{facts['version']}")
            await asyncio.sleep(0.05)

    def _saw(self, escrow_id: str, state: str) -> None:
        if self.under_way.get(escrow_id) != state:
            self.under_way[escrow_id], self.got_on_at = state, time.monotonic()
        if state == "completed":
            del self.under_way[escrow_id]

    async def _set_addresses(self, path: str) -> None:
        for role, user in USERS.items():
            body = {"address": payout_address(role)}
            status, answer = await self.ask("PUT", f"{path}/payout-address", body, user=user, key="address")
            assert status == 200, answer


def _reminded(facts: Mapping[str, Any]) -> bool:
    return any(each["type"] == "reminder_due" for each in facts["history"])
