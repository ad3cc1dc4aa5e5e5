"""A chain in memory: blocks, a pool, reorganisations, and the book of nonces that catches a double signature."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import attrgetter

import msgspec

from actors.ports import KeyImageStatus
from domain.ids import Address, KeyImage, OneTimeKey, TxHash
from domain.money import Atomic

UNLOCK_AFTER = 10
"""Blocks until an output may be spent; its own block counts (recorded)."""
START_HEIGHT = 100
GENESIS_TIME = 1_700_000_000
BLOCK_S = 120
_HEIGHT_BELOW = 500_000_000


class SimOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One output of a simulated transaction."""

    one_time_key: OneTimeKey
    address: Address
    amount: Atomic


class SimTx(msgspec.Struct, frozen=True, kw_only=True):
    """One simulated transaction; `inputs` are the one-time keys of the outputs it spends."""

    hash: TxHash
    inputs: tuple[OneTimeKey, ...] = ()
    outputs: tuple[SimOutput, ...]
    fee: Atomic = Atomic(0)
    unlock_time: int = 0


class Paid(msgspec.Struct, frozen=True, kw_only=True):
    """One output in the chain, with its transaction and the height of its block."""

    height: int
    tx: SimTx
    output: SimOutput


class SimBlock(msgspec.Struct, frozen=True, kw_only=True):
    """One simulated block; its miner's transaction exists by its hash alone."""

    height: int
    hash: str
    prev_hash: str
    miner_tx: TxHash
    txs: tuple[SimTx, ...]

    @property
    def timestamp(self) -> int:
        """Seconds since the Unix epoch: two minutes a block."""
        return GENESIS_TIME + BLOCK_S * self.height


class SimChain:
    """Blocks on demand. The same seed and the same calls give the same hashes.

    `online` False makes every daemon call fail and every wallet say that it has no connection; `untrusted` True makes
    the daemon useless without touching the wallets.
    """

    def __init__(self, *, seed: int = 0, height: int = START_HEIGHT) -> None:
        self.online, self.untrusted = True, False
        self.pool: dict[TxHash, SimTx] = {}
        self.relays = True
        """False: what wallets send now is taken and told to nobody, as by a daemon that is being ended."""
        self.unrelayed: set[TxHash] = set()
        """Waiting transactions that nobody was told of: not mined until they are sent again."""
        self.nonce_reuses: list[str] = []
        """Nonces with which two different transactions were signed: each would endanger a real key share."""
        self._seed, self._drawn = seed, 0
        self._blocks: list[SimBlock] = []
        self._signed: dict[str, str] = {}
        self._places: dict[TxHash, int] = {}
        self._spent: dict[OneTimeKey, TxHash] = {}
        self._spent_images: set[KeyImage] = set()
        self._made: dict[OneTimeKey, int] = {}
        self._paid: dict[Address, list[Paid]] = {}
        """By address, in the chain's order. Hundreds of addresses are watched by several nodes at once: read from the
        blocks, each look took longer with every escrow and every block."""
        self.mine(height)

    @property
    def height(self) -> int:
        """The number of blocks."""
        return len(self._blocks)

    @property
    def top_hash(self) -> str:
        """The hash of the newest block."""
        return self._blocks[-1].hash

    def pay(self, address: Address, amount: int, *, unlock_time: int = 0) -> TxHash:
        """Puts a payment from outside into the pool and returns its hash."""
        return self.pay_many([(address, amount)], unlock_time=unlock_time)

    def pay_many(self, payments: Sequence[tuple[Address, int]], *, unlock_time: int = 0) -> TxHash:
        """Puts one payment to several addresses into the pool and returns its hash."""
        tx_hash = TxHash(self.fresh("tx"))
        self.pool[tx_hash] = SimTx(hash=tx_hash, outputs=outputs_of(tx_hash, payments), unlock_time=unlock_time)
        return tx_hash

    def mine(self, blocks: int = 1) -> int:
        """Adds blocks, the first with everything in the pool that may be mined, and returns the new height."""
        for _ in range(blocks):
            self._append(tuple(tx for tx in self.pool.values() if self._may_be_mined(tx)))
        return self.height

    def pop(self, blocks: int) -> int:
        """Takes the newest blocks back, their transactions returning to the pool, and returns the height left."""
        for _ in range(blocks):
            block = self._blocks.pop()
            for tx in reversed(block.txs):
                self._forget(tx)
                self.pool = {tx.hash: tx, **self.pool}
        return self.height

    def flush(self, *tx_hashes: TxHash) -> None:
        """Forgets waiting transactions: the named ones, or all."""
        for tx_hash in tx_hashes or tuple(self.pool):
            self.pool.pop(tx_hash, None)

    def reorganise(self, depth: int, *, drop: Sequence[TxHash] = ()) -> int:
        """Replaces the newest blocks by one more than they were; dropped transactions are lost, others mined again."""
        self.pop(depth)
        for tx_hash in drop:
            self.flush(tx_hash)
        return self.mine(depth + 1)

    def relay(self, tx: SimTx) -> bool:
        """Accepts a transaction into the pool, again and again; False when it spends what another one spends."""
        if self.relays:
            self.unrelayed.discard(tx.hash)
        if tx.hash in self.pool or tx.hash in self._places:
            return True
        waiting = {key for other in self.pool.values() for key in other.inputs}
        if any(key in waiting or key in self._spent or key not in self._made for key in tx.inputs):
            return False
        self.pool[tx.hash] = tx
        if not self.relays:
            self.unrelayed.add(tx.hash)
        return True

    def blocks_from(self, height: int) -> Sequence[SimBlock]:
        """Returns the blocks from a height on."""
        return self._blocks[max(height, 0) :]

    def paid_to(self, address: Address, *, since: int = 0) -> Sequence[Paid]:
        """Returns what the blocks from a height on paid to an address, in their order."""
        paid = self._paid.get(address, [])
        return paid[bisect_left(paid, since, key=attrgetter("height")) :]

    def block_at(self, height: int) -> SimBlock | None:
        """Returns the block at a height, None beyond the top."""
        return self._blocks[height] if 0 <= height < self.height else None

    def find(self, tx_hash: TxHash) -> tuple[SimTx, int | None] | None:
        """Returns a transaction and the height of its block, None for the height while in the pool."""
        if tx_hash in self.pool:
            return self.pool[tx_hash], None
        height = self._places.get(tx_hash)
        if height is None:
            return None
        return next(tx for tx in self._blocks[height].txs if tx.hash == tx_hash), height

    def spender(self, one_time_key: OneTimeKey) -> tuple[SimTx, int | None] | None:
        """Returns the transaction that spends an output and where it is, None while the output is unspent."""
        if one_time_key in self._spent:
            return self.find(self._spent[one_time_key])
        waiting = (tx for tx in self.pool.values() if one_time_key in tx.inputs)
        return next(((tx, None) for tx in waiting), None)

    def status(self, one_time_key: OneTimeKey) -> KeyImageStatus:
        """Says whether an output is spent."""
        if one_time_key in self._spent:
            return KeyImageStatus.IN_CHAIN
        waiting = any(one_time_key in tx.inputs for tx in self.pool.values())
        return KeyImageStatus.IN_POOL if waiting else KeyImageStatus.UNSPENT

    def image_status(self, image: KeyImage) -> KeyImageStatus:
        """Says whether the output of a key image is spent."""
        if image in self._spent_images:
            return KeyImageStatus.IN_CHAIN
        waiting = any(key_image_of(key) == image for tx in self.pool.values() for key in tx.inputs)
        return KeyImageStatus.IN_POOL if waiting else KeyImageStatus.UNSPENT

    def passed(self, unlock_time: int) -> bool:
        """Says whether a transaction's own lock is over: a height below 500,000,000, else seconds since the epoch."""
        if unlock_time < _HEIGHT_BELOW:
            return unlock_time <= self.height
        return unlock_time <= self._blocks[-1].timestamp

    def note_signature(self, nonce: str, *, signs: str) -> None:
        """Records what a nonce signed; a second, different thing is a double signature."""
        if self._signed.setdefault(nonce, signs) != signs:
            self.nonce_reuses.append(nonce)

    def fresh(self, label: str) -> str:
        """Draws 64 hex digits never drawn before."""
        self._drawn += 1
        return digest(f"{self._seed}/{self._drawn}/{label}")

    def _append(self, txs: tuple[SimTx, ...]) -> None:
        prev = self._blocks[-1].hash if self._blocks else "0" * 64
        block_hash, miner_tx = self.fresh("block"), TxHash(self.fresh("miner"))
        self._blocks.append(SimBlock(height=self.height, hash=block_hash, prev_hash=prev, miner_tx=miner_tx, txs=txs))
        for tx in txs:
            self._place(tx)

    def _place(self, tx: SimTx) -> None:
        height = self.height - 1
        del self.pool[tx.hash]
        self._places[tx.hash] = height
        for key in tx.inputs:
            self._spent[key] = tx.hash
            self._spent_images.add(key_image_of(key))
        for output in tx.outputs:
            self._made[output.one_time_key] = height
            self._paid.setdefault(output.address, []).append(Paid(height=height, tx=tx, output=output))

    def _forget(self, tx: SimTx) -> None:
        """Undoes `_place` of the newest transaction that is placed: what it paid is last in each list."""
        del self._places[tx.hash]
        for key in tx.inputs:
            del self._spent[key]
            self._spent_images.remove(key_image_of(key))
        for output in tx.outputs:
            del self._made[output.one_time_key]
            self._paid[output.address].pop()

    def _may_be_mined(self, tx: SimTx) -> bool:
        if tx.hash in self.unrelayed:
            return False
        made = (self._made.get(key) for key in tx.inputs)
        return all(height is not None and height + UNLOCK_AFTER <= self.height for height in made)


def outputs_of(tx_hash: TxHash, payments: Sequence[tuple[Address, int]]) -> tuple[SimOutput, ...]:
    """Returns the outputs of a transaction, their one-time keys derived from its hash."""
    return tuple(_outputs(tx_hash, payments))


def _outputs(tx_hash: TxHash, payments: Sequence[tuple[Address, int]]) -> Iterator[SimOutput]:
    for index, (address, amount) in enumerate(payments):
        key = OneTimeKey(digest(f"output/{tx_hash}/{index}"))
        yield SimOutput(one_time_key=key, address=address, amount=Atomic(amount))


def key_image_of(one_time_key: OneTimeKey) -> KeyImage:
    """Returns the key image of an output: it depends on nothing else, so it outlives a reorganisation."""
    return KeyImage(digest(f"key image/{one_time_key}"))


def digest(text: str) -> str:
    """Returns 64 hex digits that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()
