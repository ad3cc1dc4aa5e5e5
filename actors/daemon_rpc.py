"""The real daemon: `monerod` over JSON-RPC and its plain paths; every call works on a restricted port as well."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from actors.jsonrpc import ErrorAnswer, JsonRpc, NoAnswer
from actors.ports import BlockFacts, ChainTx, DaemonDown, DaemonInfo, KeyImageStatus
from domain.ids import KeyImage, TxHash
from domain.money import Atomic

DAEMON_LIMIT_S = 30.0
TXS_PER_CALL = 100
"""A restricted monerod refuses more in one call."""
IMAGES_PER_CALL = 5000

_STATUS = (KeyImageStatus.UNSPENT, KeyImageStatus.IN_CHAIN, KeyImageStatus.IN_POOL)


class HttpDaemon:
    """One `monerod`, reached over one connection; implements `DaemonRpc`."""

    def __init__(self, url: str, *, limit_s: float = DAEMON_LIMIT_S) -> None:
        self._rpc = JsonRpc(url)
        self._limit_s = limit_s

    async def info(self) -> DaemonInfo:
        answer = await self._call("get_info", {}, _Info)
        return DaemonInfo(
            height=answer.height,
            top_hash=answer.top_block_hash,
            synchronized=answer.synchronized,
            nettype=answer.nettype,
        )

    async def block(self, height: int) -> BlockFacts:
        answer = await self._call("get_block", {"height": height}, _Block)
        header = answer.block_header
        return BlockFacts(
            height=header.height,
            hash=header.hash,
            prev_hash=header.prev_hash,
            timestamp=header.timestamp,
            tx_hashes=(answer.miner_tx_hash, *answer.tx_hashes),
        )

    async def transactions(self, tx_hashes: Sequence[TxHash]) -> tuple[ChainTx, ...]:
        found: list[ChainTx] = []
        for some in _chunks(tx_hashes, TXS_PER_CALL):
            body = {"txs_hashes": some, "decode_as_json": True, "prune": True}
            answer = await self._post("/get_transactions", body, _Transactions)
            found += [_chain_tx(entry) for entry in answer.txs]
        return tuple(found)

    async def pool_hashes(self) -> tuple[TxHash, ...]:
        # An empty pool leaves the list out.
        return tuple((await self._post("/get_transaction_pool_hashes", {}, _Pool)).tx_hashes)

    async def key_images(self, images: Sequence[KeyImage]) -> tuple[KeyImageStatus, ...]:
        found: list[KeyImageStatus] = []
        for some in _chunks(images, IMAGES_PER_CALL):
            answer = await self._post("/is_key_image_spent", {"key_images": some}, _Spent)
            found += [_status(number) for number in answer.spent_status]
        if len(found) != len(images):
            raise DaemonDown("is_key_image_spent: wrong number of answers")
        return tuple(found)

    async def fee_per_byte(self) -> Atomic:
        return (await self._call("get_fee_estimate", {}, _FeeEstimate)).fee

    async def aclose(self) -> None:
        await self._rpc.aclose()

    async def _call(self, method: str, params: Mapping[str, Any], answer: type["_A"]) -> "_A":
        try:
            return _trusted(method, await self._rpc.call(method, params, answer=answer, limit_s=self._limit_s))
        except (ErrorAnswer, NoAnswer) as failure:
            raise DaemonDown(f"{method}: {failure}") from None

    async def _post(self, path: str, body: Mapping[str, Any], answer: type["_A"]) -> "_A":
        try:
            return _trusted(path, await self._rpc.post(path, body, answer=answer, limit_s=self._limit_s))
        except NoAnswer as failure:
            raise DaemonDown(f"{path}: {failure}") from None


class _Answer(msgspec.Struct, kw_only=True):
    status: str
    untrusted: bool = False


_A = TypeVar("_A", bound=_Answer)


class _Info(_Answer):
    height: int
    top_block_hash: str
    synchronized: bool
    nettype: str


class _FeeEstimate(_Answer):
    fee: Atomic


class _Header(msgspec.Struct):
    height: int
    hash: str
    prev_hash: str
    timestamp: int


class _Block(_Answer):
    block_header: _Header
    miner_tx_hash: TxHash
    tx_hashes: list[TxHash] = []


class _Tx(msgspec.Struct):
    tx_hash: TxHash
    as_json: str
    in_pool: bool
    relayed: bool = True
    block_height: int | None = None


class _Transactions(_Answer):
    txs: list[_Tx] = []


class _Pool(_Answer):
    tx_hashes: list[TxHash] = []


class _Spent(_Answer):
    spent_status: list[int] = []


def _trusted(what: str, answer: _A) -> _A:
    if answer.untrusted or answer.status != "OK":
        raise DaemonDown(f"{what}: {'untrusted' if answer.untrusted else 'status not OK'}")
    return answer


def _chain_tx(entry: _Tx) -> ChainTx:
    try:
        body = msgspec.json.decode(entry.as_json, type=dict[str, Any])
    except msgspec.MsgspecError:
        raise DaemonDown("/get_transactions: unreadable transaction") from None
    height = None if entry.in_pool else entry.block_height
    return ChainTx(tx_hash=entry.tx_hash, body=body, height=height, relayed=not entry.in_pool or entry.relayed)


def _status(number: int) -> KeyImageStatus:
    if not 0 <= number < len(_STATUS):
        raise DaemonDown("is_key_image_spent: unknown status")
    return _STATUS[number]


def _chunks(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
