"""The Merkle tree of one partition as proofs need it: subtrees' hashes, with only a few of its leaves in memory."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from eventstore.heads import HeadStore
from eventstore.merkle import Range, growth_ranges, inclusion_ranges, join, leaf_hash

TILE = 1_024
"""Leaves below one tile; a power of two, so that every tile is a subtree of every tree it is in."""
TILES_OPEN_MAX = 64
"""Tiles whose leaves' hashes are kept at once: 32 kB each."""


class TreeShort(Exception):
    """There are fewer leaves in the log than the tree that is asked for."""


class LeafTree:
    """Grows as it is asked; keeps 32 bytes for each 1,024 leaves, which never change, and a few tiles' leaves."""

    def __init__(self, store: HeadStore, partition: int) -> None:
        self._store, self._partition = store, partition
        self._tiles: list[bytes] = []
        self._open: OrderedDict[int, list[bytes]] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    async def inclusion(self, position: int, *, size: int) -> list[bytes]:
        """Proves that the event at a position (from 1) is in the tree of `size`; raises as `growth` does."""
        return await self._hashes(inclusion_ranges(position - 1, size=size), size=size)

    async def growth(self, old: int, *, size: int) -> list[bytes]:
        """Proves that the tree of `size` begins with that of `old`; raises `TreeShort`, `LogUnavailable`."""
        return await self._hashes(growth_ranges(old, size=size), size=size)

    async def _hashes(self, ranges: Sequence[Range], *, size: int) -> list[bytes]:
        async with self._one_at_a_time:
            while len(self._tiles) < size // TILE:
                self._tiles.append(join(await self._leaves(len(self._tiles), count=TILE)))
            return [await self._subtree(start, stop) for start, stop in ranges]

    async def _subtree(self, start: int, stop: int) -> bytes:
        """Hashes the leaves from `start` to before `stop`, which make a subtree: within a tile, or of whole ones."""
        first, last = start // TILE, stop // TILE
        if stop - start < TILE:
            inside = await self._leaves(first, count=stop - first * TILE)
            return join(inside[start - first * TILE :])
        nodes = self._tiles[first:last]
        if stop % TILE:
            nodes = [*nodes, join(await self._leaves(last, count=stop % TILE))]
        return join(nodes)

    async def _leaves(self, tile: int, *, count: int) -> list[bytes]:
        """Returns the hashes of a tile's first `count` leaves."""
        found = self._open.get(tile, [])
        if len(found) < count:
            after = tile * TILE + len(found)
            more = await self._store.leaves(self._partition, after_position=after, limit=TILE - len(found))
            found = [*found, *map(leaf_hash, more)]
            if len(found) < count:
                raise TreeShort(f"partition {self._partition} ends before position {tile * TILE + count}")
            self._open[tile] = found
        self._open.move_to_end(tile)
        if len(self._open) > TILES_OPEN_MAX:
            self._open.popitem(last=False)
        return found[:count]
