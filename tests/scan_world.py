"""Throw-away receivers, transactions made to pay them, and a small chain in memory that can be reorganised."""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from nacl import bindings as sodium

from actors.clock import VirtualClock
from actors.ports import BlockFacts, ChainTx, DaemonInfo, KeyImageStatus, WatchTarget
from actors.scan import points
from actors.scan.follower import ScannerWatch
from actors.scan.saved import Saved
from actors.scan.transactions import WatchKey
from actors.simulation.fees import FEE_PER_WEIGHT
from domain.chain import ChainView
from domain.ids import Address, EscrowId, KeyImage, OneTimeKey, TxHash
from domain.money import Atomic
from schemas.address import AddressKind, ParsedAddress, encode_address
from tests.given import NETWORK_FEE


class Receiver(msgspec.Struct, frozen=True):
    """Someone with a view key; of the spend key only its public half matters here."""

    name: str

    @property
    def view_key(self) -> bytes:
        return scalar_of(f"view {self.name}")

    @property
    def public_view_key(self) -> bytes:
        return times_base(self.view_key)

    @property
    def public_spend_key(self) -> bytes:
        return times_base(scalar_of(f"spend {self.name}"))

    @property
    def watch_key(self) -> WatchKey:
        return WatchKey(self.view_key, self.public_spend_key)

    @property
    def address(self) -> Address:
        return self.address_of(AddressKind.STANDARD)

    def address_of(self, kind: AddressKind) -> Address:
        keys = {"spend_key": self.public_spend_key.hex(), "view_key": self.public_view_key.hex()}
        return encode_address(ParsedAddress(kind=kind, network="regtest", **keys))

    def target(self, *, since: int = 0, images: dict[OneTimeKey, KeyImage] | None = None) -> WatchTarget:
        return WatchTarget(
            escrow_id=EscrowId(self.name),
            address=self.address,
            view_key=self.view_key.hex(),
            since_height=since,
            key_images=images or {},
        )


def payment(
    receiver: Receiver, *amounts: int, nonce: str, unlock_time: int = 0, spending: Sequence[str] = ()
) -> dict[str, Any]:
    """Makes the body of a transaction as its sender does, from r*A instead of a*R; equal nonces give equal keys."""
    r = scalar_of(f"transaction {nonce}")
    shared = points.clear_cofactor(sodium.crypto_scalarmult_ed25519_noclamp(r, receiver.public_view_key))
    assert shared is not None
    outputs = [_pay(receiver, amount, shared=shared, index=index) for index, amount in enumerate(amounts)]
    return {
        "version": 2,
        "unlock_time": unlock_time,
        "vin": [
            {"key": {"amount": 0, "key_offsets": [1], "k_image": image}} for image in spending or [image_of(nonce)]
        ],
        "vout": [vout for vout, _, _ in outputs],
        "extra": [1, *times_base(r)],
        "rct_signatures": {
            "type": 6,
            "txnFee": NETWORK_FEE,
            "ecdhInfo": [{"amount": amount} for _, amount, _ in outputs],
            "outPk": [commitment for _, _, commitment in outputs],
        },
    }


def _pay(receiver: Receiver, amount: int, *, shared: bytes, index: int) -> tuple[dict[str, Any], str, str]:
    scalar = points.output_scalar(shared, index)
    key = points.one_time_key(scalar, receiver.public_spend_key)
    assert key is not None
    tag = points.view_tag(shared, index)
    vout = {"amount": 0, "target": {"tagged_key": {"key": key.hex(), "view_tag": f"{tag:02x}"}}}
    masked = points.unmask_amount(scalar, amount.to_bytes(8, "little")).to_bytes(8, "little")
    return vout, masked.hex(), commitment_to(scalar, amount).hex()


def commitment_to(scalar: bytes, amount: int) -> bytes:
    """Computes y*G + amount*H, as the sender does."""
    mask = times_base(sodium.crypto_core_ed25519_scalar_reduce(points.keccak(b"commitment_mask" + scalar) + bytes(32)))
    if amount == 0:
        return mask
    value = sodium.crypto_scalarmult_ed25519_noclamp(amount.to_bytes(32, "little"), points.VALUE_BASE)
    return sodium.crypto_core_ed25519_add(mask, value)


def keys_of(body: dict[str, Any]) -> list[OneTimeKey]:
    return [vout["target"]["tagged_key"]["key"] for vout in body["vout"]]


def image_of(name: str) -> KeyImage:
    return KeyImage(hashlib.sha256(f"image {name}".encode()).hexdigest())


def scalar_of(name: str) -> bytes:
    return sodium.crypto_core_ed25519_scalar_reduce(hashlib.sha512(name.encode()).digest())


def times_base(scalar: bytes) -> bytes:
    return sodium.crypto_scalarmult_ed25519_base_noclamp(scalar)


NOW_S = 1_800_000_000
"""The time at which every scanner of this world looks, in seconds since the Unix epoch."""


def watch(chain: "MemoryChain", *, saved: Saved | None = None) -> ScannerWatch:
    return ScannerWatch(chain, clock=VirtualClock(start=NOW_S * 1_000_000), network="regtest", saved=saved)


async def look(scanner: ScannerWatch, target: WatchTarget) -> ChainView:
    return (await scanner.look([target]))[target.escrow_id]


def places(view: ChainView) -> list[tuple[int, int | None, bool]]:
    """What each output is worth, where it is, and whether it may be spent."""
    return [(output.amount, output.height, output.unlocked) for output in view.outputs]


class MemoryChain:
    """A daemon in memory, implementing `DaemonRpc`: blocks are mined and popped by the test, calls are counted."""

    def __init__(self, *, blocks: int = 1) -> None:
        self.synchronized = True
        self.asked: list[str] = []
        self.unrelayed: set[TxHash] = set()
        self.pool: dict[TxHash, dict[str, Any]] = {}
        self._blocks: list[BlockFacts] = []
        self._bodies: dict[TxHash, dict[str, Any]] = {}
        self._mined: dict[TxHash, int] = {}
        self._branch = 0
        for _ in range(blocks):
            self.mine()

    @property
    def height(self) -> int:
        return len(self._blocks)

    def send(self, body: dict[str, Any]) -> TxHash:
        tx_hash = TxHash(hashlib.sha256(msgspec.json.encode(body, order="sorted")).hexdigest())
        self.pool[tx_hash] = self._bodies[tx_hash] = body
        return tx_hash

    def mine(self, blocks: int = 1) -> int:
        """Mines the whole pool into the first of some blocks, and returns that block's height."""
        first = self.height
        for _ in range(blocks):
            self._mine_one(TxHash(f"coinbase {self.height} of branch {self._branch}"))
        return first

    def _mine_one(self, coinbase: TxHash) -> None:
        height = self.height
        self._bodies[coinbase] = {
            "version": 2, "unlock_time": height + 60, "vin": [{"gen": {"height": height}}], "vout": [], "extra": [],
        }  # fmt: skip
        hashes = (coinbase, *self.pool)
        self._mined.update(dict.fromkeys(hashes, height))
        self.pool.clear()
        self._blocks.append(
            BlockFacts(
                height=height,
                hash=f"block {height} of branch {self._branch}",
                prev_hash=self._blocks[-1].hash if self._blocks else "",
                timestamp=0,
                tx_hashes=hashes,
            )
        )

    def pop(self, blocks: int) -> None:
        """Takes blocks back, their transactions returning to the pool; what is mined next is another branch."""
        self._branch += 1
        for block in self._blocks[-blocks:]:
            coinbase, *others = block.tx_hashes
            del self._mined[coinbase]
            for tx_hash in others:
                del self._mined[tx_hash]
                self.pool[tx_hash] = self._bodies[tx_hash]
        del self._blocks[-blocks:]

    async def info(self) -> DaemonInfo:
        self.asked.append("info")
        top = self._blocks[-1].hash
        return DaemonInfo(height=self.height, top_hash=top, synchronized=self.synchronized, nettype="fakechain")

    async def block(self, height: int) -> BlockFacts:
        self.asked.append(f"block {height}")
        return self._blocks[height]

    async def transactions(self, tx_hashes: Sequence[TxHash]) -> tuple[ChainTx, ...]:
        self.asked += tx_hashes
        known = [each for each in tx_hashes if each in self._mined or each in self.pool]
        return tuple(
            ChainTx(
                tx_hash=each,
                body=self._bodies[each],
                height=self._mined.get(each),
                relayed=each not in self.unrelayed,
            )
            for each in known
        )

    async def pool_hashes(self) -> tuple[TxHash, ...]:
        self.asked.append("pool")
        return tuple(self.pool)

    async def key_images(self, images: Sequence[KeyImage]) -> tuple[KeyImageStatus, ...]:
        self.asked.append("key_images")
        return tuple(self._status(image) for image in images)

    def _status(self, image: KeyImage) -> KeyImageStatus:
        places = ((self._mined, KeyImageStatus.IN_CHAIN), (self.pool, KeyImageStatus.IN_POOL))
        for where, status in places:
            if any(image in _images(self._bodies[tx_hash]) for tx_hash in where):
                return status
        return KeyImageStatus.UNSPENT

    async def fee_per_byte(self) -> Atomic:
        return Atomic(FEE_PER_WEIGHT)

    async def aclose(self) -> None:
        """Nothing to close."""


def _images(body: dict[str, Any]) -> list[str]:
    return [spent["key"]["k_image"] for spent in body["vin"] if "key" in spent]
