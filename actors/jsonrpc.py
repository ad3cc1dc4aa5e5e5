"""One JSON-RPC peer over HTTP, with bounded waiting, bounded answers and errors that carry no secrets."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
import msgspec

_T = TypeVar("_T")

ANSWER_MAX_BYTES = 64 * 1024 * 1024
"""The largest answer read; a hundred big transactions as JSON stay far below."""


class NoAnswer(Exception):
    """No usable answer came; what the call did on the other side is not known."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ErrorAnswer(Exception):
    """The peer answered with a JSON-RPC error."""

    def __init__(self, *, code: int, message: str) -> None:
        super().__init__(f"error {code}")
        self.code, self.message = code, message


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer asks of us and what it has to show; never printed."""

    user: str | None = None
    password: str | None = None
    fingerprint: bytes | None = None
    """SHA-256 of the certificate of an https peer; any other is refused before anything is sent."""

    def __repr__(self) -> str:
        return "Access(…)"


class JsonRpc:
    """Calls one peer over at most one connection, one call after another.

    `access` is asked at each connection, and once more when the peer turns a call away: what was changed meanwhile is
    used from then on.

    One connection is a rule and not thrift: monero's digest nonces belong to a connection, and with several of them
    6 of 8 parallel calls were answered 401 (measured on 0.18.0.0).
    """

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        access: Callable[[], Access] | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        fixed = Access(user=user, password=password)
        self._access = access or (lambda: fixed)
        self._used = fixed
        self._session: aiohttp.ClientSession | None = None

    async def call(self, method: str, params: Mapping[str, Any], *, answer: type[_T], limit_s: float) -> _T:
        """Calls a JSON-RPC method and decodes its result.

        Raises `ErrorAnswer` when the peer says no and `NoAnswer` when it says nothing that can be read.
        """
        request = {"jsonrpc": "2.0", "id": "0", "method": method, "params": params}
        envelope = _decode(await self._post("/json_rpc", request, limit_s=limit_s), _Envelope)
        if envelope.error is not None:
            raise ErrorAnswer(code=envelope.error.code, message=envelope.error.message)
        return _decode(bytes(envelope.result), answer)

    async def post(self, path: str, body: Mapping[str, Any], *, answer: type[_T], limit_s: float) -> _T:
        """Posts to one of monerod's plain paths and decodes the answer; raises `NoAnswer`."""
        return _decode(await self._post(path, body, limit_s=limit_s), answer)

    async def aclose(self) -> None:
        """Closes the connection; the next call opens another."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def _post(self, path: str, body: Mapping[str, Any], *, limit_s: float) -> bytes:
        with _no_answer():
            async with asyncio.timeout(limit_s):
                try:
                    return await self._answer(path, body)
                except (aiohttp.ServerFingerprintMismatch, _TurnedAway):
                    if self._access() == self._used:
                        raise
                # Not let in, the call had no effect: it is made again with what was configured meanwhile.
                await self.aclose()
                return await self._answer(path, body)

    async def _answer(self, path: str, body: Mapping[str, Any]) -> bytes:
        session, data = self._open_session(), msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"}
        # A wallet redirects nobody; whoever does must not lead us to send a login elsewhere.
        async with session.post(self._url + path, data=data, headers=headers, allow_redirects=False) as response:
            if response.status == HTTPStatus.UNAUTHORIZED:
                raise _TurnedAway
            if response.status != HTTPStatus.OK:
                raise NoAnswer(f"http {response.status}")
            return await _read_bounded(response)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            used = self._used = self._access()
            pinned = aiohttp.Fingerprint(used.fingerprint) if used.fingerprint is not None else True
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=1, ssl=pinned),
                timeout=aiohttp.ClientTimeout(total=None),
                middlewares=_middlewares(used),
            )
        return self._session


def _middlewares(used: Access) -> tuple[aiohttp.DigestAuthMiddleware, ...]:
    if used.user is None or used.password is None:
        return ()
    return (aiohttp.DigestAuthMiddleware(used.user, used.password),)


class _TurnedAway(Exception):
    """The peer answered 401."""


class _Error(msgspec.Struct):
    code: int
    message: str = ""


class _Envelope(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: _Error | None = None


@contextlib.contextmanager
def _no_answer() -> Iterator[None]:
    # `from None` everywhere: what these exceptions quote (addresses, hosts, parts of bodies) stays out of traces.
    try:
        yield
    except TimeoutError:
        raise NoAnswer("time-out") from None
    except _TurnedAway:
        raise NoAnswer("http 401") from None
    except (aiohttp.ServerFingerprintMismatch, aiohttp.ClientConnectorCertificateError):
        raise NoAnswer("other certificate") from None
    except aiohttp.ClientConnectorError:
        raise NoAnswer("unreachable") from None
    except (aiohttp.ClientError, OSError, ValueError):
        raise NoAnswer("connection lost") from None


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        body += chunk
        if len(body) > ANSWER_MAX_BYTES:
            raise NoAnswer("answer too large")
    return bytes(body)


def _decode(data: bytes, answer: type[_T]) -> _T:
    try:
        return msgspec.json.decode(data, type=answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise NoAnswer("garbage") from None
