"""Puts the pages into the application: routes, templates, sessions, and the few files that pages ask for."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import aiohttp_jinja2
import jinja2
from aiohttp import web

from schemas.requests import DESCRIPTION_MAX
from service.house import House
from service.pages import acting, cases, login, pictures
from service.pages.attempts import Attempts
from service.pages.door import HEADERS, SESSIONS
from service.pages.moves import Moves
from service.pages.session import Sessions
from service.pages.words import STATUSES, VERDICTS, age, percent, short, when, worded, xmr
from service.stream.hub import Hub

FOLDER = Path(__file__).parent
STATIC: Mapping[str, str] = {
    "thirdkey.css": "text/css",
    "live.js": "text/javascript",
    "key.svg": "image/svg+xml",
}
"""Every file that pages ask for, with its type."""
YEAR_S = 31_536_000


def install(app: web.Application, house: House, hub: Hub) -> None:
    """Adds the pages over a house, drawn anew as the hub hears of events."""
    settings = house.settings
    app[SESSIONS] = Sessions(house)
    app[login.ATTEMPTS] = Attempts(failures_max=settings.login_failures_max)
    moves = app[cases.MOVES] = Moves(waits_max=settings.page_waits_max)
    hub.on_moved = moves.note

    async def stop(_: web.Application) -> None:
        moves.stop()

    # Before the server waits for its requests to end: some of them wait for a case to move.
    app.on_shutdown.append(stop)
    files = {name: (FOLDER / "static" / name).read_bytes() for name in STATIC}
    _add_templates(app, house, files)
    app.router.add_get("/static/{name}", _static(files), allow_head=False)
    for part in (login, cases, acting, pictures):
        app.router.add_routes(part.routes())


def _add_templates(app: web.Application, house: House, files: Mapping[str, bytes]) -> None:
    named = {name: f"/static/{name}?v={_fingerprint(file)}" for name, file in files.items()}
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        default_helpers=False,
    )

    def aged(at: str) -> str:
        return age(at, datetime.fromtimestamp(house.clock.now() / 1_000_000, tz=UTC))

    environment.filters |= {"xmr": xmr, "percent": percent, "short": short, "when": when, "worded": worded, "age": aged}
    environment.globals |= {"static": named.__getitem__, "statuses": STATUSES, "verdicts": VERDICTS}
    environment.globals["description_max"] = DESCRIPTION_MAX


def _static(files: Mapping[str, bytes]):  # type: ignore[no-untyped-def]
    async def serve(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in files:
            raise web.HTTPNotFound
        # Its address carries its fingerprint: another content has another address.
        cached = {"Cache-Control": f"public, max-age={YEAR_S}, immutable"}
        return web.Response(body=files[name], content_type=STATIC[name], charset="utf-8", headers={**HEADERS, **cached})

    return serve


def _fingerprint(file: bytes) -> str:
    return hashlib.sha256(file).hexdigest()[:12]
