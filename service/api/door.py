"""What every route needs: who asks, what they sent, which escrow they may see, and how a command is made once."""

import asyncio
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from aiohttp import web

from actors.desk import derived_id
from actors.escrow import Accepted, KeyReused
from domain.commands import AnyCommand
from domain.event import Event
from domain.ids import CommandId, EscrowId, Micros
from domain.roles import Role
from domain.states import Escrow
from eventstore.api import AlreadyDone, Append, LogUnavailable, OutcomeUnknown
from schemas.answers import Answer
from schemas.codec import decode
from schemas.cursor import encode_cursor
from schemas.requests import ESCROW_ID, Request
from service.arbiters import Arbiters
from service.auth import Caller, Right, TokenReader, TokenRefused
from service.creation import Creator
from service.house import House
from service.problems import Refusal, refuse

HOUSE = web.AppKey("house", House)
TOKENS = web.AppKey("tokens", TokenReader)
CREATOR = web.AppKey("creator", Creator)
ARBITERS = web.AppKey("arbiters", Arbiters)
CORRELATION_HEADER = "X-Correlation-Id"
JSON = "application/json"

_ESCROW_ID = re.compile(ESCROW_ID)
_PATH = re.compile(r" - at `\$\.?(.*)`$")
_R = TypeVar("_R", bound=Request)
_E = TypeVar("_E", bound=Event)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OWN_EVENTS_MAX = 8
"""Events that one person's command leads to at the most, where one of them is looked for."""


class Keyed(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a request happen once; `body_hash` is empty without an Idempotency-Key."""

    command_id: CommandId
    body_hash: str


Command = Callable[[web.Request, _R, Caller, Keyed], Awaitable[Answer]]
"""What somebody asks to be done, with a body that was read and what makes it happen once: for API and pages alike."""


def house_of(request: web.Request) -> House:
    """Returns what the service is made of."""
    return request.app[HOUSE]


def now(request: web.Request) -> Micros:
    """The present moment."""
    return Micros(house_of(request).clock.now())


def caller_of(request: web.Request) -> Caller:
    """Reads who asks; raises `TokenRefused`, also for two answers to that: a proxy may have heeded the other one."""
    if len(request.headers.getall("Authorization", ())) > 1:
        raise TokenRefused("token_invalid")
    return request.app[TOKENS].read(request.headers.get("Authorization"), now_s=now(request) // 1_000_000)


def admin_of(request: web.Request) -> Caller:
    """Reads who asks, who must be an administrator; raises `Refusal`, and `TokenRefused` as `caller_of` does."""
    caller = caller_of(request)
    if Right.ADMIN not in caller.rights:
        raise Refusal("right_missing", facts={"right": Right.ADMIN.value})
    return caller


# -- bodies --------------------------------------------------------------------------------------------------


async def body_of(request: web.Request, kind: type[_R]) -> _R:
    """Reads and checks the body; raises `Refusal` with the path of what is wrong.

    An empty body is an empty object. The value that was wrong is never repeated: it may be a secret.
    """
    raw = await _read(request)
    if raw and request.content_type != JSON:
        raise Refusal("media_type", facts={"expected": JSON})
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except msgspec.ValidationError as wrong:
        says, path = _what_is_wrong(str(wrong))
        raise Refusal("validation", detail=says, facts={"path": path}) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refusal("body_malformed") from None


def read_part(part: object, kind: type[_R], *, at: str) -> _R:
    """Checks one part of a decoded body, found `at` a path, on its own; raises `Refusal` as `body_of` does."""
    try:
        return msgspec.convert(part, type=kind)
    except msgspec.ValidationError as wrong:
        says, path = _what_is_wrong(str(wrong))
        raise Refusal("validation", detail=says, facts={"path": ".".join(filter(None, (at, path)))}) from None


async def _read(request: web.Request) -> bytes:
    settings = house_of(request).settings
    if request.content_length is not None and request.content_length > settings.body_max:
        raise Refusal("body_too_large", facts={"body_max": settings.body_max})
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            return await request.read()
    except TimeoutError:
        raise Refusal("body_slow", facts={"body_timeout_s": settings.body_timeout_s}) from None
    except (web.RequestPayloadError, ConnectionError):
        # Packed or cut in a way that nobody can undo, or its sender went away: no fault of this service.
        raise Refusal("body_malformed") from None


def _what_is_wrong(message: str) -> tuple[str, str]:
    """Parts a validation message into its sentence and the path of the field (empty for the whole body)."""
    found = _PATH.search(message)
    if found:
        return message[: found.start()], found[1]
    return message, ""


# -- what may be seen ----------------------------------------------------------------------------------------


async def seen(request: web.Request, escrow_id: str, caller: Caller) -> Escrow:
    """Returns an escrow that the caller may see; to all but its three and administrators it does not exist."""
    state = await house_of(request).desk.state(EscrowId(escrow_id)) if _ESCROW_ID.match(escrow_id) else None
    if state is None or not (state.core.terms.role_of(caller.user) or Right.ADMIN in caller.rights):
        raise Refusal("no_such_escrow")
    return state


async def path_escrow(request: web.Request) -> tuple[Caller, Escrow]:
    """Returns who asks and the escrow named in the path; raises as `seen` does."""
    caller = caller_of(request)
    return caller, await seen(request, request.match_info["escrow_id"], caller)


def role_in(state: Escrow, caller: Caller) -> Role | None:
    """Names the caller's seat, None for an administrator without one."""
    return state.core.terms.role_of(caller.user)


# -- commands ------------------------------------------------------------------------------------------------


def keyed(request: web.Request, caller: Caller, body: Request) -> Keyed:
    """Derives what makes this request happen once; without an Idempotency-Key it is a new one each time."""
    keys = request.headers.getall("Idempotency-Key", ())
    if not keys:
        return Keyed(command_id=CommandId(secrets.token_hex(32)), body_hash="")
    return keyed_by(request, caller, body, key=keys[0] if len(keys) == 1 else "")


def keyed_by(request: web.Request, caller: Caller, body: Request, *, key: str) -> Keyed:
    """Derives what makes a request happen once from a key of its sender's; raises `Refusal`."""
    longest = house_of(request).settings.idempotency_key_max
    if not re.fullmatch(rf"[!-~]{{1,{longest}}}", key):
        raise Refusal("idempotency_key_invalid", facts={"idempotency_key_max": longest})
    command_id = derived_id("request", caller.user, request.method, request.path, key)
    return Keyed(command_id=command_id, body_hash=hashlib.sha256(_canonical(body)).hexdigest())


def _canonical(body: Request) -> bytes:
    return type(body).__name__.encode() + msgspec.json.encode(body, order="deterministic")


def commanded(kind: type[_R], command: Command[_R]) -> Handler:
    """Makes a route of a command: who asks, what they sent, what makes it happen once, and its answer as JSON."""

    async def handler(request: web.Request) -> web.Response:
        caller = caller_of(request)
        body = await body_of(request, kind)
        return answer_json(await command(request, body, caller, keyed(request, caller, body)))

    return handler


async def claim_key(request: web.Request, by: Keyed) -> None:
    """Binds a key to its body where the escrow is named in the body: there its receipt alone could not tell.

    Raises `KeyReused` when the key was used with another body.
    """
    if not by.body_hash:
        return
    item = Append(
        stream_id=f"key-{by.command_id}",
        expected_version=0,
        events=(),
        command_id=by.command_id,
        body_hash=by.body_hash,
    )
    try:
        outcome = await house_of(request).store.log.append(item)
    except OutcomeUnknown:
        raise LogUnavailable("an idempotency key") from None
    if isinstance(outcome, AlreadyDone) and outcome.receipt.body_hash != by.body_hash:
        raise KeyReused


async def follow(
    request: web.Request, escrow_id: EscrowId, command: AnyCommand, *, caller: Caller, by: Keyed
) -> Accepted:
    """Brings a command to its escrow; raises `Refusal` when it is refused, and what `Desk.handle` raises."""
    answer = await house_of(request).desk.handle(
        escrow_id, command, command_id=by.command_id, actor=caller.user, body_hash=by.body_hash
    )
    if not isinstance(answer, Accepted):
        raise refuse(answer)
    return answer


async def own_event(request: web.Request, escrow_id: EscrowId, answer: Accepted, *, by: Keyed, kind: type[_E]) -> _E:
    """Finds the event of a kind that a command led to, at its first telling or a repeated one."""
    read_from = max(0, answer.version - OWN_EVENTS_MAX)
    limit = answer.version - read_from
    for recorded in await house_of(request).store.log.read_stream(escrow_id, after_version=read_from, limit=limit):
        if recorded.command_id == by.command_id:
            event = decode(type=recorded.type, schema_version=recorded.schema_version, body=recorded.body)
            if isinstance(event, kind):
                return event
    raise AssertionError(f"{kind.__name__} is none of the command's events")


def cursor_of(answer: Accepted) -> str:
    """Marks the place of a command's last event."""
    return encode_cursor({answer.partition: answer.position})


def answer_json(body: Answer, *, status: int = 200) -> web.Response:
    """Writes an answer."""
    return web.Response(status=status, body=msgspec.json.encode(body), content_type=JSON)
