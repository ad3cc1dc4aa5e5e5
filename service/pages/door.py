"""What every page needs: who looks at it, forms that came from a page of ours, headers that let nothing else in."""

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp_jinja2 import render_template

from schemas.problems import Problem
from schemas.requests import Request
from service.api.door import Keyed, house_of, keyed_by, now, read_part
from service.api.uploads import NO_FORM
from service.auth import Caller
from service.pages.session import VISITOR, Sessions, Visitor
from service.problems import Refusal, problem_of

log = structlog.get_logger(__name__)

SESSIONS = web.AppKey("sessions", Sessions)
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CSP,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
SAME_SITE = ("same-origin", "none")
HIDDEN = ("form_token", "key")
"""Fields that every form has beside its own: where it came from, and what makes it happen once."""

PageHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_R = TypeVar("_R", bound=Request)


def page(handler: PageHandler, *, open: bool = False) -> Handler:
    """Makes a route of a page: for whoever is logged in, or for everybody where it is `open`; problems become pages."""

    async def inside(request: web.Request) -> web.StreamResponse:
        if visitor_in(request).caller is None and not open:
            return _to_login(request)
        try:
            return await handler(request)
        except Exception as error:
            return problem_page(request, problem_of(error), error=error)

    async def around(request: web.Request) -> web.StreamResponse:
        sessions = request.app[SESSIONS]
        await sessions.begin(request, now_s=now_s(request))
        answer = await inside(request)
        if not answer.prepared:  # what was sent piece by piece had its own
            await sessions.end(request, answer)
            answer.headers.update(HEADERS)
        return answer

    return around


def visitor_in(request: web.Request) -> Visitor:
    """Returns who looks at the page."""
    return request[VISITOR]


def person_in(request: web.Request) -> Caller:
    """Returns as whom somebody is logged in; raises `Refusal` where nobody is."""
    caller = visitor_in(request).caller
    if caller is None:
        raise Refusal("login_needed")
    return caller


def now_s(request: web.Request) -> int:
    """The present second since the Unix epoch."""
    return now(request) // 1_000_000


# -- answers -------------------------------------------------------------------------------------------------


def shown(request: web.Request, template: str, *, status: int = 200, **facts: Any) -> web.Response:
    """Renders a page."""
    visitor = visitor_in(request)
    common = {"visitor": visitor, "form_key": secrets.token_hex(16), "path": request.path}
    return render_template(template, request, common | facts, status=status)


def see_other(path: str) -> web.Response:
    """Sends the browser to another page of ours, by GET."""
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": path})


def problem_page(request: web.Request, problem: Problem, *, error: BaseException | None = None) -> web.Response:
    """Shows a problem to a person."""
    if problem.code == "internal":
        log.error("page_failed", error=type(error).__name__, exc_info=error)
    answer = shown(request, "problem.html", status=problem.status, problem=problem)
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers["Retry-After"] = str(house_of(request).settings.retry_after_s)
    return answer


def _to_login(request: web.Request) -> web.Response:
    if request.headers.get("Sec-Fetch-Site") == "cross-site" and request.method == "GET":
        # Somebody followed a link from elsewhere: the browser kept the cookie back. Asked from here, it sends it.
        return shown(request, "again.html", again=request.path_qs)
    if request.method == "GET":
        return see_other(f"/login?next={quote(request.path_qs, safe='')}")
    return problem_page(request, problem_of(Refusal("login_needed")))


def local_path(text: str | None) -> str | None:
    """Returns a path of this site as it was given, None for anything that could lead elsewhere."""
    if not text or not text.startswith("/") or text.startswith(("//", "/\\")) or not text.isprintable():
        return None
    parts = urlsplit(text)
    return None if parts.scheme or parts.netloc or "\\" in text else text


# -- forms ---------------------------------------------------------------------------------------------------


async def form_of(request: web.Request) -> dict[str, str]:
    """Reads a form of ours: every field once, as text; raises `Refusal`, also for a form that is not ours."""
    if request.content_type not in FORM_TYPES:
        raise Refusal("media_type", facts={"expected": FORM_TYPES[0]})
    fields = await _fields(request)
    check_ours(request, fields)
    return {field: value for field, value in fields.items() if field != "form_token"}


def check_ours(request: web.Request, fields: Mapping[str, str]) -> None:
    """Refuses a form that did not come from a page of this session."""
    if request.headers.get("Sec-Fetch-Site", "none") not in SAME_SITE:
        raise Refusal("form_foreign")
    if not hmac.compare_digest(fields.get("form_token", "").encode(), visitor_in(request).form_token.encode()):
        raise Refusal("form_foreign")


async def _fields(request: web.Request) -> dict[str, str]:
    settings, found = house_of(request).settings, dict[str, str]()
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            sent = await request.post()
    except TimeoutError:
        raise Refusal("body_slow", facts={"body_timeout_s": settings.body_timeout_s}) from None
    except web.HTTPRequestEntityTooLarge:
        raise Refusal("body_too_large", facts={"body_max": settings.body_max}) from None
    except NO_FORM:
        # What the parser says of a form that is none; anybody can send one, and it is no fault of this service.
        raise Refusal("form_malformed") from None
    for field, value in sent.items():
        if not isinstance(value, str) or field in found or not _is_utf8(value):
            raise Refusal("form_malformed")
        found[field] = value.replace("\r\n", "\n")  # as browsers send every line's end
    return found


def _is_utf8(text: str) -> bool:
    # A charset of the sender's own choice may make halves of characters, which nothing could be written with.
    return not any("\ud800" <= each <= "\udfff" for each in text)


def asked(request: web.Request, form: Mapping[str, Any], kind: type[_R], **fixed: Any) -> tuple[_R, Keyed]:
    """Makes of a form the body that the API takes, and what makes it happen once; raises `Refusal` as the API does."""
    body = read_part(own_fields(form) | fixed, kind, at="")
    return body, keyed_by(request, person_in(request), body, key=form.get("key", ""))


def own_fields(form: Mapping[str, Any]) -> dict[str, Any]:
    """Takes out of a form what every form has."""
    return {field: value for field, value in form.items() if field not in HIDDEN}
