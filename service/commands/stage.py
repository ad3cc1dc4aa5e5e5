"""The stage of the demonstration: the service as a process of its own, and the world outside it that pays and mines."""

import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path

import aiohttp
import msgspec

from actors.daemon_rpc import HttpDaemon
from actors.monero_programs import WalletProgram, launch_wallet, reserved_port
from actors.processes import ProcessKeeper, port_answers
from domain.ids import Address
from ops.regtest.chain import FIRST_BLOCKS, SPENDABLE_AFTER, FunderWallet, RegtestChain
from schemas.stream import Message
from service.commands.serve import RUN_FILE, Running

START_LIMIT_S = 120.0
STOP_LIMIT_S = 60.0
LISTEN_LIMIT_S = 30.0
AGAIN_S = 0.5
"""Before a stream that was cut is asked for again, or what was answered "later"."""
LATER_LIMIT_S = 60.0
LATER = ("busy", "unavailable")
"""Problems that pass: whoever asks the same again, under the same key, is answered in the end."""


class StageFailed(Exception):
    """The service or the world around it did not come up or go on; see the log named in the message."""


@asynccontextmanager
async def service_process(home: Path, *, environment: Mapping[str, str]) -> AsyncIterator[Running]:
    """Runs `thirdkey serve` as an operator would, and ends it politely afterwards.

    Raises `StageFailed` when it does not answer in time or does not end.
    """
    run_file, log_file = home / RUN_FILE, home / "service.log"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    run_file.unlink(missing_ok=True)
    with log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", "serve"),
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield await _answering(process, run_file, log_file)
    finally:
        await _ended(process, log_file)


async def _answering(process: asyncio.subprocess.Process, run_file: Path, log_file: Path) -> Running:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if process.returncode is not None:
            raise StageFailed(f"the service ended at once; see {log_file}")
        if run_file.exists():
            where = msgspec.json.decode(run_file.read_bytes(), type=Running)
            if await port_answers(int(where.api.rpartition(":")[2])):
                return where
        await asyncio.sleep(0.1)
    raise StageFailed(f"the service did not answer within {START_LIMIT_S:g} s; see {log_file}")


async def _ended(process: asyncio.subprocess.Process, log_file: Path) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_LIMIT_S):
            code = await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise StageFailed(f"the service did not end within {STOP_LIMIT_S:g} s; see {log_file}") from None
    if code != 0:
        raise StageFailed(f"the service ended with {code}; see {log_file}")


class Outside:
    """The world outside the escrow: an ordinary wallet with money, and the miners."""

    def __init__(self, wallet: FunderWallet, chain: RegtestChain, daemon: HttpDaemon, address: Address) -> None:
        self.wallet, self._chain, self._daemon, self._address = wallet, chain, daemon, address

    async def mine(self, blocks: int) -> None:
        """Mines blocks."""
        await self._chain.mine(blocks, to=self._address)

    async def have(self, amount: int) -> None:
        """Mines until the wallet can pay an amount."""
        height = (await self._daemon.info()).height
        if height < FIRST_BLOCKS:
            await self.mine(FIRST_BLOCKS - height)
        await self.wallet.refresh()
        while (await self.wallet.balance()).unlocked_balance <= amount:
            await self.mine(SPENDABLE_AFTER)
            await self.wallet.refresh()

    async def pay(self, address: Address, amount: int) -> None:
        """Pays an address, as anybody would."""
        await self.wallet.refresh()
        await self.wallet.pay(address, amount)


@asynccontextmanager
async def outside(home: Path, *, daemon_url: str) -> AsyncIterator[Outside]:
    """Opens a fourth, ordinary wallet in a process of its own, which has nothing to do with the service."""
    keeper = ProcessKeeper(home / "outside")
    await keeper.end_orphans()
    daemon, chain = HttpDaemon(daemon_url), RegtestChain(daemon_url)
    with reserved_port() as port:
        program = WalletProgram(
            name="ordinary-wallet",
            folder=home / "outside",
            port=port,
            daemon_address=daemon_url.removeprefix("http://"),
            login=("outside", secrets.token_urlsafe(24)),
        )
        process, quiet = await launch_wallet(keeper, program)
    await quiet.aclose()
    assert program.login is not None
    wallet = FunderWallet(program.url, user=program.login[0], password=program.login[1])
    try:
        address = await wallet.open("ordinary", password=_password(home / "outside" / "password"))
        yield Outside(wallet, chain, daemon, address)
    finally:
        for client in (wallet, chain, daemon):
            await client.aclose()
        await process.stop()


def _password(path: Path) -> str:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(24))
    return path.read_text()


class Refusal(Exception):
    """The service answered with a problem."""

    def __init__(self, *, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code = status, code


class Ear:
    """One person's stream: keeps what was heard, and goes on behind its last cursor when the connection is cut."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, headers: Mapping[str, str]) -> None:
        self._session, self._url, self._headers = session, url, headers
        self._heard: list[Message] = []
        self._cursor: str | None = None
        self._moved = asyncio.Condition()

    async def run(self) -> None:
        """Listens until cancelled."""
        while True:
            with suppress(aiohttp.ClientError):  # a stream that stays away is said by the story, which stands still
                await self._listen()
            await asyncio.sleep(AGAIN_S)

    async def live(self) -> None:
        """Waits until the stream has begun; raises `StageFailed`."""
        await self._until(lambda: self._cursor is not None)

    def heard(self, escrow_id: str) -> list[Message]:
        """Returns what was heard of one escrow."""
        return [each for each in self._heard if each.escrow_id == escrow_id]

    async def more(self, escrow_id: str, *, than: int, within_s: float) -> list[Message]:
        """Returns what was heard of an escrow beyond so many messages, waiting a while for the first of them."""
        try:
            async with asyncio.timeout(within_s), self._moved:
                await self._moved.wait_for(lambda: len(self.heard(escrow_id)) > than)
        except TimeoutError:
            return []
        return self.heard(escrow_id)[than:]

    async def _until(self, there: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(LISTEN_LIMIT_S), self._moved:
                await self._moved.wait_for(there)
        except TimeoutError:
            raise StageFailed(f"the stream says nothing for {LISTEN_LIMIT_S:g} s") from None

    async def _listen(self) -> None:
        after = {} if self._cursor is None else {"after": self._cursor}
        async with self._session.ws_connect(self._url, params=after, headers=self._headers) as socket:
            async for got in socket:
                if got.type is not aiohttp.WSMsgType.TEXT:
                    return
                message = msgspec.json.decode(got.data, type=Message)
                async with self._moved:
                    self._cursor = message.cursor
                    self._heard.append(message)
                    self._moved.notify_all()


class Person:
    """Somebody with a token, using the HTTP API and nothing else; told to come later, they come again for a while."""

    def __init__(self, name: str, *, token: str, api: str, session: aiohttp.ClientSession) -> None:
        self.name, self._api, self._session = name, api, session
        self._headers = {"Authorization": f"Bearer {token}"}

    async def get(self, path: str) -> dict[str, object]:
        """Reads."""
        return await self._ask("GET", path, None)

    async def post(self, path: str, body: Mapping[str, object] | None = None) -> dict[str, object]:
        """Commands; raises `Refusal`."""
        return await self._ask("POST", path, dict(body or {}))

    async def put(self, path: str, body: Mapping[str, object]) -> dict[str, object]:
        """Sets; raises `Refusal`."""
        return await self._ask("PUT", path, dict(body))

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Ear"]:
        """Hears every event of this person's escrows from here on, for as long as the block lasts."""
        ear = Ear(self._session, self._api + "/api/stream", headers=self._headers)
        hearing = asyncio.get_running_loop().create_task(ear.run())
        try:
            await ear.live()
            yield ear
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    async def _ask(self, method: str, path: str, body: dict[str, object] | None) -> dict[str, object]:
        headers = self._headers if body is None else {**self._headers, "Idempotency-Key": secrets.token_hex(16)}
        end = time.monotonic() + LATER_LIMIT_S
        while True:
            try:
                return await self._asked(method, path, body, headers)
            except (Refusal, aiohttp.ClientConnectionError) as failed:
                passes = not isinstance(failed, Refusal) or failed.code in LATER
                if not passes or time.monotonic() > end:
                    raise
            await asyncio.sleep(AGAIN_S)

    async def _asked(
        self, method: str, path: str, body: dict[str, object] | None, headers: Mapping[str, str]
    ) -> dict[str, object]:
        async with self._session.request(method, self._api + path, json=body, headers=headers) as answer:
            if answer.status == HTTPStatus.SERVICE_UNAVAILABLE and not answer.content_type.endswith("json"):
                raise Refusal(status=answer.status, code="unavailable")  # a proxy's own words
            read: dict[str, object] = msgspec.json.decode(await answer.read())
            if answer.status >= HTTPStatus.BAD_REQUEST:
                raise Refusal(status=answer.status, code=str(read.get("code")))
            return read
