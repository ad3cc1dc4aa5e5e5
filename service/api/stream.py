"""The route of the stream: `GET /api/stream`, a WebSocket."""

from socket import SO_SNDBUF, SOL_SOCKET

from aiohttp import web

from eventstore.api import EventLog
from schemas.cursor import BadCursor, decode_cursor
from service.api.door import TOKENS, caller_of, house_of, now
from service.auth import Caller, TokenRefused
from service.house import House
from service.problems import Refusal
from service.stream.hub import Hub
from service.stream.members import ModelIndex
from service.stream.messages import Place
from service.stream.metrics import StreamMetrics
from service.stream.session import StreamLimits

HUB = web.AppKey("hub", Hub)
PROTOCOL = "thirdkey.v1"
"""What a browser, which cannot set headers, offers beside `bearer.<token>`; the answer names this one alone."""
BEARER = "bearer."
BEGINNING = ("", "0")
WRITER_LIMIT = 65_536
"""Bytes in a socket's own buffer before its sender waits, and in the kernel's, which otherwise grows to megabytes."""
MESSAGE_MAX = 4_096
"""Bytes of a message from the other side; none is expected."""


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [web.get("/api/stream", stream, allow_head=False)]


def make_hub(house: House, metrics: StreamMetrics) -> Hub:
    """Builds the node's hub over its log and read model, within the settings' bounds."""
    settings = house.settings
    limits = StreamLimits(
        sockets_max=settings.stream_sockets_max,
        user_sockets_max=settings.stream_user_sockets_max,
        slow_s=settings.stream_slow_s,
        heartbeat_s=settings.stream_heartbeat_s,
        queue_max=settings.stream_queue_max,
        page_max=settings.stream_page_max,
    )
    return Hub(
        house.store.log,
        ModelIndex(house.models),
        clock=house.clock,
        limits=limits,
        metrics=metrics,
        on_broken=house.problems.append,
    )


async def stream(request: web.Request) -> web.StreamResponse:
    """Streams the caller's events: behind a cursor, from the beginning, or from now on."""
    offered = _offered(request)
    caller = _caller(request, offered)
    after = await _after(request)
    socket = web.WebSocketResponse(
        protocols=(PROTOCOL,),
        # Signs of life are judged together with what the socket takes, not by a timer of their own.
        heartbeat=None,
        autoping=False,
        # A shared compressor's memory for each socket, and lengths that tell of the content.
        compress=False,
        max_msg_size=MESSAGE_MAX,
        writer_limit=WRITER_LIMIT,
    )
    if not socket.can_prepare(request):
        raise Refusal("request_invalid", detail="This address speaks WebSocket only.")
    hub = request.app[HUB]
    with hub.room_for(caller.user):
        await socket.prepare(request)
        if request.transport is not None:  # else the other side is gone already
            request.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_SNDBUF, WRITER_LIMIT)
            await hub.serve(socket, caller, after=after, transport=request.transport)
    return socket


# -- who asks ------------------------------------------------------------------------------------------------


def _offered(request: web.Request) -> list[str]:
    """Lists the protocols offered; raises `Refusal` unless ours is among them: the HTTP library would log the list."""
    several = request.headers.getall("Sec-WebSocket-Protocol", ())
    offered = [entry.strip() for header in several for entry in header.split(",")]
    if offered and (len(several) > 1 or PROTOCOL not in offered):
        raise Refusal("request_invalid", detail=f"Offer the protocol {PROTOCOL}, in one header.")
    return offered


def _caller(request: web.Request, offered: list[str]) -> Caller:
    """Reads the token from the header, or from the protocols; raises `TokenRefused`, also when there are two."""
    tokens = [entry.removeprefix(BEARER) for entry in offered if entry.startswith(BEARER)]
    if not tokens:
        return caller_of(request)
    if len(tokens) > 1 or "Authorization" in request.headers:
        raise TokenRefused("token_invalid")
    return request.app[TOKENS].read(f"Bearer {tokens[0]}", now_s=now(request) // 1_000_000)


# -- where it begins -----------------------------------------------------------------------------------------


async def _after(request: web.Request) -> Place | None:
    """Reads where the stream continues; None means now. Raises `Refusal`."""
    for field in request.query:
        if field != "after":
            raise Refusal("validation", detail="Unknown filter", facts={"path": field[:64]})
    given = request.query.getall("after", [])
    if len(given) > 1:
        raise Refusal("validation", detail="Given twice", facts={"path": "after"})
    return await _place(house_of(request).store.log, given[0]) if given else None


async def _place(event_log: EventLog, text: str) -> Place:
    """Reads a cursor against the log: a partition it does not name begins at 0, so that nothing is left out.

    Raises `Refusal` also for a place the log has not reached: from there on events would be passed over in silence.
    """
    try:
        positions = {} if text in BEGINNING else decode_cursor(text)
    except BadCursor:
        raise Refusal("cursor_invalid", facts={"path": "after"}) from None
    heads = {head.partition: head.position for head in await event_log.heads()}
    if any(not 0 <= position <= heads.get(partition, -1) for partition, position in positions.items()):
        raise Refusal("cursor_invalid", detail="It is of another log.", facts={"path": "after"})
    return tuple(positions.get(partition, 0) for partition in range(event_log.partitions))
