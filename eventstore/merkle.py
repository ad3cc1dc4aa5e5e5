"""Merkle trees over a partition's leaves, as in RFC 6962: roots, and proofs of what is in a tree and of how it grew.

A proof is a list of subtrees' hashes. Which subtrees it takes follows from the numbers alone (`inclusion_ranges`,
`growth_ranges`), so that whoever makes a proof reads only those, and whoever checks it needs no tree.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec

HASH_BYTES = 32
EMPTY_ROOT = sha256().digest()
"""The root over no leaves."""

Range = tuple[int, int]
"""Leaves from the first number to before the second, counted from 0."""


class Frontier(msgspec.Struct, frozen=True, kw_only=True):
    """All that a tree's growth needs: the roots of the perfect subtrees it is made of, largest first."""

    size: int = 0
    """Leaves."""
    peaks: tuple[bytes, ...] = ()

    def extended(self, leaves: Iterable[bytes]) -> "Frontier":
        """Returns the frontier after further leaves."""
        peaks, size = list(self.peaks), self.size
        for leaf in leaves:
            node, equals = leaf_hash(leaf), size
            # As many perfect subtrees end here, each as large as what is being added, as the size has ones at its end.
            while equals & 1:
                node, equals = node_hash(peaks.pop(), node), equals >> 1
            peaks.append(node)
            size += 1
        return Frontier(size=size, peaks=tuple(peaks))

    @property
    def root(self) -> bytes:
        """The Merkle root over all leaves so far."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root

    def packed(self) -> bytes:
        """Writes the peaks one after another; with the size, `unpacked` reads them back."""
        return b"".join(self.peaks)

    @classmethod
    def unpacked(cls, packed: bytes, *, size: int) -> "Frontier":
        """Reads packed peaks; raises `ValueError` when they are not as many as the size has ones."""
        if len(packed) != size.bit_count() * HASH_BYTES:
            raise ValueError(f"not the frontier of {size} leaves")
        peaks = (packed[at : at + HASH_BYTES] for at in range(0, len(packed), HASH_BYTES))
        return cls(size=size, peaks=tuple(peaks))


def leaf_hash(leaf: bytes) -> bytes:
    """Hashes a leaf into the tree: its prefix keeps leaves and nodes apart."""
    return sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hashes two subtrees into one."""
    return sha256(b"\1" + left + right).digest()


def join(nodes: Sequence[bytes]) -> bytes:
    """Joins subtrees of one size, of which only the last may be smaller, into the root above them."""
    nodes = list(nodes)
    while len(nodes) > 1:
        above = [node_hash(nodes[at], nodes[at + 1]) for at in range(0, len(nodes) - 1, 2)]
        # What has no neighbour goes up as it is: RFC 6962 splits at the largest power of two below the size.
        nodes = above + nodes[len(above) * 2 :]
    return nodes[0] if nodes else EMPTY_ROOT


def inclusion_ranges(index: int, *, size: int) -> list[Range]:
    """Names the subtrees whose hashes prove that leaf `index` (from 0) is in a tree of `size`, from below upwards."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    start, stop, ranges = 0, size, []
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            ranges.append((middle, stop))
            stop = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def growth_ranges(old: int, *, size: int) -> list[Range]:
    """Names the subtrees whose hashes prove that a tree of `size` begins with the tree of `old` leaves (1 or more)."""
    if not 0 < old <= size:
        raise ValueError(f"a tree of {size} does not grow from {old}")
    start, stop, ranges = 0, size, []
    while stop != old:
        middle = start + _split(stop - start)
        if old <= middle:
            ranges.append((middle, stop))
            stop = middle
        else:
            ranges.append((start, middle))
            start = middle
    if start:
        ranges.append((start, stop))
    return ranges[::-1]


def is_included(leaf: bytes, *, index: int, size: int, root: bytes, path: Sequence[bytes]) -> bool:
    """Says whether a path proves that a leaf stands at `index` (from 0) in the tree of that size and root."""
    if not 0 <= index < size:
        return False
    ranges = inclusion_ranges(index, size=size)
    if len(ranges) != len(path):
        return False
    node = leaf_hash(leaf)
    for (start, _), beside in zip(ranges, path, strict=True):
        node = node_hash(node, beside) if start > index else node_hash(beside, node)
    return node == root


def has_grown(*, old: int, old_root: bytes, size: int, root: bytes, path: Sequence[bytes]) -> bool:
    """Says whether a path proves that the tree of `size` and `root` begins with the one of `old` and `old_root`."""
    if not 0 < old <= size:
        return False
    ranges, rest = growth_ranges(old, size=size), list(path)
    if len(ranges) != len(rest):
        return False
    before = after = old_root
    if ranges and ranges[0][1] == old:
        # The old tree is no subtree of the new one: the path begins with the largest piece that both end in.
        before = after = rest[0]
        ranges, rest = ranges[1:], rest[1:]
    for (start, _), beside in zip(ranges, rest, strict=True):
        if start >= old:
            after = node_hash(after, beside)
        else:
            before, after = node_hash(beside, before), node_hash(beside, after)
    return before == old_root and after == root


def _split(size: int) -> int:
    """The largest power of two below a size of 2 or more."""
    return 1 << (size - 1).bit_length() - 1
