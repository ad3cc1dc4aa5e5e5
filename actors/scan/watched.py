"""What has been seen of each watched address, and the view of it at one height. No I/O: the follower moves it."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from actors.ports import WatchTarget
from actors.scan.transactions import WatchKey
from domain.chain import ChainView, SeenOutput, SeenSpend
from domain.ids import KeyImage, OneTimeKey, TxHash
from domain.money import Atomic

CONFIRMATIONS_TO_SPEND: Final = 10
"""Blocks, its own included, before monerod lets an output be spent."""
UNLOCK_TIME_IS_HEIGHT_BELOW: Final = 500_000_000
"""Below this an `unlock_time` is a block height, from here on seconds since the Unix epoch."""


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
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


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """When a view is taken: the number of blocks, and the time in microseconds since the Unix epoch."""

    height: int
    now: int


class Watched:
    """One target and what was found for it up to (and without) block `next_height`."""

    def __init__(self, target: WatchTarget, *, key: WatchKey) -> None:
        self.target, self.key = target, key
        self.start = self.next_height = target.since_height
        self.pool_read = False
        """Whether the pool's transactions that are already known were tried with this key."""
        self.mined: list[Sighting] = []
        self.pooled: dict[TxHash, tuple[Sighting, ...]] = {}

    @property
    def begun(self) -> bool:
        """Whether any block was read for this target."""
        return self.next_height > self.start

    def limit(self, height: int) -> None:
        """Starts no later than at the chain's end: a chain cut short may hold the deposit below `since_height`."""
        self.start, self.next_height = min(self.start, height), min(self.next_height, height)

    def rewind(self, height: int) -> None:
        """Forgets the blocks from `height` on, so that they are read (again)."""
        self.next_height = min(self.next_height, max(height, self.start))
        self.mined = [sighting for sighting in self.mined if sighting.height is None or sighting.height < height]

    def mine(self, sightings: Iterable[Sighting], *, height: int) -> None:
        """Places what was seen in a transaction into the block that holds it."""
        self.mined += [msgspec.structs.replace(sighting, height=height) for sighting in sightings]

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
        pooled = (sighting for sightings in self.pooled.values() for sighting in sightings)
        outputs = sorted(_once([*self.mined, *pooled]), key=_place)
        images = sorted(self.target.key_images.items())
        return ChainView(
            height=moment.height,
            outputs=tuple(_seen(sighting, moment) for sighting in outputs),
            spends=tuple(_spent(key, spends[image]) for key, image in images if image in spends),
        )


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
    return SeenSpend(one_time_key=one_time_key, tx_hash=spend.tx_hash, height=spend.height)
