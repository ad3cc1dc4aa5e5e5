"""The part of an IPFS node's RPC that evidence needs, over a dict, with every fault that a node may have."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer

from actors.ipfs import IpfsEvidence, IpfsLimits
from eventstore.cid import cid_of

PATIENT = IpfsLimits(connect_s=60.0, call_s=60.0, silent_s=60.0, file_bytes_max=4 << 20)
"""A machine that stands still fails no test."""
EXPECTED = {
    "chunker": "size-262144",
    "raw-leaves": "true",
    "cid-version": "1",
    "cid-base": "base32",
    "pin": "false",
}


class PlayedNode:
    """Says what a node says; `fault` has it do what no node should."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.pinned: set[str] = set()
        self.calls: list[str] = []
        self.fault = ""
        self.app = web.Application(client_max_size=64 << 20)
        self.app.router.add_post("/api/v0/add", self._add)
        self.app.router.add_post("/api/v0/pin/add", self._pin)
        self.app.router.add_post("/api/v0/cat", self._cat)

    async def _add(self, request: web.Request) -> web.StreamResponse:
        await self._suffer("add")
        assert {name: request.query.get(name) for name in EXPECTED} == EXPECTED
        file = (await request.post())["file"]
        assert isinstance(file, web.FileField)
        content = file.file.read()
        name = cid_of(content + b"!" if self.fault == "other_name" else content)
        self.kept[name] = content
        if self.fault == "garbage":
            return web.Response(body=b"\xff<html>")
        if self.fault == "nothing":
            return web.Response()
        return web.Response(text=json.dumps({"Name": "evidence", "Hash": name, "Size": str(len(content))}) + "\n")

    async def _pin(self, request: web.Request) -> web.StreamResponse:
        await self._suffer("pin/add")
        self.pinned.add(request.query["arg"])
        return web.json_response({"Pins": [request.query["arg"]]})

    async def _cat(self, request: web.Request) -> web.StreamResponse:
        await self._suffer("cat")
        if request.query["arg"] not in self.kept:
            return web.json_response({"Message": "block was not found locally (offline)"}, status=500)
        content = self.kept[request.query["arg"]]
        if self.fault == "other_bytes":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if self.fault == "cut":
            content = content[:-1]
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(content)
        while self.fault == "endless":
            await answer.write(bytes(1 << 16))
        if self.fault == "stalls":
            await asyncio.sleep(600)
        await answer.write_eof()
        return answer

    async def _suffer(self, call: str) -> None:
        self.calls.append(call)
        if self.fault == "slow":
            await asyncio.sleep(600)
        if self.fault == "failing":
            raise web.HTTPInternalServerError(text="disk full")
        if self.fault == "elsewhere":
            raise web.HTTPFound("/api/v0/version")


@asynccontextmanager
async def played_node() -> AsyncIterator[tuple[PlayedNode, str]]:
    """Runs one, and names its address."""
    node = PlayedNode()
    server = TestServer(node.app, shutdown_timeout=0)
    await server.start_server()
    try:
        yield node, str(server.make_url("/"))
    finally:
        await server.close()


@asynccontextmanager
async def connected(url: str, limits: IpfsLimits = PATIENT) -> AsyncIterator[IpfsEvidence]:
    """Speaks to a node for as long as the block lasts."""
    store = IpfsEvidence(url, limits=limits)
    try:
        yield store
    finally:
        await store.aclose()
