"""Proofs made from a partition's leaves, a few of them in memory, against proofs made from all of them."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import leaf_tree
from eventstore.heads_memory import MemoryHeads
from eventstore.leaf_tree import LeafTree, TreeShort
from eventstore.memory import MemoryTables
from eventstore.merkle import Frontier, has_grown, is_included

LEAVES = [sha256(b"%d" % number).digest() for number in range(5_000)]


class Leaves(MemoryHeads):
    """A store of leaves alone, which counts how often it is read."""

    def __init__(self, leaves):
        super().__init__(MemoryTables(partitions=1))
        self.all, self.reads = leaves, 0

    async def leaves(self, partition, *, after_position, limit):
        self.reads += 1
        return self.all[after_position : after_position + limit]


def root(size):
    return Frontier().extended(LEAVES[:size]).root


@pytest.mark.parametrize("size", [1, 2, 1023, 1024, 1025, 2047, 2048, 2049, 3077, 4096, 5000])
async def test_every_kind_of_place_is_proven_in_trees_around_whole_tiles(size):
    tree = LeafTree(Leaves(LEAVES), 0)
    for position in {max(1, min(size, each)) for each in (1, 2, size // 2, size - 1, size, 1024, 1025)}:
        path = await tree.inclusion(position, size=size)
        assert is_included(LEAVES[position - 1], index=position - 1, size=size, root=root(size), path=path)
        path = await tree.growth(position, size=size)
        assert has_grown(old=position, old_root=root(position), size=size, root=root(size), path=path)


@given(st.integers(1, 200), st.data())
def test_small_tiles_prove_what_large_ones_do(size, data):
    position = data.draw(st.integers(1, size))

    async def proven():
        tree = LeafTree(Leaves(LEAVES), 0)
        return await tree.inclusion(position, size=size), await tree.growth(position, size=size)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(leaf_tree, "TILE", 4)
        patched.setattr(leaf_tree, "TILES_OPEN_MAX", 2)
        included, grown = _run(proven())
    assert is_included(LEAVES[position - 1], index=position - 1, size=size, root=root(size), path=included)
    assert has_grown(old=position, old_root=root(position), size=size, root=root(size), path=grown)


def _run(work):
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("nothing here waits")


async def test_a_tree_grows_with_its_log_and_reads_whole_tiles_once():
    store = Leaves(LEAVES[:2_500])
    tree = LeafTree(store, 0)
    await tree.inclusion(10, size=2_500)
    reads = store.reads
    await tree.inclusion(700, size=2_500)
    assert store.reads == reads
    store.all = LEAVES
    path = await tree.inclusion(2_600, size=5_000)
    assert is_included(LEAVES[2_599], index=2_599, size=5_000, root=root(5_000), path=path)


async def test_a_tree_larger_than_the_log_is_refused():
    tree = LeafTree(Leaves(LEAVES[:10]), 0)
    with pytest.raises(TreeShort):
        await tree.inclusion(3, size=11)
    with pytest.raises(TreeShort):
        await tree.growth(3, size=3_000)
