"""What has been seen of each watched address, and the view of it at one height. No I/O: the follower moves it."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from actors.ports import WatchTarget
from actors.scan.transactions import WatchKey
from domain.chain import ChainView, SeenOutput, SeenSpend, TxFacts
from domain.ids import KeyImage, OneTimeKey, TxHash
from domain.money import Atomic

CONFIRMATIONS_TO_SPEND: Final = 10
"""Blocks, its own included, before monerod lets an output be spent."""
UNLOCK_TIME_IS_HEIGHT_BELOW: Final = 500_000_000
"""Below this an `unlock_time` is a block height, from here on seconds since the Unix epoch."""


MARK_BYTES: Final = 16
_NOTHING: Final[Mapping[TxHash, tuple["Sighting", ...]]] = {}
_NO_IMAGES: Final[Mapping[OneTimeKey, KeyImage]] = {}


class Sighting(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One output of a watched address, in a block or in the pool."""

    one_time_key: OneTimeKey
    tx_hash: TxHash
    amount: Atomic
    unlock_time: int
    height: int | None


class Spend(msgspec.Struct, frozen=True):
    """The transaction in which a key image was seen."""

    tx_hash: TxHash
    height: int | None
    facts: TxFacts | None = None


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """When a view is taken: the number of blocks, and the time in microseconds since the Unix epoch."""

    height: int
    now: int


class Watched:
    """One address and what was found for it up to (and without) block `next_height`.

    There are thousands of these: it keeps the two keys and not the texts they were read from, and empty things are
    shared.
    """

    __slots__ = ("escrow_id", "key", "key_images", "mark", "mined", "next_height", "pool_read", "pooled", "start")

    def __init__(self, target: WatchTarget, *, key: WatchKey) -> None:
        self.escrow_id, self.key, self.key_images = target.escrow_id, key, target.key_images or _NO_IMAGES
        self.mark = mark_of(target)
        self.start = self.next_height = target.since_height
        self.pool_read = False
        """Whether the pool's transactions that are already known were tried with this key."""
        self.mined: tuple[Sighting, ...] = ()
        self.pooled: Mapping[TxHash, tuple[Sighting, ...]] = _NOTHING

    @property
    def begun(self) -> bool:
        """Whether any block was read for this target."""
        return self.next_height > self.start

    def limit(self, height: int) -> None:
        """Starts no later than here: where a chain was cut, the next may hold the deposit below `since_height`."""
        self.start, self.next_height = min(self.start, height), min(self.next_height, height)

    def rewind(self, height: int) -> None:
        """Forgets the blocks from `height` on, so that they are read (again)."""
        self.next_height = min(self.next_height, max(height, self.start))
        self.mined = below(self.mined, height)

    def mine(self, sightings: Iterable[Sighting], *, height: int) -> None:
        """Places what was seen in a transaction into the block that holds it."""
        self.mined += tuple(msgspec.structs.replace(sighting, height=height) for sighting in sightings)

    def keep_pooled(self, pool: Collection[TxHash]) -> None:
        """Forgets what was seen in transactions that have left the pool."""
        if self.pooled:
            self.pooled = {tx_hash: seen for tx_hash, seen in self.pooled.items() if tx_hash in pool}

    def mined_height(self, one_time_key: OneTimeKey) -> int:
        """Returns the lowest block that can hold a spend of this output: its own, where that is known."""
        heights = [s.height for s in self.mined if s.one_time_key == one_time_key and s.height is not None]
        return min(heights, default=self.start)

    def view(self, moment: Moment, *, spends: Mapping[KeyImage, Spend]) -> ChainView:
        """Returns everything seen, ordered by height (the pool last), transaction and key."""
        if not self.mined and not self.pooled and not self.key_images:
            return ChainView(height=moment.height)
        pooled = (sighting for sightings in self.pooled.values() for sighting in sightings)
        outputs = sorted(_once([*self.mined, *pooled]), key=_place)
        images = sorted(self.key_images.items())
        return ChainView(
            height=moment.height,
            outputs=tuple(_seen(sighting, moment) for sighting in outputs),
            spends=tuple(_spent(key, spends[image]) for key, image in images if image in spends),
        )


def mark_of(target: WatchTarget) -> bytes:
    """Returns 16 bytes that differ where another address is meant, or another height to read it from.

    The view key needs no part in it: an address has only one.
    """
    named = (target.escrow_id, target.address, target.since_height)
    return hashlib.sha256(msgspec.json.encode(named)).digest()[:MARK_BYTES]


def below(sightings: tuple[Sighting, ...], height: int) -> tuple[Sighting, ...]:
    """Returns what was seen in blocks below a height."""
    return tuple(sighting for sighting in sightings if sighting.height is None or sighting.height < height)


def unlocked(sighting: Sighting, moment: Moment) -> bool:
    """Tells whether monerod would accept the output as an input in the next block.

    For an `unlock_time` that is a time, monerod allows 120 s more and reckons by its blocks' timestamps; going by our
    own clock without that allowance is the later of the two unless no block was mined for minutes.
    """
    if sighting.height is None or sighting.height + CONFIRMATIONS_TO_SPEND > moment.height:
        return False
    if sighting.unlock_time < UNLOCK_TIME_IS_HEIGHT_BELOW:
        return sighting.unlock_time <= moment.height
    return sighting.unlock_time * 1_000_000 <= moment.now


def _once(sightings: Iterable[Sighting]) -> Iterable[Sighting]:
    """Keeps one sighting a one-time key, as only one can ever be spent: a mined one first, then the larger amount."""
    best: dict[OneTimeKey, Sighting] = {}
    for sighting in sightings:
        other = best.get(sighting.one_time_key)
        if other is None or _rank(sighting) > _rank(other):
            best[sighting.one_time_key] = sighting
    return best.values()


def _rank(sighting: Sighting) -> tuple[bool, int]:
    return sighting.height is not None, sighting.amount


def _place(sighting: Sighting) -> tuple[bool, int, TxHash, OneTimeKey]:
    return sighting.height is None, sighting.height or 0, sighting.tx_hash, sighting.one_time_key


def _seen(sighting: Sighting, moment: Moment) -> SeenOutput:
    return SeenOutput(
        one_time_key=sighting.one_time_key,
        tx_hash=sighting.tx_hash,
        amount=sighting.amount,
        height=sighting.height,
        unlocked=unlocked(sighting, moment),
    )


def _spent(one_time_key: OneTimeKey, spend: Spend) -> SeenSpend:
    return SeenSpend(one_time_key=one_time_key, tx_hash=spend.tx_hash, height=spend.height, facts=spend.facts)
