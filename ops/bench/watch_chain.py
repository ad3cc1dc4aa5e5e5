"""A chain of strangers' transactions that answers as monerod does, and the escrows that are watched beside it."""

import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from aiohttp import web
from nacl import bindings as sodium

from actors.ports import WatchTarget
from actors.scan.saved import Saved, SavedTarget
from actors.scan.trail import TRAIL_BLOCKS
from actors.scan.watched import Sighting, mark_of
from domain.ids import EscrowId, OneTimeKey, TxHash
from domain.money import Atomic
from schemas.address import AddressKind, ParsedAddress, encode_address

BEGUN_AT: Final = 1_000_000
"""The chain's height when it is first looked at."""
DEPOSITED: Final = 1_000
"""Blocks below that hold the deposits."""


class BusyChain:
    """Strangers send transactions of two outputs, miners mine them; nothing of it belongs to anybody watched."""

    def __init__(self) -> None:
        self._blocks: list[list[TxHash]] = []
        self._bodies: dict[TxHash, str] = {}
        self._mined: dict[TxHash, int] = {}
        self._pool: list[TxHash] = []

    @property
    def height(self) -> int:
        """The number of blocks."""
        return BEGUN_AT + len(self._blocks)

    def send(self, transactions: int) -> None:
        """Puts fresh transactions into the pool."""
        for _ in range(transactions):
            tx_hash = TxHash(secrets.token_hex(32))
            self._bodies[tx_hash] = msgspec.json.encode(strangers_transaction()).decode()
            self._pool.append(tx_hash)

    def mine(self) -> None:
        """Puts the pool into one block."""
        miner = TxHash(secrets.token_hex(32))
        self._bodies[miner] = msgspec.json.encode(_reward(self.height)).decode()
        found = [miner, *self._pool]
        self._mined.update(dict.fromkeys(found, self.height))
        self._pool = []
        self._blocks.append(found)

    async def answer(self, request: web.Request) -> web.Response:
        """Answers the calls that a scanner makes."""
        asked = msgspec.json.decode(await request.read())
        match request.path:
            case "/json_rpc":
                answer = self._info() if asked["method"] == "get_info" else self._block(asked["params"]["height"])
                return web.json_response({"result": {"status": "OK", **answer}})
            case "/get_transactions":
                return web.json_response({"status": "OK", "txs": [self._entry(each) for each in asked["txs_hashes"]]})
            case _:
                return web.json_response({"status": "OK", "tx_hashes": self._pool})

    def _info(self) -> dict[str, Any]:
        top = block_hash(self.height - 1)
        return {"height": self.height, "top_block_hash": top, "synchronized": True, "nettype": "fakechain"}

    def _block(self, height: int) -> dict[str, Any]:
        header = {"height": height, "hash": block_hash(height), "prev_hash": block_hash(height - 1), "timestamp": 0}
        miner, *others = self._blocks[height - BEGUN_AT] if height >= BEGUN_AT else [TxHash("")]
        return {"block_header": header, "miner_tx_hash": miner, "tx_hashes": others}

    def _entry(self, tx_hash: TxHash) -> dict[str, Any]:
        height = self._mined.get(tx_hash)
        entry = {"tx_hash": tx_hash, "as_json": self._bodies[tx_hash], "in_pool": height is None}
        return entry if height is None else entry | {"block_height": height}


@asynccontextmanager
async def served(chain: BusyChain) -> AsyncIterator[str]:
    """Serves the chain on loopback and yields where."""
    app = web.Application()
    app.router.add_post("/{path:.*}", chain.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def strangers_transaction(*, outputs: int = 2, additional: int = 0) -> dict[str, Any]:
    """Makes the body of a transaction with random keys, tags and amounts, as every one is to whom it does not pay."""
    extra = [1, *_point()]
    if additional:
        extra += [4, additional, *(byte for _ in range(additional) for byte in _point())]
    targets = [{"key": _point().hex(), "view_tag": secrets.token_hex(1)} for _ in range(outputs)]
    return {
        "version": 2,
        "unlock_time": 0,
        "vin": [{"key": {"amount": 0, "key_offsets": [1] * 16, "k_image": secrets.token_hex(32)}}],
        "vout": [{"amount": 0, "target": {"tagged_key": target}} for target in targets],
        "extra": extra,
        "rct_signatures": {
            "type": 6,
            "txnFee": 30_000_000,
            "ecdhInfo": [{"amount": secrets.token_hex(8)} for _ in targets],
            "outPk": [_point().hex() for _ in targets],
        },
    }


def watched_escrows(number: int) -> list[WatchTarget]:
    """Makes escrows with addresses and view keys of their own."""
    return [_target(EscrowId(f"esc_{secrets.token_hex(16)}")) for _ in range(number)]


def with_deposits(targets: Sequence[WatchTarget]) -> Saved:
    """Returns what a scanner has saved that saw one deposit of each."""
    saved = [
        SavedTarget(mark_of(target), target.since_height, BEGUN_AT, (_deposit(target.since_height + at % DEPOSITED),))
        for at, target in enumerate(targets)
    ]
    blocks = ((height, block_hash(height)) for height in range(BEGUN_AT - TRAIL_BLOCKS, BEGUN_AT))
    return Saved(blocks=tuple(blocks), targets=tuple(saved))


def block_hash(height: int) -> str:
    """Returns the hash of the block at a height."""
    return hashlib.sha256(b"%d" % height).hexdigest()


def _deposit(height: int) -> Sighting:
    return Sighting(
        one_time_key=OneTimeKey(secrets.token_hex(32)),
        tx_hash=TxHash(secrets.token_hex(32)),
        amount=Atomic(1_000_000_000_000),
        unlock_time=0,
        height=height,
    )


def _target(escrow_id: EscrowId) -> WatchTarget:
    view_key, spend_key = _scalar(), _point().hex()
    public = sodium.crypto_scalarmult_ed25519_base_noclamp(view_key).hex()
    parsed = ParsedAddress(kind=AddressKind.STANDARD, network="regtest", spend_key=spend_key, view_key=public)
    address = encode_address(parsed)
    since = BEGUN_AT - DEPOSITED
    return WatchTarget(escrow_id=escrow_id, address=address, view_key=view_key.hex(), since_height=since)


def _reward(height: int) -> dict[str, Any]:
    target = {"key": _point().hex(), "view_tag": secrets.token_hex(1)}
    return {
        "version": 2,
        "unlock_time": height + 60,
        "vin": [{"gen": {"height": height}}],
        "vout": [{"amount": 600_000_000_000, "target": {"tagged_key": target}}],
        "extra": [1, *_point()],
        "rct_signatures": {"type": 0},
    }


def _scalar() -> bytes:
    return sodium.crypto_core_ed25519_scalar_reduce(secrets.token_bytes(64))


def _point() -> bytes:
    return sodium.crypto_scalarmult_ed25519_base_noclamp(_scalar())
