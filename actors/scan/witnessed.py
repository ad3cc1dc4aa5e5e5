"""Two daemons as one: what both say, up to the height that both have; nothing is concluded from one alone."""

import hashlib
from collections.abc import Awaitable, Sequence
from typing import Final, TypeVar

import msgspec

from actors.ports import Blindness, BlockFacts, ChainTx, DaemonDown, DaemonInfo, DaemonRpc, KeyImageStatus
from actors.scan.transactions import read_transaction
from domain.ids import KeyImage, TxHash
from domain.money import Atomic

BEHIND_MAX_BLOCKS: Final = 3
"""How far one daemon may be ahead of the other; blocks come every two minutes and take seconds to be passed on."""
POOL_TRIES_MAX: Final = 3
FIRST: Final = "the first daemon"
SECOND: Final = "the second daemon"
_T = TypeVar("_T")


class WitnessedDaemon:
    """Answers as the first daemon does where the second says the same; implements `DaemonRpc`.

    The chain ends where the shorter of the two ends. A transaction that only the first has in a block, above that end,
    waits in the pool as far as this is concerned: so nothing vanishes while a block is on its way. Every block and
    every transaction in it is compared, those that were read while in the pool once they are in a block. Raises
    `DaemonDown` where one does not answer or is far behind, where they hold different blocks, and where they say
    different things of the same.
    """

    def __init__(self, first: DaemonRpc, second: DaemonRpc) -> None:
        self._first, self._second = first, second
        self._end = 0
        """The height at which the common chain ends."""
        self._unproven: dict[TxHash, bytes] = {}
        """What the first alone said of transactions that are in no common block."""

    async def info(self) -> DaemonInfo:
        """Returns where the common chain ends, and begins a reading up to there."""
        first = _settled(FIRST, await _said(FIRST, self._first.info()))
        second = _settled(SECOND, await _said(SECOND, self._second.info()))
        end = min(first.height, second.height)
        for which, one in ((FIRST, first), (SECOND, second)):
            if one.height + BEHIND_MAX_BLOCKS < max(first.height, second.height):
                raise DaemonDown(f"{which} is behind the other", why=Blindness.BEHIND)
        tops = (
            await _top(FIRST, self._first, first, end=end),
            await _top(SECOND, self._second, second, end=end),
        )
        if tops[0] != tops[1] or first.nettype != second.nettype:
            raise DaemonDown("the daemons are on different branches", why=Blindness.FORKED)
        self._end = end
        return DaemonInfo(height=end, top_hash=tops[0], synchronized=True, nettype=first.nettype)

    async def block(self, height: int) -> BlockFacts:
        """Returns a block that both show alike, its transactions that were read in the pool included."""
        block = await _said(FIRST, self._first.block(height))
        other = await _said(SECOND, self._second.block(height))
        if block.hash != other.hash:
            raise DaemonDown("the daemons are on different branches", why=Blindness.FORKED)
        if block != other:
            raise DaemonDown(f"the daemons show block {height} differently", why=Blindness.DIFFERENT)
        pooled = [tx_hash for tx_hash in block.tx_hashes if tx_hash in self._unproven]
        seen = {each.tx_hash: each for each in await _said(SECOND, self._second.transactions(pooled))}
        for tx_hash in pooled:
            if tx_hash not in seen or _print(seen[tx_hash]) != self._unproven[tx_hash]:
                raise _lied(tx_hash)
        for tx_hash in pooled:
            del self._unproven[tx_hash]
        return block

    async def transactions(self, tx_hashes: Sequence[TxHash]) -> tuple[ChainTx, ...]:
        told = await _said(FIRST, self._first.transactions(tx_hashes))
        mined = [each.tx_hash for each in told if self._is_common(each)]
        seen = {each.tx_hash: each for each in await _said(SECOND, self._second.transactions(mined))}
        for each in told:
            if not self._is_common(each):
                self._unproven[each.tx_hash] = _print(each)
            elif not _same(each, seen.get(each.tx_hash)):
                raise _lied(each.tx_hash)
        return tuple(each if self._is_common(each) else _waiting(each) for each in told)

    async def pool_hashes(self) -> tuple[TxHash, ...]:
        """Returns what waits in the first daemon's pool, or is in a block of it above the common end."""
        for _ in range(POOL_TRIES_MAX):
            before = await _said(FIRST, self._first.info())
            now = {*await _said(FIRST, self._first.pool_hashes()), *await self._above(before.height)}
            if (await _said(FIRST, self._first.info())).top_hash == before.top_hash:
                # Else one that was mined, or came back, between the two readings would be in neither.
                self._unproven = {tx_hash: said for tx_hash, said in self._unproven.items() if tx_hash in now}
                return tuple(now)
        raise DaemonDown(f"{FIRST}: its chain moved under every attempt", why=Blindness.CONTRADICTORY)

    async def key_images(self, images: Sequence[KeyImage]) -> tuple[KeyImageStatus, ...]:
        """Says of an image that it is in the chain when either daemon does: then the blocks are read, of both."""
        first = await _said(FIRST, self._first.key_images(images))
        second = await _said(SECOND, self._second.key_images(images))
        in_chain = KeyImageStatus.IN_CHAIN
        return tuple(in_chain if in_chain in pair else pair[0] for pair in zip(first, second, strict=True))

    async def fee_per_byte(self) -> Atomic:
        """Returns the lower of the two: a cosigner judges by it how much is too much."""
        return min(await _said(FIRST, self._first.fee_per_byte()), await _said(SECOND, self._second.fee_per_byte()))

    async def aclose(self) -> None:
        await self._first.aclose()
        await self._second.aclose()

    async def _above(self, height: int) -> set[TxHash]:
        if height > self._end + BEHIND_MAX_BLOCKS + 1:  # it went ahead since `info` looked
            raise DaemonDown(f"{SECOND} is behind the other", why=Blindness.BEHIND)
        blocks = [await _said(FIRST, self._first.block(each)) for each in range(self._end, height)]
        return {tx_hash for block in blocks for tx_hash in block.tx_hashes[1:]}

    def _is_common(self, each: ChainTx) -> bool:
        return each.height is not None and each.height < self._end


async def _said(which: str, answer: Awaitable[_T]) -> _T:
    try:
        return await answer
    except DaemonDown as down:
        raise DaemonDown(f"{which}: {down}", why=down.why) from None


def _settled(which: str, info: DaemonInfo) -> DaemonInfo:
    if not info.synchronized:
        raise DaemonDown(f"{which} is still synchronising", why=Blindness.SYNCHRONISING)
    return info


async def _top(which: str, daemon: DaemonRpc, info: DaemonInfo, *, end: int) -> str:
    return info.top_hash if info.height == end else (await _said(which, daemon.block(end - 1))).hash


def _print(tx: ChainTx) -> bytes:
    """Returns what two daemons must agree on: what is read from a transaction, not how either spells it."""
    return hashlib.sha256(msgspec.msgpack.encode(read_transaction(tx.tx_hash, tx.body))).digest()


def _same(tx: ChainTx, other: ChainTx | None) -> bool:
    return other is not None and (other.height, _print(other)) == (tx.height, _print(tx))


def _waiting(tx: ChainTx) -> ChainTx:
    return msgspec.structs.replace(tx, height=None)


def _lied(tx_hash: TxHash) -> DaemonDown:
    return DaemonDown(f"the daemons show transaction {tx_hash} differently", why=Blindness.DIFFERENT)
