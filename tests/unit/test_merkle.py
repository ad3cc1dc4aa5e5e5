"""Merkle trees as in RFC 6962, against its recursive definition written down a second time."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.merkle import EMPTY_ROOT, Frontier, growth_ranges, has_grown, inclusion_ranges, is_included, join
from eventstore.merkle import leaf_hash as hashed

# The leaves of the reference implementation's tests, and the roots it publishes over the first 0 to 8 of them.
LEAVES = [bytes.fromhex(each) for each in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def mth(leaves):
    """The Merkle tree hash of RFC 6962, section 2.1."""
    if len(leaves) < 2:
        return sha256(b"\0" + leaves[0]).digest() if leaves else sha256().digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m, leaves):
    """The audit path of RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def proof(m, leaves, whole=True):
    """The consistency proof of RFC 6962, section 2.1.2."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*proof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*proof(m - k, leaves[k:], False), mth(leaves[:k])]


def made(leaves, ranges):
    return [mth(leaves[start:stop]) for start, stop in ranges]


def numbered(size):
    return [b"%d" % n for n in range(size)]


@pytest.mark.parametrize("size", range(9))
def test_the_roots_over_the_published_leaves_are_the_published_ones(size):
    assert Frontier().extended(LEAVES[:size]).root.hex() == ROOTS[size]
    assert mth(LEAVES[:size]).hex() == ROOTS[size]


def test_the_root_over_nothing_is_the_hash_of_nothing():
    assert Frontier().root == EMPTY_ROOT == join([]) == sha256().digest()


@given(st.lists(st.binary(max_size=8), max_size=70), st.data())
def test_a_tree_grown_in_pieces_has_the_root_of_the_whole(leaves, data):
    cut = data.draw(st.integers(0, len(leaves)))
    grown = Frontier().extended(leaves[:cut]).extended(leaves[cut:])
    assert (grown.root, grown.size) == (mth(leaves), len(leaves))
    assert Frontier.unpacked(grown.packed(), size=grown.size) == grown


@given(st.integers(1, 400), st.sampled_from([1, 2, 4, 8, 64]))
def test_subtrees_of_one_size_join_to_the_root_of_the_whole(size, width):
    leaves = numbered(size)
    assert join([mth(leaves[at : at + width]) for at in range(0, size, width)]) == mth(leaves)
    assert join([hashed(leaf) for leaf in leaves]) == mth(leaves)


def test_a_frontier_of_another_size_is_refused():
    with pytest.raises(ValueError, match="frontier of 4 leaves"):
        Frontier.unpacked(Frontier().extended(numbered(3)).packed(), size=4)


def test_every_leaf_of_every_small_tree_is_proven_as_the_definition_says():
    for size in range(1, 34):
        leaves = numbered(size)
        for index in range(size):
            made_path = made(leaves, inclusion_ranges(index, size=size))
            assert made_path == path(index, leaves)
            assert is_included(leaves[index], index=index, size=size, root=mth(leaves), path=made_path)


def test_every_small_tree_is_proven_to_begin_with_each_smaller_one_as_the_definition_says():
    for size in range(1, 34):
        leaves = numbered(size)
        for old in range(1, size + 1):
            made_path = made(leaves, growth_ranges(old, size=size))
            assert made_path == proof(old, leaves)
            assert has_grown(old=old, old_root=mth(leaves[:old]), size=size, root=mth(leaves), path=made_path)


@given(st.integers(2, 300), st.data())
def test_a_leaf_that_is_not_there_is_not_proven(size, data):
    leaves = numbered(size)
    index = data.draw(st.integers(0, size - 1))
    good = made(leaves, inclusion_ranges(index, size=size))
    root = mth(leaves)
    other = data.draw(st.integers(0, size - 1).filter(lambda n: n != index))
    assert not is_included(b"other", index=index, size=size, root=root, path=good)
    assert not is_included(leaves[index], index=other, size=size, root=root, path=good)
    assert not is_included(leaves[index], index=index, size=size, root=EMPTY_ROOT, path=good)
    assert not is_included(leaves[index], index=index, size=size, root=root, path=good[:-1])
    assert not is_included(leaves[index], index=index, size=size, root=root, path=[*good, root])
    at = data.draw(st.integers(0, len(good) - 1))
    assert not is_included(leaves[index], index=index, size=size, root=root, path=[*good[:at], root, *good[at + 1 :]])


@given(st.integers(2, 300), st.data())
def test_a_tree_whose_beginning_was_rewritten_is_not_proven(size, data):
    leaves = numbered(size)
    old = data.draw(st.integers(1, size - 1))
    touched = data.draw(st.integers(0, old - 1))
    forged = [*leaves[:touched], b"forged", *leaves[touched + 1 :]]
    old_root = mth(leaves[:old])
    for made_of in (leaves, forged):
        found = made(made_of, growth_ranges(old, size=size))
        assert not has_grown(old=old, old_root=old_root, size=size, root=mth(forged), path=found)
    good = made(leaves, growth_ranges(old, size=size))
    assert not has_grown(old=old, old_root=mth(forged[:old]), size=size, root=mth(leaves), path=good)
    assert not has_grown(old=old, old_root=old_root, size=size, root=mth(leaves), path=[*good, old_root])
    assert not has_grown(old=old, old_root=old_root, size=size, root=mth(leaves), path=good[1:])


def test_two_trees_of_one_size_are_one_only_by_their_root():
    root = mth(numbered(5))
    assert has_grown(old=5, old_root=root, size=5, root=root, path=[])
    assert not has_grown(old=5, old_root=root, size=5, root=EMPTY_ROOT, path=[])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3)])
def test_a_place_outside_the_tree_has_no_proof(index, size):
    assert not is_included(b"", index=index, size=size, root=EMPTY_ROOT, path=[])
    with pytest.raises(ValueError, match="not in a tree"):
        inclusion_ranges(index, size=size)


@pytest.mark.parametrize(("old", "size"), [(0, 3), (4, 3)])
def test_a_tree_grows_from_a_smaller_one_with_leaves_in_it(old, size):
    assert not has_grown(old=old, old_root=EMPTY_ROOT, size=size, root=EMPTY_ROOT, path=[])
    with pytest.raises(ValueError, match="does not grow"):
        growth_ranges(old, size=size)
