"""Requests that are hardly HTTP: answered or cut off, never a fault of the service, and never repeated in its logs."""

import asyncio
import io
import json
import re
import time
import zlib
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import structlog
from aiohttp import web

from service.app import make_app
from service.auth import Right
from service.logs import configure_logs
from tests.given import BUYER, VENDOR
from tests.integration.test_api_bad_input import refused
from tests.patience import PATIENCE_S
from tests.serving import stop_serving
from tests.sim_world import until_true
from tests.worlds import World, house_world

GO_ON = "Expect: 100-continue"
"""A head with this line is answered at once, when it has reached its handler; the body is sent after that."""


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What is logged meanwhile."""
    stream = io.StringIO()
    configure_logs(stream=stream)
    yield stream
    structlog.reset_defaults()


@asynccontextmanager
async def doors(world: World) -> AsyncIterator[int]:
    """Serves a world as the service does (aiohttp's test server cancels where the real one does not); its port."""
    runner = web.AppRunner(make_app(world.house, telemetry=world.telemetry), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await stop_serving(runner)


async def sent_raw(port: int, *pieces: bytes) -> bytes:
    """Sends bytes, each piece when the one before was answered, and returns the last answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        async with asyncio.timeout(PATIENCE_S):
            for piece in pieces:
                writer.write(piece)
                answer = await _answer(reader)
    finally:
        writer.close()
    return answer


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return head + await reader.readexactly(int(length[1]) if length else 0)


def head(world: World, *lines: str) -> bytes:
    """Writes the head of a creation as the buyer."""
    fixed = ("POST /api/escrows HTTP/1.1", "Host: x", f"Authorization: Bearer {world.token(BUYER)}")
    return "\r\n".join((*fixed, "Content-Type: application/json", *lines, "", "")).encode()


def problem_in(answer: bytes) -> tuple[int, str]:
    """Reads status and code."""
    status, body = answer.split(b" ", 2)[1], answer.partition(b"\r\n\r\n")[2]
    return int(status), json.loads(body)["code"]


async def test_a_body_that_arrives_and_does_not_unpack_is_malformed() -> None:
    async with house_world() as world, doors(world) as port:
        said = head(world, "Content-Length: 20", "Content-Encoding: gzip", GO_ON)
        assert problem_in(await sent_raw(port, said, b"j" * 20)) == (400, "body_malformed")


async def test_a_sender_who_goes_away_is_no_fault_of_the_service(written: io.StringIO) -> None:
    async with house_world() as world, doors(world) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head(world, "Content-Length: 100", GO_ON))
        await _answer(reader)
        writer.write(b"{")
        writer.transport.abort()
        await until_true(lambda: "request" in written.getvalue())
    requests = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [(each["event"], each["status"]) for each in requests] == [("request", 400)]


async def test_what_cannot_be_read_as_http_is_not_repeated_in_the_logs(written: io.StringIO) -> None:
    async with house_world() as world, doors(world) as port:
        body = json.dumps({"claim": "a brick", "buyer_id": BUYER, "vendor_id": VENDOR}).encode()
        # A body longer than announced is read as the next request of the same connection.
        assert b" 400 " in await sent_raw(port, head(world, "Content-Length: 2") + b"{}", body)
        unknown = head(world, f"Content-Length: {len(body)}", "Content-Encoding: br")
        assert b" 400 " in await sent_raw(port, unknown + body)
        packed = zlib.compress(body)[:-4] + b"zzzz"
        await sent_raw(port, head(world, f"Content-Length: {len(packed)}", "Content-Encoding: deflate", GO_ON), packed)
    assert "request_unreadable: BadHttpMethod" in written.getvalue()
    for secret in ("brick", BUYER, VENDOR, "Content-", "Traceback"):
        assert secret not in written.getvalue()


async def test_two_tokens_or_two_keys_in_one_request_are_refused() -> None:
    async with house_world() as world, doors(world) as port:
        escrow_id = await world.create()
        token = f"Authorization: Bearer {world.token('mallory', Right.ADMIN)}"
        assert problem_in(await sent_raw(port, head(world, token))) == (401, "token_invalid")
        ship = head(world, "Idempotency-Key: a", "Idempotency-Key: b")
        ship = ship.replace(b"/api/escrows", f"/api/escrows/{escrow_id}/ship".encode())
        assert problem_in(await sent_raw(port, ship)) == (422, "idempotency_key_invalid")


async def test_a_token_that_is_nested_too_deeply_proves_nothing() -> None:
    async with house_world() as world:
        claims = {"sub": BUYER, "exp": int(time.time()) + 600}
        deep = _nested(world, claims, depth=2_000)
        await refused(world, 401, "token_invalid", "GET", "/api/escrows", headers={"Authorization": f"Bearer {deep}"})


def _nested(world: World, claims: dict[str, object], *, depth: int) -> str:
    parts = [b'{"alg":"Ed25519"}', json.dumps(claims).encode()[:-1] + b',"x":' + b"[" * depth + b"}"]
    text = ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    return f"{text}.{urlsafe_b64encode(world.issuer.sign(text.encode())).rstrip(b'=').decode()}"
