"""`make bench-stream`: the stream to a thousand sockets against a bare loop that sends the same text to as many.

Both servers live in this process, on loopback; the sockets are another process's, and a process a side. A round sends
the same number of messages first by the bare loop, then by the stream, where each is an event appended to a durable
Postgres, read back, looked up and fanned out. Then events come at a walking pace, and each message is timed from its
append to its receipt.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import orjson
from aiohttp import WSMsgType, web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from actors.clock import SystemClock
from actors.desk import Desk
from actors.directory import Directory
from actors.escrow import EscrowActor
from domain.events import AnyEvent, EscrowCreated, PayoutAddressSet
from domain.ids import EscrowId, Micros, OrderId, Sealed, UserId
from domain.money import Atomic
from domain.roles import THREE, Role, SeatKind
from domain.terms import Policy, Terms
from eventstore.api import Append, Appended, NewEvent
from eventstore.opening import Store, open_store
from ops.bench.report import at_least, at_most, finish, spread
from ops.bench.server import bench_server
from ops.bench.stream_client import Heard, raise_file_limit
from projections.asking import ReadModels
from projections.opening import open_models
from projections.runner import Runner
from schemas.codec import encode
from service.app import make_app
from service.auth import issue_token
from service.house import House
from service.logs import configure_logs
from service.settings import Settings
from service.stream.messages import event_message

SOCKETS = int(os.environ.get("BENCH_SOCKETS", "1000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
MESSAGES = 60
"""For each socket and round."""
WALK_EVENTS, WALK_S = 60, 0.2
"""Five events a second."""
THROUGHPUT_BOUND, P99_BOUND_S = 0.6, 0.1
PEOPLE = ("alice", "bob", "judy")
PARTITIONS = 4
ESCROW = EscrowId("esc_" + "b" * 32)
LIMIT_S = 120.0


class Far:
    """The process on the other side."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def begin(self, messages: int) -> None:
        """Tells it what to wait for."""
        await self.say(b"%d" % messages)
        await self.line()

    async def heard(self) -> Heard:
        """Returns when everything has come."""
        return msgspec.json.decode(await self.line(), type=Heard)

    async def say(self, line: bytes) -> None:
        """Sends a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        await self._process.stdin.drain()

    async def line(self) -> bytes:
        """Reads a line."""
        assert self._process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            return await self._process.stdout.readline()


@asynccontextmanager
async def far_side(port: int, path: str, tokens: list[str]) -> AsyncIterator[Far]:
    """Opens the sockets from another process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ops.bench.stream_client", str(port), path, str(SOCKETS)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**26,
    )
    try:
        far = Far(process)
        await far.say(orjson.dumps(tokens))
        assert await far.line() == b"ready\n", "the sockets did not open"
        yield far
    finally:
        process.kill()
        await process.wait()


# -- the bare loop -------------------------------------------------------------------------------------------


class Bare:
    """WebSockets and nothing else."""

    def __init__(self) -> None:
        self._sockets: list[web.WebSocketResponse] = []

    async def keep(self, request: web.Request) -> web.WebSocketResponse:
        """Keeps a socket until its other side ends."""
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        self._sockets.append(socket)
        async for _ in socket:
            pass
        return socket

    async def send(self, text: bytes, *, messages: int) -> None:
        """Sends the same text so many times to each."""
        for _ in range(messages):
            for socket in self._sockets:
                await socket.send_frame(text, WSMsgType.TEXT)
            await asyncio.sleep(0)


@asynccontextmanager
async def bare_server(bare: Bare) -> AsyncIterator[int]:
    """Serves the bare loop; gives its port."""
    app = web.Application()
    app.router.add_get("/", bare.keep)
    async with _served(app) as port:
        yield port


@asynccontextmanager
async def _served(app: web.Application) -> AsyncIterator[int]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


# -- the service ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def stream_server(store: Store, issuer: Ed25519PrivateKey) -> AsyncIterator[int]:
    """Serves the whole API over a log, without wallets; gives its port."""
    public = issuer.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    settings = Settings(issuer_public_key=public, stream_user_sockets_max=SOCKETS, stream_sockets_max=SOCKETS)
    clock = SystemClock()
    directory: Directory[EscrowId] = Directory(
        lambda escrow_id: EscrowActor(escrow_id, event_log=store.log, clock=clock),
        clock=clock,
        on_parked=lambda _, failure: print("parked", failure, file=sys.stderr),
    )
    tables, rows = open_models(store)
    runner = Runner(store.log, tables)
    models = ReadModels(store.log, rows, runner)
    house = House(settings=settings, store=store, clock=clock, desk=Desk(directory), models=models, runner=runner)
    await runner.catch_up()
    running = asyncio.get_running_loop().create_task(runner.run())
    try:
        async with _served(make_app(house)) as port:
            yield port
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await directory.stop_all(timeout_s=5)


class Writer:
    """Appends to one escrow of the three whose sockets listen."""

    def __init__(self, store: Store) -> None:
        self._store, self._version = store, 0
        self.last = b""

    async def create(self) -> None:
        """Makes the escrow."""
        terms = Terms(
            escrow_id=ESCROW,
            order_id=OrderId("bench"),
            buyer_id=UserId(PEOPLE[0]),
            vendor_id=UserId(PEOPLE[1]),
            arbiter_id=UserId(PEOPLE[2]),
            amount=Atomic(10**12),
            network="regtest",
            seats=dict.fromkeys(THREE, SeatKind.POOL),
            policy=Policy(),
        )
        await self._append(EscrowCreated(at=_now(), terms=terms, created_by=UserId(PEOPLE[0])))

    async def append(self) -> None:
        """Adds one event, stamped with this moment."""
        await self._append(PayoutAddressSet(at=_now(), role=Role.BUYER, tag="t" * 32, address=Sealed("s" * 200)))

    async def _append(self, event: AnyEvent) -> None:
        encoded = encode(event)
        new = NewEvent(
            type=encoded.type,
            schema_version=encoded.schema_version,
            occurred_at=event.at,
            meta=b'{"by":"bench"}',
            body=encoded.body,
        )
        item = Append(stream_id=ESCROW, expected_version=self._version, events=(new,), command_id=secrets.token_hex(32))
        outcome = await self._store.log.append(item)
        assert isinstance(outcome, Appended), outcome
        self._version = outcome.version
        self.last = event_message(outcome.events[0], place=(outcome.position,) * PARTITIONS).text


def _now() -> Micros:
    return Micros(time.time_ns() // 1000)


# -- what is measured ----------------------------------------------------------------------------------------


async def measure() -> tuple[list[float], list[float], list[float]]:
    """Returns messages/s of the bare loop and of the stream, round by round, and the seconds of each delivery."""
    issuer, bare = Ed25519PrivateKey.generate(), Bare()
    tokens = [issue_token(issuer, sub=UserId(user), ttl_s=3_600) for user in PEOPLE]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(bench_server())
        store = await open_store(dsn=server.dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id="bench")
        stack.push_async_callback(store.aclose)
        port = await stack.enter_async_context(stream_server(store, issuer))
        writer = Writer(store)
        await writer.create()
        await writer.append()
        far = await stack.enter_async_context(far_side(port, "/api/stream", tokens))
        bare_port = await stack.enter_async_context(bare_server(bare))
        bare_far = await stack.enter_async_context(far_side(bare_port, "/", tokens))
        await asyncio.sleep(1)
        return await _rounds(bare, bare_far, writer, far)


async def _rounds(bare: Bare, bare_far: Far, writer: Writer, far: Far) -> tuple[list[float], list[float], list[float]]:
    alone, ours = [], []
    for _ in range(ROUNDS):
        await bare_far.begin(MESSAGES)
        begun = time.time()
        await bare.send(writer.last, messages=MESSAGES)
        alone.append(SOCKETS * MESSAGES / ((await bare_far.heard()).at - begun))
        await far.begin(MESSAGES)
        begun = time.time()
        for _ in range(MESSAGES):
            await writer.append()
        ours.append(SOCKETS * MESSAGES / ((await far.heard()).at - begun))
    await far.begin(WALK_EVENTS)
    for _ in range(WALK_EVENTS):
        await asyncio.gather(writer.append(), asyncio.sleep(WALK_S))
    return alone, ours, sorted((await far.heard()).took_s)


if __name__ == "__main__":
    raise_file_limit()
    configure_logs(level=logging.ERROR)
    with contextlib.suppress(KeyboardInterrupt):
        alone_s, ours_s, took_s = asyncio.run(measure())
        ratio = spread([ours / alone for ours, alone in zip(ours_s, alone_s, strict=True)]).median
        p50, p99 = (took_s[len(took_s) * part // 100] for part in (50, 99))
        finish(
            "stream",
            figures={
                "sockets": SOCKETS,
                "rounds": ROUNDS,
                "bare_messages_s": spread(alone_s),
                "stream_messages_s": spread(ours_s),
                "delivery_p50_s": round(p50, 4),
                "delivery_p99_s": round(p99, 4),
                "delivery_max_s": round(took_s[-1], 4),
            },
            ratios={"stream_over_bare": ratio},
            reached={
                "stream_over_bare": at_least(ratio, THROUGHPUT_BOUND),
                "delivery_p99_s": at_most(p99, P99_BOUND_S),
            },
        )
