"""The hashes of the newest blocks read, by which a reorganised chain is noticed."""

from collections.abc import Iterable
from typing import Final

from actors.ports import BlockFacts

TRAIL_BLOCKS: Final = 200
"""Hashes kept: twenty times the confirmations after which money moves. A deeper fork makes all be read again."""


class Trail:
    """The newest blocks read, without gaps, and the one block that was read last."""

    def __init__(self, blocks: Iterable[tuple[int, str]] = ()) -> None:
        self._hashes: dict[int, str] = dict(blocks)
        self._last: BlockFacts | None = None

    @property
    def top(self) -> int | None:
        """Height of the newest block kept."""
        return next(reversed(self._hashes), None)

    def blocks(self) -> tuple[tuple[int, str], ...]:
        """Returns the heights and hashes kept, the newest last."""
        return tuple(self._hashes.items())

    def hash_at(self, height: int) -> str | None:
        """Returns the hash of the block read at this height, while it is kept."""
        return self._hashes.get(height)

    def fits(self, block: BlockFacts) -> bool:
        """Tells whether the block contradicts nothing that was read: neither at its height nor right below."""
        own, below = self._hashes.get(block.height), self._hashes.get(block.height - 1)
        if self._last is not None and self._last.height == block.height - 1:
            below = self._last.hash
        return own in (None, block.hash) and below in (None, block.prev_hash)

    def add(self, block: BlockFacts) -> None:
        """Remembers a block that was read and fits; one far above the others starts the trail anew."""
        self._last = block
        if self.top is not None and block.height <= self.top:
            return
        if self.top is not None and block.height > self.top + 1:
            self._hashes.clear()
        self._hashes[block.height] = block.hash
        self._hashes.pop(block.height - TRAIL_BLOCKS, None)

    def forget_last(self) -> None:
        """Forgets which block was read last: what comes next starts somewhere else."""
        self._last = None

    def pop(self) -> int:
        """Forgets the newest block and returns its height."""
        height, _ = self._hashes.popitem()
        self._last = None
        return height
