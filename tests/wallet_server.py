"""A simulated wallet process behind real HTTP, which answers as monero-wallet-rpc does and can be made to fall ill."""

import asyncio
import hashlib
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum

import msgspec
from aiohttp import web

from actors.monero_programs import reserved_port
from actors.ports import WalletRefused, WalletUnknown
from actors.simulation import SimWallet
from tests.chaos.wire import WALLET_CALLS
from tests.serving import stop_serving

NONCE = "b0b0cafe"


class Illness(StrEnum):
    """What a process does instead of answering."""

    GARBAGE = "garbage"
    UNAUTHORISED = "unauthorised"
    ERROR = "error"
    SLOW = "slow"
    HUNG = "hung"
    CUT = "cut"
    REDIRECT = "redirect"


class WalletServer:
    """One process at one address. Calls are answered one after another; who hangs goes on with them when it is well."""

    def __init__(self, wallet: SimWallet, *, login: tuple[str, str] | None = None) -> None:
        self.wallet, self.login = wallet, login
        self.illness: Illness | None = None
        self.slow_s = 1.2
        self.calls: list[str] = []
        """Methods that reached the wallet."""
        self.asked: list[str] = []
        """Every header and body that reached the process."""
        self.port = 0
        self.scheme = "http"
        self._well = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it answers, or did."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def start(self, *, tls: ssl.SSLContext | None = None) -> None:
        """Listens on its port."""
        app = web.Application(client_max_size=2**24)
        app.add_routes([web.post("/json_rpc", self._answer)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=tls, reuse_address=True).start()
        self.scheme = "https" if tls else "http"

    async def stop(self) -> None:
        """Listens no more: whoever calls is refused."""
        self.recover()
        if self._runner is not None:
            await stop_serving(self._runner)
            self._runner = None

    async def die(self) -> None:
        """Ends as a killed process does: its wallet's lock is free, and nobody listens."""
        self.wallet.kill()
        await self.stop()

    async def come_back(self) -> None:
        """Starts again, with nothing open."""
        self.wallet.restart()
        await self.start()

    def fall_ill(self, illness: Illness) -> None:
        """Answers like this from now on."""
        self._well.clear()
        self.illness = illness

    def recover(self) -> None:
        """Answers rightly again, also what waited."""
        self.illness = None
        self._well.set()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked += [str(request.headers), body.decode()]
        if self.illness is Illness.UNAUTHORISED or not self._let_in(request):
            challenge = f'Digest qop="auth",algorithm=MD5,realm="monero-rpc",nonce="{NONCE}",stale=false'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        match self.illness:
            case Illness.HUNG:
                await self._well.wait()
            case Illness.SLOW:
                await asyncio.sleep(self.slow_s)
            case Illness.CUT:
                assert request.transport is not None
                request.transport.abort()
            case Illness.GARBAGE:
                return web.Response(body=b"<html>not a wallet</html>")
            case Illness.ERROR:
                return web.Response(status=502)
            case Illness.REDIRECT:
                return web.Response(status=307, headers={"Location": self.url + "/json_rpc"})
            case None:
                pass
        return await self._called(msgspec.json.decode(body))

    async def _called(self, asked: dict[str, object]) -> web.Response:
        method = str(asked["method"])
        self.calls.append(method)
        try:
            result = await WALLET_CALLS[method](self.wallet, asked["params"])  # type: ignore[arg-type]
        except WalletRefused as refused:
            answer: dict[str, object] = {"error": {"code": refused.code, "message": refused.message}}
        except WalletUnknown:
            return web.Response(status=500)
        else:
            answer = {"result": result}
        return web.Response(body=msgspec.json.encode({"id": "0"} | answer), content_type="application/json")

    def _let_in(self, request: web.Request) -> bool:
        if self.login is None:
            return True
        said = dict(re.findall(r'(\w+)="?([^",]+)"?', request.headers.get("Authorization", "")))
        user, password = self.login
        inner = _md5(f"{user}:monero-rpc:{password}")
        outer = _md5(f"{request.method}:{said.get('uri')}")
        counted = f"{said.get('nonce')}:{said.get('nc')}:{said.get('cnonce')}:{said.get('qop')}"
        return said.get("username") == user and said.get("response") == _md5(f"{inner}:{counted}:{outer}")


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@asynccontextmanager
async def served(
    wallet: SimWallet, *, login: tuple[str, str] | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[WalletServer]:
    """Runs a process for the block."""
    server = WalletServer(wallet, login=login)
    with reserved_port() as server.port:
        await server.start(tls=tls)
        try:
            yield server
        finally:
            await server.stop()
