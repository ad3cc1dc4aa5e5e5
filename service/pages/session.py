"""Web sessions: who is logged in stands in an encrypted cookie, which every node can read."""

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from aiohttp_session import Session
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from cryptography.fernet import Fernet, MultiFernet

from domain.ids import UserId
from service.auth import Caller, Right
from service.house import House
from service.setting_values import is_loopback
from service.settings import Settings

PURPOSE = b"thirdkey web sessions"
COOKIE = "thirdkey"
FORM_TOKEN_BYTES = 32


class Visitor(msgspec.Struct, frozen=True, kw_only=True):
    """Who looks at a page: the caller they logged in as, and what proves that a form came from a page of theirs."""

    caller: Caller | None
    form_token: str


VISITOR = web.RequestKey("visitor", Visitor)
RENEWED = web.RequestKey("renewed", Session)
"""The session as the browser is to keep it, where it changed."""


class Sessions:
    """Loads and saves the sessions of this service's pages; one in a node."""

    def __init__(self, house: House) -> None:
        first, *others = house.store.ring.derived(purpose=PURPOSE)
        secure = not _plain_loopback(house.settings)
        self._longest_s = house.settings.session_s
        self._storage = EncryptedCookieStorage(
            _Keys(first, others=others),
            # The prefix has browsers refuse the name to any neighbour that shares the host or a parent of it.
            cookie_name=f"__Host-{COOKIE}" if secure else COOKIE,
            max_age=self._longest_s,
            secure=secure,
            httponly=True,
            samesite="Strict",
        )

    async def begin(self, request: web.Request, *, now_s: int) -> None:
        """Finds out who looks at a page; a session that has ended is one that never was."""
        try:
            session = await self._storage.load_session(request)
        except UnicodeEncodeError:  # bytes that no cookie of ours has
            session = await self._renewed(request)
        if "form_token" not in session or session.get("until", now_s + 1) <= now_s:
            session = await self._renewed(request)
        request[VISITOR] = Visitor(caller=_caller(session), form_token=session["form_token"])

    async def log_in(self, request: web.Request, caller: Caller, *, now_s: int) -> None:
        """Begins a session that ends with what it was made with, and after `session_s` at the latest."""
        session = await self._renewed(request)  # with another form token: nobody can have planted that one
        until = min(caller.expires_s, now_s + self._longest_s)
        session.max_age = until - now_s
        session["sub"], session["until"], session["rights"] = caller.user, until, sorted(caller.rights)

    async def log_out(self, request: web.Request) -> None:
        """Has the browser forget the session."""
        request[RENEWED] = await self._storage.new_session()

    async def end(self, request: web.Request, answer: web.StreamResponse) -> None:
        """Tells the browser what changed."""
        if RENEWED in request:
            await self._storage.save_session(request, answer, request[RENEWED])

    async def _renewed(self, request: web.Request) -> Session:
        session = request[RENEWED] = await self._storage.new_session()
        session["form_token"] = secrets.token_hex(FORM_TOKEN_BYTES)
        return session


def _caller(session: Session) -> Caller | None:
    if "sub" not in session:
        return None
    rights = frozenset(Right(right) for right in session["rights"])
    return Caller(user=UserId(session["sub"]), rights=rights, expires_s=session["until"])


def _plain_loopback(settings: Settings) -> bool:
    """Says whether pages are reached by http:// on this machine alone, where some browsers send no secure cookie."""
    if settings.public_url is None:
        return is_loopback(settings.server_host)
    parts = urlsplit(settings.public_url)
    return parts.scheme == "http" and is_loopback(parts.hostname or "")


class _Keys(Fernet):
    """Encrypts under the current key and opens what the keys before it, or the next, encrypted."""

    def __init__(self, current: bytes, *, others: Sequence[bytes]) -> None:
        first, *rest = (urlsafe_b64encode(key) for key in (current, *others))
        super().__init__(first)
        self._all = MultiFernet([Fernet(first), *(Fernet(key) for key in rest)])

    def decrypt(self, token: bytes | str, ttl: int | None = None) -> bytes:
        return self._all.decrypt(token, ttl)
