"""A simulated chain and simulated wallets over loopback HTTP: they outlive a service process that is killed.

Spoken as monerod and monero-wallet-rpc speak, as far as our own clients ask; beside that a few paths of the outside
world: the folder of a slot, the restart of its process, the watch, payments and mining.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from aiohttp import web

from actors.ports import (
    DaemonDown,
    DaemonRpc,
    Destination,
    KeyImageStatus,
    WalletOutput,
    WalletRefused,
    WalletUnknown,
    WatchTarget,
)
from actors.simulation import SimChain, SimDaemon, SimFiles, SimFolder, SimWallet, SimWatch
from actors.simulation.chain import SimTx
from domain.ids import Address
from domain.money import Atomic
from domain.roles import THREE
from tests.serving import stop_serving

Params: TypeAlias = Mapping[str, Any]
Call: TypeAlias = Callable[[SimWallet, Params], Awaitable[object]]


class WireWorld:
    """One chain, one wallet process a role, and the server that shows them; `url` is known once it is started."""

    def __init__(self, *, seed: int = 0, call_s: float = 0.0) -> None:
        self.call_s = call_s
        """How long each wallet call takes: who is stopped is then often in the middle of one."""
        self.chain = SimChain(seed=seed)
        self.daemon: DaemonRpc = SimDaemon(self.chain)
        self.folders = {role.value: SimFolder() for role in THREE}
        self.wallets = {
            role.value: SimWallet(chain=self.chain, folder=self.folders[role.value], sleep=_no_wait) for role in THREE
        }
        self.turns = dict.fromkeys((role.value for role in THREE), (0, 0))
        """Each process's fence, and which of its lives this is."""
        self.refused = 0
        """Calls of clients whose process was ended."""
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Serves on a free port of the loopback address."""
        app = web.Application(client_max_size=2**24)
        app.add_routes(
            [
                web.post("/slot/{role}/{turn}/json_rpc", self._wallet),
                web.post("/slot/{role}/reach", self._reach),
                web.post("/slot/{role}/files/{method}", self._files),
                web.post("/json_rpc", self._daemon_call),
                web.post("/get_transactions", self._transactions),
                web.post("/get_transaction_pool_hashes", self._pool),
                web.post("/is_key_image_spent", self._key_images),
                web.post("/watch", self._watch),
                web.post("/pay_once", self._pay_once),
                web.post("/mine", self._mine),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Ends the server."""
        if self._runner is not None:
            await stop_serving(self._runner)

    def payouts(self) -> Sequence[SimTx]:
        """Every transaction in chain or pool that spends something: only an escrow's wallets do."""
        mined = [tx for block in self.chain.blocks_from(0) for tx in block.txs]
        return [tx for tx in (*mined, *self.chain.pool.values()) if tx.inputs]

    def paid_to(self, address: Address) -> int:
        """What the chain holds at an address."""
        return sum(each.output.amount for each in self.chain.paid_to(address))

    async def _wallet(self, request: web.Request) -> web.Response:
        asked = await request.json()
        role = request.match_info["role"]
        if self.turns[role][1] != int(request.match_info["turn"]):
            self.refused += 1
            return web.Response(status=401)  # as a process started anew with another login answers
        wallet = self.wallets[role]
        await asyncio.sleep(self.call_s)
        try:
            result = await WALLET_CALLS[asked["method"]](wallet, asked["params"])
        except WalletRefused as refused:
            return _json({"id": "0", "error": {"code": refused.code, "message": refused.message}})
        except WalletUnknown:
            return web.Response(status=500)
        return _json({"id": "0", "result": result})

    async def _reach(self, request: web.Request) -> web.Response:
        """Names the process's present turn; unless it is clean it is ended and started anew, under a new one."""
        role, wish = request.match_info["role"], await request.json()
        fence, turn = self.turns[role]
        if wish["fence"] < fence:
            return web.Response(status=409)
        if not wish["clean"]:
            fence, turn = wish["fence"], turn + 1
            self.wallets[role].terminate()
            self.wallets[role].restart()
        self.turns[role] = (fence, turn)
        return _json({"turn": turn})

    async def _files(self, request: web.Request) -> web.Response:
        files = SimFiles(self.folders[request.match_info["role"]])
        return _json({"answer": getattr(files, request.match_info["method"])(**await request.json())})

    async def _daemon_call(self, request: web.Request) -> web.Response:
        asked = await request.json()
        try:
            result = await self._said(asked["method"], asked["params"])
        except DaemonDown:
            return web.Response(status=503)
        return _json({"id": "0", "result": {"status": "OK", **result}})

    async def _said(self, method: str, params: Params) -> dict[str, Any]:
        match method:
            case "get_info":
                return await self._info()
            case "get_fee_estimate":
                return {"fee": await self.daemon.fee_per_byte()}
            case _:
                return await self._block(params["height"])

    async def _info(self) -> dict[str, Any]:
        info = await self.daemon.info()
        return msgspec.to_builtins(info) | {"top_block_hash": info.top_hash}

    async def _block(self, height: int) -> dict[str, Any]:
        block = await self.daemon.block(height)
        miner, *others = block.tx_hashes
        return {"block_header": msgspec.to_builtins(block), "miner_tx_hash": miner, "tx_hashes": others}

    async def _transactions(self, request: web.Request) -> web.Response:
        found = await self.daemon.transactions((await request.json())["txs_hashes"])
        txs = [
            {
                "tx_hash": each.tx_hash,
                "as_json": msgspec.json.encode(each.body).decode(),
                "in_pool": each.height is None,
                "block_height": each.height,
            }
            for each in found
        ]
        return _json({"status": "OK", "txs": txs})

    async def _pool(self, request: web.Request) -> web.Response:
        return _json({"status": "OK", "tx_hashes": await self.daemon.pool_hashes()})

    async def _key_images(self, request: web.Request) -> web.Response:
        numbers = list(KeyImageStatus)
        found = await self.daemon.key_images((await request.json())["key_images"])
        return _json({"status": "OK", "spent_status": [numbers.index(each) for each in found]})

    async def _watch(self, request: web.Request) -> web.Response:
        asked = await request.json()
        targets = msgspec.convert(asked["targets"], type=list[WatchTarget])
        return _json(await SimWatch(self.chain).look(targets))

    async def _pay_once(self, request: web.Request) -> web.Response:
        """Pays an address that nobody has paid yet: whoever pays does not remember it after a kill."""
        asked = await request.json()
        waiting = [output.address for tx in self.chain.pool.values() for output in tx.outputs]
        if not self.paid_to(asked["address"]) and asked["address"] not in waiting:
            self.chain.pay(asked["address"], asked["amount"])
        return _json({})

    async def _mine(self, request: web.Request) -> web.Response:
        return _json({"height": self.chain.mine((await request.json())["blocks"])})


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


async def _no_wait(seconds: float) -> None:
    return None


# -- what a wallet is asked, by the wallet's own names -----------------------------------------------------------


async def _nothing(work: Awaitable[object]) -> dict[str, Any]:
    await work
    return {}


async def _exchange(wallet: SimWallet, params: Params) -> object:
    result = await wallet.exchange_multisig_keys(params["multisig_info"], password=params["password"])
    return {"multisig_info": result.info, "address": result.address or ""}


async def _make(wallet: SimWallet, params: Params) -> object:
    made = await wallet.make_multisig(params["multisig_info"], password=params["password"])
    return {"multisig_info": made, "address": ""}


async def _prepare(wallet: SimWallet, params: Params) -> object:
    assert params["enable_multisig_experimental"]
    return {"multisig_info": await wallet.prepare_multisig()}


async def _close(wallet: SimWallet, params: Params) -> object:
    assert params["autosave_current"]
    return await _nothing(wallet.close_wallet())


async def _incoming(wallet: SimWallet, params: Params) -> object:
    return {"transfers": [_transfer(each) for each in await wallet.incoming_transfers()]}


def _transfer(each: WalletOutput) -> dict[str, Any]:
    facts = msgspec.to_builtins(each)
    return facts | {"pubkey": each.one_time_key, "block_height": each.height, "key_image": each.key_image or ""}


async def _spend(wallet: SimWallet, params: Params) -> object:
    destinations = [_destination(to) for to in params["destinations"]]
    made = await wallet.transfer(destinations)
    return {
        "amount": made.amount,
        "fee": made.fee,
        "multisig_txset": made.tx_set,
        "spent_key_images": {"key_images": made.key_images},
    }


def _destination(to: Params) -> Destination:
    return Destination(address=Address(to["address"]), amount=Atomic(to["amount"]))


async def _sign(wallet: SimWallet, params: Params) -> object:
    signed = await wallet.sign_multisig(params["tx_data_hex"])
    return {"tx_data_hex": signed.tx_hex, "tx_hash_list": signed.tx_hashes}


async def _named(name: str, work: Awaitable[object]) -> dict[str, Any]:
    return {name: await work}


WALLET_CALLS: Mapping[str, Call] = {
    "get_version": lambda wallet, _: _named("version", wallet.get_version()),
    "auto_refresh": lambda wallet, params: _nothing(wallet.auto_refresh(enable=params["enable"])),
    "create_wallet": lambda wallet, p: _nothing(wallet.create_wallet(p["filename"], password=p["password"])),
    "open_wallet": lambda wallet, p: _nothing(wallet.open_wallet(p["filename"], password=p["password"])),
    "close_wallet": _close,
    "store": lambda wallet, _: _nothing(wallet.store()),
    "prepare_multisig": _prepare,
    "make_multisig": _make,
    "exchange_multisig_keys": _exchange,
    "is_multisig": lambda wallet, _: wallet.is_multisig(),
    "get_address": lambda wallet, _: _named("address", wallet.get_address()),
    "query_key": lambda wallet, _: _named("key", wallet.view_key()),
    "refresh": lambda wallet, _: _named("blocks_fetched", wallet.refresh()),
    "get_height": lambda wallet, _: _named("height", wallet.get_height()),
    "incoming_transfers": _incoming,
    "export_multisig_info": lambda wallet, _: _named("info", wallet.export_multisig_info()),
    "import_multisig_info": lambda wallet, p: _named("n_outputs", wallet.import_multisig_info(p["info"])),
    "freeze": lambda wallet, p: _nothing(wallet.freeze(p["key_image"])),
    "thaw": lambda wallet, p: _nothing(wallet.thaw(p["key_image"])),
    "transfer": _spend,
    "describe_transfer": lambda wallet, p: _named("desc", wallet.describe_transfer(p["multisig_txset"])),
    "sign_multisig": _sign,
    "submit_multisig": lambda wallet, p: _named("tx_hash_list", wallet.submit_multisig(p["tx_data_hex"])),
}
