"""People in front of the pages: a browser's cookies and forms, without a browser."""

import re
from html import unescape
from typing import Any

import aiohttp
from aiohttp import web

from domain.ids import UserId
from service.app import make_app
from service.auth import Right, issue_login
from service.pages.cases import MOVES
from service.pages.moves import Moves
from tests.serving import stop_serving
from tests.worlds import World

FIELD = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


class Visit:
    """One browser: it keeps cookies, follows nothing by itself, and sends the forms it was shown."""

    def __init__(self, site: str, session: aiohttp.ClientSession) -> None:
        self.site, self.session = site, session
        self.status, self.text = 0, ""
        self.headers: Any = {}

    async def get(self, path: str, **headers: str) -> str:
        """Opens a page and returns where it leads, or its text."""
        return await self._ask("GET", path, None, headers)

    async def post(self, path: str, fields: dict[str, str], *, hidden: bool = True, **headers: str) -> str:
        """Sends a form with the hidden fields of the page that is open."""
        form = aiohttp.FormData({**(self.hidden() if hidden else {}), **fields})
        return await self._ask("POST", path, form, headers)

    async def upload(self, path: str, content: bytes, **fields: str) -> str:
        """Sends a form with a file and the hidden fields of the page that is open."""
        form = aiohttp.FormData()
        for name, value in (self.hidden() | fields).items():
            form.add_field(name, value)
        form.add_field("file", content, filename="a.jpg", content_type="image/jpeg")
        return await self._ask("POST", path, form, {})

    def hidden(self) -> dict[str, str]:
        """The hidden fields of the open page; the last of each name."""
        return {name: unescape(value) for name, value in FIELD.findall(self.text)}

    async def log_in(self, secret: str, *, onward: str = "") -> str:
        await self.get("/login" + (f"?next={onward}" if onward else ""))
        return await self.post("/login", {"secret": secret})

    async def _ask(self, method: str, path: str, data: Any, headers: dict[str, str]) -> str:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(
            method, self.site + path, data=data, headers=sent, allow_redirects=False
        ) as answer:
            self.status, self.headers = answer.status, answer.headers
            text = await answer.text()
            if answer.status != 303:
                self.text = text
            return answer.headers.get("Location", text)


class Site:
    """The pages of a world, behind a port of their own, and the browsers in front of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.url = ""
        self._runner = web.AppRunner(make_app(world.house), access_log=None)
        self._sessions: list[aiohttp.ClientSession] = []

    async def __aenter__(self) -> "Site":
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_serving(self._runner)
        for session in self._sessions:
            await session.close()

    def browser(self, *, site: str = "") -> Visit:
        """Opens a browser without cookies."""
        session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self._sessions.append(session)
        return Visit(site or self.url, session)

    async def visit(self, user: str, *rights: Right) -> Visit:
        """Opens a browser in which somebody is logged in."""
        visit = self.browser()
        await visit.log_in(self.world.token(user, *rights))
        assert visit.status == 303, visit.text
        return visit

    def code(self, user: str, *, ttl_s: int = 600, session_s: int = 3_600) -> str:
        """Signs a login code."""
        return issue_login(self.world.issuer, sub=UserId(user), ttl_s=ttl_s, session_s=session_s)

    def moves(self) -> Moves:
        """Who waits for cases to move."""
        return self._runner.app[MOVES]
