"""The application: routes behind one middleware that times, logs and turns errors into problems."""

import asyncio
import time
from collections.abc import AsyncIterator
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from eventstore.api import LogBusy, LogUnavailable
from service.api import (
    arbiters,
    cases,
    commands,
    disputes,
    drafts,
    escrows,
    heads,
    maintenance,
    orders,
    photos,
    pool,
    recovery,
    secrets,
    stream,
)
from service.api.door import ARBITERS, CORRELATION_HEADER, CREATOR, HOUSE, TOKENS, house_of
from service.arbiters import Arbiters
from service.auth import TokenReader
from service.creation import Creator
from service.evidence import EvidenceRoom
from service.evidence_metrics import EvidenceMetrics
from service.house import House
from service.keys import trusted_issuer
from service.logs import bind_correlation
from service.pages import site
from service.problems import problem_of, response
from service.readiness import ReadinessKeeper
from service.telemetry import Telemetry

log = structlog.get_logger(__name__)

TELEMETRY = web.AppKey("telemetry", Telemetry)
API_PARTS = (
    escrows,
    orders,
    commands,
    disputes,
    cases,
    drafts,
    photos,
    arbiters,
    recovery,
    secrets,
    maintenance,
    heads,
    stream,
    pool,
)


def make_app(house: House, *, telemetry: Telemetry | None = None) -> web.Application:
    """Builds the API over a house; raises `KeyFileWrong` when the token issuer's key cannot be read."""
    settings = house.settings
    app = web.Application(client_max_size=settings.body_max, middlewares=[_around])
    app[HOUSE] = house
    app[TOKENS] = TokenReader(trusted_issuer(settings), token_max=settings.token_max)
    app[ARBITERS] = Arbiters(house)
    app[CREATOR] = Creator(house, app[ARBITERS])
    app[TELEMETRY] = telemetry or Telemetry()
    room = app[photos.ROOM] = EvidenceRoom(house)
    app[TELEMETRY].registry.register(EvidenceMetrics(room))
    _add_stream(app, house)
    _add_waits(app, house)
    _add_draws(app, house)
    _add_readiness(app, house)
    heads.install(app, house)
    site.install(app, house, app[stream.HUB])
    for part in API_PARTS:
        app.router.add_routes(part.routes())
    return app


def _add_stream(app: web.Application, house: House) -> None:
    hub = app[stream.HUB] = stream.make_hub(house, app[TELEMETRY].stream)

    async def start(_: web.Application) -> None:
        await hub.start()

    async def stop(_: web.Application) -> None:
        await hub.stop()

    app.on_startup.append(start)
    # Before the server waits for its requests to end: a socket's request ends only with its socket.
    app.on_shutdown.append(stop)


def _add_waits(app: web.Application, house: House) -> None:
    waits = app[orders.SETUP_WAITS] = orders.make_waits(house, app[TELEMETRY].setups_awaited)

    async def stop(_: web.Application) -> None:
        await waits.stop()

    # Before the server waits for its requests to end, as with the stream.
    app.on_shutdown.append(stop)


def _add_draws(app: web.Application, house: House) -> None:
    async def start(_: web.Application) -> None:
        try:
            await app[ARBITERS].commit_ahead()
        except (LogUnavailable, LogBusy):
            log.warning("draws_not_begun")  # the first draw begins them

    if house.settings.arbiter_mode == "pool":
        app.on_startup.append(start)


def _add_readiness(app: web.Application, house: House) -> None:
    keeper = ReadinessKeeper(app[ARBITERS], rows=house.models.rows, desk=house.desk, clock=house.clock)

    async def keep(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(keeper.run(), name="readiness")
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    app.cleanup_ctx.append(keep)


@web.middleware
async def _around(request: web.Request, handler: Handler) -> web.StreamResponse:
    started = time.monotonic()
    correlation_id = bind_correlation(request.headers.get(CORRELATION_HEADER))
    try:
        answer = await handler(request)
    except Exception as error:
        answer = _as_problem(request, error)
    answer.headers[CORRELATION_HEADER] = correlation_id
    answer.headers.setdefault("Cache-Control", "no-store")
    answer.headers["X-Content-Type-Options"] = "nosniff"
    _note(request, answer.status, seconds=time.monotonic() - started)
    return answer


def _as_problem(request: web.Request, error: Exception) -> web.Response:
    problem = problem_of(error)
    if problem.code == "internal":
        log.error("request_failed", error=type(error).__name__, exc_info=error)
    answer = response(problem, retry_after_s=house_of(request).settings.retry_after_s)
    if isinstance(error, web.HTTPMethodNotAllowed):
        answer.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    return answer


def _note(request: web.Request, status: int, *, seconds: float) -> None:
    # The route as written in the code, never the path: that names escrows and, in a query, people.
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "unmatched"
    log.info("request", method=_method(request), route=route, status=status, ms=round(seconds * 1000, 1))
    if status == HTTPStatus.SWITCHING_PROTOCOLS:
        return  # the seconds of a socket's life are nobody's waiting time
    request.app[TELEMETRY].observe_request(method=_method(request), route=route, status=status, seconds=seconds)


def _method(request: web.Request) -> str:
    # A method is the sender's own text; only the usual ones become a label.
    return request.method if request.method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH") else "other"
