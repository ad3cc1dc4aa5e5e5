"""The chain scanner: follows one daemon's blocks and pool for many addresses, with their view keys alone."""

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from actors.ports import (
    Blindness,
    BlockFacts,
    ChainTx,
    Clock,
    DaemonDown,
    DaemonInfo,
    DaemonRpc,
    KeyImageStatus,
    WatchTarget,
)
from actors.scan.points import public_view_key, read_scalar
from actors.scan.reports import ReportKind, Reports, ScanReport
from actors.scan.saved import Saved, SavedTarget
from actors.scan.trail import Trail
from actors.scan.transactions import FalseAmount, Found, Transaction, Unreadable, WatchKey, read_transaction, scan
from actors.scan.watched import Moment, Sighting, Spend, Watched, below, mark_of
from domain.chain import ChainView
from domain.ids import EscrowId, KeyImage, TxHash
from schemas.address import AddressKind, BadAddress, Network, parse_address

LOOK_TRIES_MAX: Final = 10
"""How often one look starts again because the chain moved under it."""
POOL_MAX: Final = 20_000
"""Pool transactions remembered, 1.2 kB for one of two outputs (measured); those beyond are first seen in a block."""
POOL_CHUNK: Final = 100
_KEY_IMAGE: Final = re.compile("[0-9a-f]{64}")


class ScannerWatch:
    """Shows deposits and spends from a daemon and view keys; implements `Watch`.

    One caller, which names all its targets in every look (or only what changed, with `tell` and `read`): a target left
    out is forgotten, and read again from its `since_height` when it comes back. Blocks are read once for all targets; a
    new target makes the blocks since its `since_height` be read again for itself alone. A key image that becomes known
    later makes them be read again from the block of its output, but only where the daemon says that it is spent in the
    chain.

    A look that fails or is cancelled loses at most the block, or the hundred pool transactions, it was at: the next
    one goes on from there. What was `saved` by another scanner is gone on from as well. The arithmetic runs in a
    thread, so that the event loop stays free to answer, and still shares the interpreter with everything else: the
    service runs all of this in a process of its own (`actors.scan.process`).
    Memory: 200 block hashes, the pool up to `POOL_MAX`, and what was found for the targets.
    """

    def __init__(self, daemon: DaemonRpc, *, clock: Clock, network: Network, saved: Saved | None = None) -> None:
        saved = saved or Saved()
        self._daemon, self._clock, self._network = daemon, clock, network
        self._looking = asyncio.Lock()
        self._watched: dict[EscrowId, Watched] = {}
        self._images: set[KeyImage] = set(saved.images)
        self._spends: dict[KeyImage, Spend] = dict(saved.spends)
        self._pool: dict[TxHash, Transaction] = {}
        self._trail = Trail(saved.blocks)
        self._unclaimed = {each.mark: each for each in saved.targets}
        """What was saved of addresses that nobody has asked for yet."""
        self._height = 0
        self._reports = Reports()

    @property
    def reports(self) -> tuple[ScanReport, ...]:
        """The newest things left out, each once."""
        return self._reports.newest()

    @property
    def left_out(self) -> Mapping[ReportKind, int]:
        """How many things were left out, by kind."""
        return self._reports.counts()

    @property
    def read_to(self) -> int | None:
        """The lowest block that some target still lacks."""
        return min((watched.next_height for watched in self._watched.values()), default=None)

    @property
    def lag(self) -> int:
        """How many blocks of the daemon's chain some target still lacks."""
        return max(0, self._height - (self._height if self.read_to is None else self.read_to))

    async def look(self, targets: Sequence[WatchTarget]) -> Mapping[EscrowId, ChainView]:
        """Reads what is new and returns one view per target, all at the same height.

        A target whose view key and address do not belong together has no view and is reported. Raises `DaemonDown`,
        also when the daemon is still synchronising (its chain would look reorganised) or its chain never rests.
        """
        async with self._looking:
            named = {target.escrow_id for target in targets}
            self.tell(changed=targets, gone=self._watched.keys() - named)
            return await self.read()

    def tell(self, *, changed: Sequence[WatchTarget], gone: Collection[EscrowId]) -> None:
        """Takes in targets that are new or have changed, and forgets others."""
        for escrow_id in gone:
            self._watched.pop(escrow_id, None)
        for target in changed:
            known = self._watched.get(target.escrow_id)
            if known is not None and known.mark == mark_of(target):
                known.key_images = target.key_images
            else:
                self._enrol(target)

    async def read(self) -> Mapping[EscrowId, ChainView]:
        """Reads what is new for the targets told, and returns their views as `look` does."""
        if not self._watched:
            await self._info()  # a daemon that is down is down for those as well who have no address yet
            return {}
        for _ in range(LOOK_TRIES_MAX):
            try:
                return self._views(await self._read())
            except _ChainMoved:
                self._trail.forget_last()
        says = "the daemon's chain moved, or contradicted itself, under every attempt to read it"
        raise DaemonDown(says, why=Blindness.CONTRADICTORY)

    def memory(self) -> Saved:
        """Returns what another scanner can go on from; between any two steps of this one it is of one piece."""
        watched = (SavedTarget(each.mark, each.start, each.next_height, each.mined) for each in self._watched.values())
        return Saved(
            blocks=self._trail.blocks(),
            targets=tuple(watched),
            images=tuple(self._images),
            spends=dict(self._spends),
        )

    def _enrol(self, target: WatchTarget) -> None:
        self._watched.pop(target.escrow_id, None)
        key = self._key(target)
        if key is None:
            return
        watched = self._watched[target.escrow_id] = Watched(target, key=key)
        saved = self._unclaimed.pop(watched.mark, None)
        if saved is not None:
            watched.start, watched.next_height, watched.mined = saved.start, saved.next_height, saved.mined

    def _key(self, target: WatchTarget) -> WatchKey | None:
        try:
            parsed = parse_address(target.address, network=self._network)
            if parsed.kind is AddressKind.STANDARD and public_view_key(target.view_key) == parsed.view_key:
                return WatchKey(read_scalar(target.view_key), bytes.fromhex(parsed.spend_key))
        except (BadAddress, ValueError):
            pass
        self._reports.add(ReportKind.BAD_TARGET, target.escrow_id)
        return None

    async def _read(self) -> DaemonInfo:
        """Brings everything to the daemon's height; raises `_ChainMoved` when that changed meanwhile."""
        info = await self._info()
        self._height = info.height
        await self._learn_images()
        await self._step_back(info)
        while (height := self.read_to) is not None and height < info.height:
            await self._read_block(height)
        if self._trail.hash_at(info.height - 1) not in (None, info.top_hash):
            raise _ChainMoved
        await self._read_pool()
        # A transaction that was mined after the blocks and before the pool were read would be in neither.
        if (await self._daemon.info()).top_hash != info.top_hash:
            raise _ChainMoved
        return info

    async def _info(self) -> DaemonInfo:
        info = await self._daemon.info()
        if not info.synchronized:
            raise DaemonDown("the daemon is still synchronising", why=Blindness.SYNCHRONISING)
        return info

    async def _learn_images(self) -> None:
        """Takes in key images told since the last look, and looks back for those that are already spent."""
        told = [
            (image, watched, one_time_key)
            for watched in self._watched.values()
            for one_time_key, image in watched.key_images.items()
            if self._is_image(image, watched)
        ]
        late = sorted({image for image, watched, _ in told if watched.begun} - self._images)
        statuses = dict(zip(late, await self._daemon.key_images(late) if late else (), strict=True))
        for image, watched, one_time_key in told:
            if statuses.get(image) is KeyImageStatus.IN_CHAIN:
                watched.rewind(watched.mined_height(one_time_key))
        self._images = {image for image, _, _ in told}
        self._spends = {image: spend for image, spend in self._spends.items() if image in self._images}

    async def _step_back(self, info: DaemonInfo) -> None:
        """Forgets the blocks that are no longer in the daemon's chain, from the newest down."""
        moved = False
        while (top := self._trail.top) is not None and not await self._still_there(top, info):
            self._forget_from(self._trail.pop())
            self._start_by(top)
            moved = True
        if moved and self._trail.top is None:  # deeper than the trail reaches: nothing read can be relied on
            self._forget_from(0)
        for watched in self._watched.values():
            watched.limit(info.height)

    def _start_by(self, height: int) -> None:
        """Has the blocks from a height on read for all: another branch may hold a deposit from before its start."""
        for watched in self._watched.values():
            watched.limit(height)
        self._unclaimed = {mark: _limited(saved, height) for mark, saved in self._unclaimed.items()}

    async def _still_there(self, height: int, info: DaemonInfo) -> bool:
        if height >= info.height:
            return False
        newest = height == info.height - 1
        found = info.top_hash if newest else (await self._daemon.block(height)).hash
        return found == self._trail.hash_at(height)

    def _forget_from(self, height: int) -> None:
        for watched in self._watched.values():
            watched.rewind(height)
        self._unclaimed = {mark: _cut(saved, height) for mark, saved in self._unclaimed.items()}
        self._spends = {i: s for i, s in self._spends.items() if s.height is not None and s.height < height}

    async def _read_block(self, height: int) -> None:
        block = await self._daemon.block(height)
        if block.height != height or not self._trail.fits(block):
            raise _ChainMoved
        transactions = await self._block_transactions(block)
        due = [watched for watched in self._watched.values() if watched.next_height == height]
        hits = await self._scan([(tx, self._untried(tx, due)) for tx in transactions])
        for transaction in transactions:
            self._note_spends(transaction, height=height)
            for watched in due:
                seen = hits.get((transaction.tx_hash, watched.escrow_id))
                watched.mine(seen or watched.pooled.get(transaction.tx_hash, ()), height=height)
        for watched in due:
            watched.next_height = height + 1
        self._trail.add(block)

    async def _block_transactions(self, block: BlockFacts) -> list[Transaction]:
        """Returns the block's transactions, asking only for those that were not read while in the pool."""
        unknown = [tx_hash for tx_hash in block.tx_hashes if tx_hash not in self._pool]
        answers = await self._daemon.transactions(unknown)
        if len(answers) != len(unknown) or any(answer.height != block.height for answer in answers):
            raise _ChainMoved
        read = {transaction.tx_hash: transaction for transaction in await self._parse(answers)}
        if read.keys() != set(unknown):
            raise _ChainMoved
        return [self._pool.get(tx_hash) or read[tx_hash] for tx_hash in block.tx_hashes]

    def _untried(self, transaction: Transaction, due: Sequence[Watched]) -> Sequence[Watched]:
        """Returns those for whom the transaction was not scanned while it was in the pool."""
        if transaction.tx_hash not in self._pool:
            return due
        return [watched for watched in due if not watched.pool_read]

    def _note_spends(self, transaction: Transaction, *, height: int) -> None:
        for image in transaction.key_images:
            if image in self._images:
                self._spends[image] = Spend(transaction.tx_hash, height, transaction.facts)

    async def _read_pool(self) -> None:
        """Reads what is new in the pool, and all of it for new targets."""
        now = set(await self._daemon.pool_hashes())
        self._pool = {tx_hash: transaction for tx_hash, transaction in self._pool.items() if tx_hash in now}
        everyone = list(self._watched.values())
        newcomers = [watched for watched in everyone if not watched.pool_read]
        self._keep_pooled(await self._scan([(tx, newcomers) for tx in self._pool.values()]))
        for watched in everyone:
            watched.keep_pooled(now)
            watched.pool_read = True
        unknown = sorted(now - self._pool.keys())[: POOL_MAX - len(self._pool)]
        for start in range(0, len(unknown), POOL_CHUNK):
            answers = await self._daemon.transactions(unknown[start : start + POOL_CHUNK])
            # One that nobody was told of is not on its way: it is asked for again at every look until it is.
            waiting = [answer for answer in answers if answer.height is None and answer.relayed]
            transactions = await self._parse(waiting)
            self._keep_pooled(await self._scan([(tx, everyone) for tx in transactions]))
            self._pool.update((transaction.tx_hash, transaction) for transaction in transactions)

    def _keep_pooled(self, hits: "_Hits") -> None:
        for (tx_hash, escrow_id), seen in hits.items():
            watched = self._watched[escrow_id]
            watched.pooled = {**watched.pooled, tx_hash: seen}

    def _is_image(self, image: KeyImage, watched: Watched) -> bool:
        """Tells whether a reported key image can be one: monerod refuses the whole call for one that cannot."""
        good = _KEY_IMAGE.fullmatch(image) is not None
        if not good:
            self._reports.add(ReportKind.BAD_KEY_IMAGE, watched.escrow_id)
        return good

    async def _parse(self, answers: Sequence[ChainTx]) -> list[Transaction]:
        """Reads transactions, in a thread; one that cannot be read is reported, and counts as empty."""
        read = await asyncio.to_thread(_read_all, answers) if answers else []
        for each in read:
            if isinstance(each, Unreadable):
                self._reports.add(ReportKind.UNREADABLE, each.tx_hash)
        return [each if isinstance(each, Transaction) else Transaction(tx_hash=each.tx_hash) for each in read]

    async def _scan(self, jobs: "_Jobs") -> "_Hits":
        """Tries transactions with keys, in a thread; nothing changes here but the reports."""
        if not any(due for _, due in jobs):
            return {}
        found = await asyncio.to_thread(_scan_all, jobs)
        hits: _Hits = {}
        for transaction, watched, opened in found:
            if any(isinstance(output, FalseAmount) for output in opened):
                self._reports.add(ReportKind.FALSE_AMOUNT, transaction.tx_hash)
            hits[transaction.tx_hash, watched.escrow_id] = _sightings(transaction, opened)
        return hits

    def _views(self, info: DaemonInfo) -> dict[EscrowId, ChainView]:
        moment = Moment(height=info.height, now=self._clock.now())
        pooled = {
            image: Spend(transaction.tx_hash, None, transaction.facts)
            for transaction in self._pool.values()
            for image in transaction.key_images
            if image in self._images
        }
        spends = {**pooled, **self._spends}
        return {escrow_id: watched.view(moment, spends=spends) for escrow_id, watched in self._watched.items()}


class _ChainMoved(Exception):
    """The daemon's chain changed between two calls that must agree."""


_Opened = tuple[Found | FalseAmount, ...]
_Jobs = Sequence[tuple[Transaction, Sequence[Watched]]]
_Hits = dict[tuple[TxHash, EscrowId], tuple[Sighting, ...]]


def _read_all(answers: Sequence[ChainTx]) -> list[Transaction | Unreadable]:
    return [read_transaction(answer.tx_hash, answer.body) for answer in answers]


def _scan_all(jobs: "_Jobs") -> list[tuple[Transaction, Watched, _Opened]]:
    # One pair after another: a full pool and thousands of new targets are more pairs than memory holds.
    pairs = ((transaction, watched) for transaction, due in jobs for watched in due)
    opened = ((transaction, watched, scan(transaction, watched.key)) for transaction, watched in pairs)
    return [hit for hit in opened if hit[2]]


def _sightings(transaction: Transaction, opened: _Opened) -> tuple[Sighting, ...]:
    return tuple(
        Sighting(
            one_time_key=output.one_time_key,
            tx_hash=transaction.tx_hash,
            amount=output.amount,
            unlock_time=transaction.unlock_time,
            height=None,
        )
        for output in opened
        if isinstance(output, Found)
    )


def _limited(saved: SavedTarget, height: int) -> SavedTarget:
    """Does to an unclaimed target what `Watched.limit` does."""
    start, next_height = min(saved.start, height), min(saved.next_height, height)
    return msgspec.structs.replace(saved, start=start, next_height=next_height)


def _cut(saved: SavedTarget, height: int) -> SavedTarget:
    """Returns what is left of an unclaimed target when the blocks from a height on are gone."""
    return SavedTarget(
        mark=saved.mark,
        start=saved.start,
        next_height=min(saved.next_height, max(height, saved.start)),
        mined=below(saved.mined, height),
    )
