"""Who asks: bearer tokens (JWT, Ed25519) of one issuer. There is no user registry: the `sub` is the user."""

import re
import secrets
import time
import warnings
from enum import StrEnum

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import OKPKey

from domain.ids import UserId

ALGORITHM = "Ed25519"
ALGORITHMS = (ALGORITHM, "EdDSA")
"""One signature under its new name (RFC 9864) and the old one that most issuers still write."""
TTL_MAX_S = 366 * 24 * 3_600
LOGIN_TTL_MAX_S = 24 * 3_600
LOGIN = "login"
"""What a login code says it is for: it is no bearer token, and a bearer token is no login code."""
_SUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+-]{0,127}")
_ONCE = re.compile(r"[0-9a-f]{32}")


class Right(StrEnum):
    """What a token may allow beyond what its `sub` may do as a person."""

    MARKETPLACE = "marketplace"
    ADMIN = "admin"
    ARBITER = "arbiter"
    ASSISTANT = "assistant"
    """Reads the cases of arbiters who named this user, and acts in none."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and with which rights."""

    user: UserId
    rights: frozenset[Right] = frozenset()
    expires_s: int
    """When the token ends, in seconds since the Unix epoch."""


class TokenRefused(Exception):
    """A token that proves nothing: `token_missing`, `token_invalid` or `token_expired`. Never holds the token."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """What a web login was made with: a bearer token, or a login code, which is good for one login alone."""

    caller: Caller
    once: str | None = None
    """Names the login code; None for a token."""


class _Claims(msgspec.Struct, frozen=True, kw_only=True):
    sub: str
    exp: int
    nbf: int | None = None
    rights: tuple[str, ...] = ()
    use: str | None = None
    jti: str = ""
    session_s: int = 0


def issue_token(
    key: Ed25519PrivateKey,
    *,
    sub: UserId,
    rights: frozenset[Right] = frozenset(),
    ttl_s: int,
    now_s: int | None = None,
) -> str:
    """Signs a token for a user, good for `ttl_s` seconds; raises `ValueError` for a user or time no token may hold."""
    if not _SUB.fullmatch(sub) or not 0 < ttl_s <= TTL_MAX_S:
        raise ValueError(f"a user is letters, digits and ._@:+-; a token lives 1 to {TTL_MAX_S} seconds")
    now = int(time.time()) if now_s is None else now_s
    return _signed(key, {"sub": sub, "iat": now, "exp": now + ttl_s, "rights": sorted(rights)})


def issue_login(
    key: Ed25519PrivateKey,
    *,
    sub: UserId,
    rights: frozenset[Right] = frozenset(),
    ttl_s: int,
    session_s: int,
    now_s: int | None = None,
) -> str:
    """Signs a login code: good for `ttl_s` seconds and one login, which then lasts `session_s` seconds.

    Raises `ValueError` as `issue_token` does.
    """
    bounds = 0 < ttl_s <= LOGIN_TTL_MAX_S and 0 < session_s <= TTL_MAX_S
    if not _SUB.fullmatch(sub) or not bounds:
        raise ValueError(f"a user is letters, digits and ._@:+-; a login link lives 1 to {LOGIN_TTL_MAX_S} seconds")
    now = int(time.time()) if now_s is None else now_s
    once = {"use": LOGIN, "jti": secrets.token_hex(16), "session_s": session_s}
    return _signed(key, {"sub": sub, "iat": now, "exp": now + ttl_s, "rights": sorted(rights)} | once)


def _signed(key: Ed25519PrivateKey, claims: dict[str, object]) -> str:
    return jwt.encode({"alg": ALGORITHM}, claims, OKPKey.import_key(key), algorithms=[ALGORITHM])


class TokenReader:
    """Reads bearer tokens of one issuer."""

    def __init__(self, issuer: Ed25519PublicKey, *, token_max: int) -> None:
        self._key, self._token_max = OKPKey.import_key(issuer), token_max

    def read(self, authorization: str | None, *, now_s: int) -> Caller:
        """Reads the `Authorization` header; raises `TokenRefused`."""
        claims = self._claims(self._bearer(authorization))
        if claims.use is not None:
            raise TokenRefused("token_invalid")
        return _caller(claims, now_s=now_s)

    def read_login(self, text: str, *, now_s: int) -> Login:
        """Reads what somebody logs in with, a bearer token or a login code; raises `TokenRefused`."""
        claims = self._claims(self._bearer(f"Bearer {text}"))
        caller = _caller(claims, now_s=now_s)
        if claims.use is None:
            return Login(caller=caller)
        if claims.use != LOGIN or not _ONCE.fullmatch(claims.jti) or claims.session_s <= 0:
            raise TokenRefused("token_invalid")
        lasting = msgspec.structs.replace(caller, expires_s=now_s + claims.session_s)
        return Login(caller=lasting, once=claims.jti)

    def _bearer(self, authorization: str | None) -> str:
        if authorization is None:
            raise TokenRefused("token_missing")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > self._token_max:
            raise TokenRefused("token_invalid")
        return token

    def _claims(self, token: str) -> _Claims:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # about the old name of the same signature
                return msgspec.convert(jwt.decode(token, self._key, algorithms=list(ALGORITHMS)).claims, _Claims)
        # Deeply nested claims exhaust the recursion of the JSON reader.
        except (JoseError, ValueError, TypeError, UnicodeError, RecursionError, msgspec.ValidationError):
            raise TokenRefused("token_invalid") from None


def _caller(claims: _Claims, *, now_s: int) -> Caller:
    if not _SUB.fullmatch(claims.sub) or (claims.nbf is not None and claims.nbf > now_s):
        raise TokenRefused("token_invalid")
    if claims.exp <= now_s:
        raise TokenRefused("token_expired")
    known = set(Right)
    rights = frozenset(Right(each) for each in claims.rights if each in known)
    return Caller(user=UserId(claims.sub), rights=rights, expires_s=claims.exp)
