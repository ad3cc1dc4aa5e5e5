"""Names of contents: equal to those that an IPFS node gave, and to what the library `multiformats` makes of a hash."""

import hashlib
import random

import pytest
from multiformats import CID

from eventstore.cid import CHUNK_BYTES, CID_CHARACTERS, LINKS_MAX, cid_of

VECTORS = {
    1: "bafkreiekgmp53zydf4z2ohq3fysx3aawny2i4ah4wf4rj5el3nl2drrqa4",
    5: "bafkreic7fxywijep6bfoluiqaajn7jtfuxzvzpastp6vreabwoljvmwebi",
    CHUNK_BYTES - 1: "bafkreih2hom5mdt3hxznampdzj6ksv6o36vafqqctcrkoz5rfhpw3eodwu",
    CHUNK_BYTES: "bafkreih2bk74eu5axngebs6vftmmkcaqboysjjy726xzy5hksnqmfgw5fy",
    CHUNK_BYTES + 1: "bafybeidbbs6ocod3v27jtr4uhvc6n55y3gbrtur3bvjsnraudtbxkozi2y",
    2 * CHUNK_BYTES: "bafybeibuvqq37phlhefrdmacc7uyxcxte2nrginrt6dkl33nuoxwt37o5a",
    1_000_000: "bafybeib7ib7ug3wvblnvhfxfpagy5wqhpsswkb6kpfozceke5quor46rmy",
    10 << 20: "bafybeib74xcwycrnh4c5oujzjjgudttc4y2nk6worz7gyw6dkus4f66rmy",
    LINKS_MAX * CHUNK_BYTES: "bafybeih3ebhydpblov22wbakszm4spvku7hbo3oa5gdhgoh7gnub26mtx4",
    LINKS_MAX * CHUNK_BYTES + 1: "bafybeidsyc3rx6lmbjml2fg4ucagkjh3kse6tbphoyyhms46fqhmu6ujbi",
    (LINKS_MAX + 1) * CHUNK_BYTES + 5: "bafybeifyx67w5unrg2vqkcd5hptibzgnqohsjp6yrtv63lofefkloeg6sa",
}
"""What js-ipfs (ipfs-core 0.18.1) answered to `add` of so many bytes of `random.Random(size)`, with the parameters that
`actors.ipfs` sends: from one leaf to two levels of nodes. `tests/real/test_ipfs.py` asks it again."""


@pytest.mark.parametrize("size", VECTORS)
def test_bytes_bear_the_name_that_a_real_node_gave_them(size: int) -> None:
    assert cid_of(random.Random(size).randbytes(size)) == VECTORS[size]
    assert len(VECTORS[size]) == CID_CHARACTERS


def test_a_name_says_version_one_of_a_leaf_or_a_node_by_its_sha256() -> None:
    leaf = b"a leaf"
    assert CID.decode(cid_of(leaf)) == CID("base32", 1, "raw", ("sha2-256", hashlib.sha256(leaf).digest()))
    node = CID.decode(cid_of(bytes(CHUNK_BYTES + 1)))
    assert (node.version, node.codec.name, node.hashfun.name) == (1, "dag-pb", "sha2-256")


def test_one_changed_bit_anywhere_is_another_name() -> None:
    data = bytearray(random.Random(0).randbytes(2 * CHUNK_BYTES + 9))
    names = {cid_of(bytes(data))}
    for at in (0, CHUNK_BYTES - 1, CHUNK_BYTES, len(data) - 1):
        data[at] ^= 1
        names.add(cid_of(bytes(data)))
    names |= {cid_of(bytes(data[:-1])), cid_of(bytes(data) + b"\0")}
    assert len(names) == 7
