"""Several nodes that are doors alone, as processes of their own, and one client that asks whichever it likes."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from domain.ids import UserId
from service.auth import Right, issue_token
from tests.chaos.door_child import DoorOrders, run
from tests.given import BUYER
from tests.patience import PATIENCE_S
from tests.service_process import start_process

NAMES = ("north", "east", "west")
LIMIT_S = 2 * PATIENCE_S
LATER = frozenset({"busy", "unavailable"})
"""What a caller is told who shall ask again with the same key; anything else is an answer."""
Answered = tuple[int, Any]


class Doors:
    """Asks nodes by their number."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        processes: Sequence[BaseProcess],
        issuer: Ed25519PrivateKey,
        session: aiohttp.ClientSession,
    ) -> None:
        self._urls, self._processes, self._issuer, self._session = urls, processes, issuer, session
        self.killed = set[int]()

    def kill(self, node: int) -> None:
        """kill -9."""
        self.killed.add(node)
        self._processes[node].kill()
        self._processes[node].join()

    async def ask(
        self,
        node: int,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        user: str = BUYER,
        rights: tuple[Right, ...] = (),
        key: str | None = None,
    ) -> Answered:
        """Asks a node until it answers with anything but "later"; what must happen once needs a key."""
        token = issue_token(self._issuer, sub=UserId(user), rights=frozenset(rights), ttl_s=3_600)
        headers = {"Authorization": f"Bearer {token}"} | ({"Idempotency-Key": key} if key else {})
        url = self._urls[node] + path
        while True:
            async with self._session.request(method, url, json=body, headers=headers) as answer:
                status, told = answer.status, msgspec.json.decode(await answer.read())
            if status != HTTPStatus.SERVICE_UNAVAILABLE or told["code"] not in LATER:
                return status, told
            await asyncio.sleep(0.05)


@asynccontextmanager
async def doors_running(dsn: str, folder: Path, **settings: Any) -> AsyncIterator[Doors]:
    """Runs three nodes for the block, once all of them answer."""
    issuer = Ed25519PrivateKey.generate()
    public = issuer.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    orders = [DoorOrders(name=name, dsn=dsn, folder=folder, issuer=public, settings=settings) for name in NAMES]
    processes = [start_process(run, each, out=folder / f"{each.name}.out") for each in orders]
    try:
        async with asyncio.timeout(LIMIT_S):
            while not all(each.url_file.exists() for each in orders):
                _all_live(processes)
                await asyncio.sleep(0.05)
        urls = [each.url_file.read_text().rstrip("/") for each in orders]
        limits: dict[str, Any] = {"timeout": aiohttp.ClientTimeout(total=LIMIT_S)}
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), **limits) as session:
            doors = Doors(urls, processes=processes, issuer=issuer, session=session)
            yield doors
        _all_live([process for number, process in enumerate(processes) if number not in doors.killed])
    finally:
        for process in processes:
            process.kill()
            process.join()


def _all_live(processes: Sequence[BaseProcess]) -> None:
    assert all(process.is_alive() for process in processes), "a node ended by itself"
