"""The login: by a one-time link or a bearer token, into a session that an encrypted cookie holds."""

import hashlib
from urllib.parse import quote

from aiohttp import web

from actors.desk import derived_id
from eventstore.api import AlreadyDone, Append, LogUnavailable, OutcomeUnknown
from service.api.door import TOKENS, house_of
from service.auth import Caller, Right, TokenRefused
from service.pages.attempts import Attempts
from service.pages.door import SESSIONS, form_of, local_path, now_s, page, problem_page, see_other, shown, visitor_in
from service.problems import Refusal, problem, problem_of

ATTEMPTS = web.AppKey("login_attempts", Attempts)
STREAM = "login-"
"""Streams that hold nothing but the receipt of a login code that was used."""


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [
        web.get("/", page(show_first), allow_head=False),
        web.get("/login", page(show_login, open=True), allow_head=False),
        web.post("/login", page(take_login, open=True)),
        web.post("/logout", page(take_logout, open=True)),
    ]


async def show_first(request: web.Request) -> web.StreamResponse:
    """Leads on to the pages of whoever is logged in."""
    return see_other(_home(visitor_in(request).caller))


async def show_login(request: web.Request) -> web.StreamResponse:
    """Shows the login; whoever is logged in already is led on."""
    caller = visitor_in(request).caller
    onward = local_path(request.query.get("next"))
    if caller is not None:
        return see_other(onward or _home(caller))
    return shown(request, "login.html", onward=onward)


async def take_login(request: web.Request) -> web.StreamResponse:
    """Logs in with a token or a one-time link, and leads on to where its sender wanted to be."""
    form = await form_of(request)
    onward = local_path(form.get("next"))
    try:
        caller = await _admitted(request, form.get("secret", ""))
    except (Refusal, TokenRefused) as refused:
        return _not_admitted(request, refused, onward=onward)
    await request.app[SESSIONS].log_in(request, caller, now_s=now_s(request))
    return see_other(onward or _home(caller))


async def take_logout(request: web.Request) -> web.StreamResponse:
    """Ends the session in this browser."""
    await form_of(request)
    await request.app[SESSIONS].log_out(request)
    return see_other("/login")


def _home(caller: Caller | None) -> str:
    return "/arbiter/disputes" if caller is not None and Right.ARBITER in caller.rights else "/cases"


# -- who is let in -------------------------------------------------------------------------------------------


async def _admitted(request: web.Request, given: str) -> Caller:
    """Reads what somebody logs in with: a token, a login code, or the link that ends with one.

    Raises `TokenRefused`, and `Refusal` for a code that was used before.
    """
    text = given.strip().rpartition("#")[2].removeprefix("Bearer ").strip()
    if not text:
        raise TokenRefused("token_missing")
    login = request.app[TOKENS].read_login(text, now_s=now_s(request))
    if login.once is not None:
        await _use_up(request, login.once)
    return login.caller


async def _use_up(request: web.Request, once: str) -> None:
    """Takes a code's only use, on all nodes and for good: by a receipt in the log, of which there can be one.

    The form that took it may be sent again, because its answer can be lost on the way.
    """
    by = hashlib.sha256(visitor_in(request).form_token.encode()).hexdigest()
    item = Append(
        stream_id=f"{STREAM}{once}",
        expected_version=0,
        events=(),
        command_id=derived_id("login", once),
        body_hash=by,
    )
    try:
        outcome = await house_of(request).store.log.append(item)
    except OutcomeUnknown:
        raise LogUnavailable("a login") from None
    if isinstance(outcome, AlreadyDone) and outcome.receipt.body_hash != by:
        raise Refusal("login_spent")


def _not_admitted(request: web.Request, refused: Refusal | TokenRefused, *, onward: str | None) -> web.Response:
    attempts = request.app[ATTEMPTS]
    # A right token is let in whatever failed before it: behind a proxy or an onion service all have one address, and
    # nobody guesses a signature. So the bound is on what is answered and counted, and shuts nobody out.
    if not attempts.failed(request.remote or "", now_s=now_s(request)):
        answer = problem_page(request, problem("login_too_often"))
        answer.headers["Retry-After"] = str(attempts.window_s)
        return answer
    return shown(request, "login.html", status=401, onward=onward, problem=problem_of(refused))


def link_of(public: str, code: str, *, onward: str | None = None) -> str:
    """Writes the one-time link: the code stands behind the #, which browsers send to nobody."""
    query = f"?next={quote(onward, safe='')}" if onward else ""
    return f"{public}/login{query}#{code}"
