"""The far side of `make bench-stream`, a process of its own: many sockets that count what comes.

Frames are counted as they lie in the bytes, without a WebSocket library: the client must never be what is measured.
Started with a port, a path, a number of sockets, and one token a line on standard input; then answers each line `N`
with the moment at which every socket has had N more messages, and the seconds each message took to come.
"""

import asyncio
import base64
import resource
import secrets
import sys
import time
from datetime import datetime
from typing import cast

import msgspec
import orjson

LONG = 126
TEXT = 0x81
_SENT_AT = b'"occurred_at":"'
_STAMP = len("2026-01-01T00:00:00.000000Z")
AT_ONCE = 50


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What one round came to: by the wall clock of the machine that both processes run on."""

    at: float
    took_s: tuple[float, ...]
    """From a message's `occurred_at` to its arrival; empty where messages carry none."""


class Far(asyncio.Protocol):
    """One socket: says hello, then counts frames."""

    def __init__(self, crowd: "Crowd", hello: bytes) -> None:
        self._crowd, self._hello = crowd, hello
        self._rest = b""
        self._upgraded = False
        self.seen = 0
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says hello."""
        cast(asyncio.Transport, transport).write(self._hello)

    def data_received(self, data: bytes) -> None:
        """Counts the text frames that are whole."""
        data = self._rest + data if self._rest else data
        if not self._upgraded:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.open.set_exception(ConnectionRefusedError(head[:40].decode()))
                return
            self._upgraded = True
            self.open.set_result(None)
        self._rest = self._frames(data)

    def _frames(self, data: bytes) -> bytes:
        place, size = 0, len(data)
        while place + 4 <= size:
            length, start = data[place + 1], place + 2
            if length == LONG:
                length, start = int.from_bytes(data[place + 2 : place + 4]), place + 4
            if start + length > size:
                break
            if data[place] == TEXT and b'"heartbeat"' not in data[start : start + 24]:
                self.seen += 1
                self._crowd.counted(data, start)
            place = start + length
        return data[place:]


class Crowd:
    """All sockets of the process."""

    def __init__(self) -> None:
        self._awaited = 0
        self._took: list[float] = []
        self._all = asyncio.Event()

    async def open(self, port: int, path: str, tokens: list[str], *, sockets: int) -> None:
        """Opens so many sockets, some at a time."""
        loop, room = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)

        async def one(token: str) -> None:
            async with room:
                _, far = await loop.create_connection(lambda: Far(self, _hello(path, token)), "127.0.0.1", port)
                await far.open

        await asyncio.gather(*(one(tokens[n % len(tokens)]) for n in range(sockets)))

    def expect(self, messages: int) -> None:
        """Begins a round of so many messages, over all sockets."""
        self._awaited, self._took = messages, []
        self._all.clear()

    def counted(self, data: bytes, start: int) -> None:
        """Takes one message."""
        found = data.find(_SENT_AT, start)
        if found >= 0:
            stamp = data[found + len(_SENT_AT) : found + len(_SENT_AT) + _STAMP].decode()
            self._took.append(time.time() - datetime.fromisoformat(stamp).timestamp())
        self._awaited -= 1
        if not self._awaited:
            self._all.set()

    async def heard(self) -> Heard:
        """Waits until everything came."""
        await self._all.wait()
        return Heard(at=time.time(), took_s=tuple(self._took))


def _hello(path: str, token: str) -> bytes:
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    lines = (
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        f"Authorization: Bearer {token}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def raise_file_limit() -> None:
    """Lets this process have as many sockets as it may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def main(port: int, path: str, sockets: int) -> None:
    """Opens the sockets and answers one line after another."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tokens = orjson.loads(await reader.readline())
    crowd = Crowd()
    await crowd.open(port, path, tokens, sockets=sockets)
    print("ready", flush=True)
    while line := await reader.readline():
        crowd.expect(int(line) * sockets)
        print("go", flush=True)
        print(msgspec.json.encode(await crowd.heard()).decode(), flush=True)


if __name__ == "__main__":
    raise_file_limit()
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
