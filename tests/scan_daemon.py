"""A chain in memory that answers over HTTP as monerod does, for scanners that run in another process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

from actors.ports import ChainTx, DaemonDown, KeyImageStatus
from tests.scan_world import MemoryChain
from tests.serving import stop_serving

SPENT = [KeyImageStatus.UNSPENT, KeyImageStatus.IN_CHAIN, KeyImageStatus.IN_POOL]


class Door:
    """Where a chain answers; another chain can be put behind it, and what it says can be changed on the way out."""

    def __init__(self, chain: MemoryChain) -> None:
        self.chain = chain
        self.url = ""
        self.shut = False
        self.delay_s = 0.0
        self.alter: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda _, answer: answer

    async def answer(self, request: web.Request) -> web.Response:
        await asyncio.sleep(self.delay_s)
        body = msgspec.json.decode(await request.read())
        if self.shut:
            return web.Response(status=503)
        try:
            return web.json_response(await self._answer(request.path, body))
        except (DaemonDown, IndexError):
            return web.json_response({"error": {"code": -2, "message": "as arranged"}})

    async def _answer(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        match path:
            case "/json_rpc":
                method, params = body["method"], body["params"]
                answer = await (self._info() if method == "get_info" else self._block(params["height"]))
                return {"result": self._altered(method, answer)}
            case "/get_transactions":
                entries = [_entry(each) for each in await self.chain.transactions(body["txs_hashes"])]
                return self._altered(path, {"txs": entries})
            case "/get_transaction_pool_hashes":
                return self._altered(path, {"tx_hashes": list(await self.chain.pool_hashes())})
            case _:
                statuses = await self.chain.key_images(body["key_images"])
                return self._altered(path, {"spent_status": [SPENT.index(each) for each in statuses]})

    async def _info(self) -> dict[str, Any]:
        info = await self.chain.info()
        return {
            "height": info.height,
            "top_block_hash": info.top_hash,
            "synchronized": info.synchronized,
            "nettype": info.nettype,
        }

    async def _block(self, height: int) -> dict[str, Any]:
        block = await self.chain.block(height)
        header = {"height": height, "hash": block.hash, "prev_hash": block.prev_hash, "timestamp": block.timestamp}
        coinbase, *others = block.tx_hashes
        return {"block_header": header, "miner_tx_hash": coinbase, "tx_hashes": others}

    def _altered(self, what: str, answer: dict[str, Any]) -> dict[str, Any]:
        return self.alter(what, {"status": "OK", **answer})


@asynccontextmanager
async def answering(chain: MemoryChain) -> AsyncIterator[Door]:
    """Serves a chain on loopback for the block."""
    door = Door(chain)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/{path:.*}", door.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    door.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield door
    finally:
        await stop_serving(runner)


def _entry(tx: ChainTx) -> dict[str, Any]:
    entry = {
        "tx_hash": tx.tx_hash,
        "as_json": msgspec.json.encode(tx.body).decode(),
        "in_pool": tx.height is None,
        "relayed": tx.relayed,
    }
    return entry if tx.height is None else entry | {"block_height": tx.height}
