"""The leaf's bytes, spelled out a second time: they can never change once a log exists."""

import hashlib
import struct

from eventstore.api import NewEvent
from eventstore.chain import leaf_of, next_chain


def test_a_leaf_is_the_hash_of_salt_and_length_prefixed_fields():
    event = NewEvent(
        type="deposit_seen", schema_version=2, occurred_at=1_700_000_000_000_001, meta=b'{"m":1}', body=b"{}"
    )
    leaf = leaf_of(
        event, partition=3, position=41, stream_id="escrow-é", version=7, command_id="ab" * 32, salt=bytes(range(16))
    )
    place = [b"3", b"41", "escrow-é".encode(), b"7"]
    content = [b"deposit_seen", b"2", b"ab" * 32, b"1700000000000001", b'{"m":1}', b"{}"]
    expected = hashlib.sha256(bytes(range(16)))
    for field in place + content:
        expected.update(struct.pack(">I", len(field)))
        expected.update(field)
    assert leaf == expected.digest()
    assert leaf.hex() == "c7cd7e963c4525052169664cbc2a1358ce4c2681865773e5fa8067f0221fb1b1"


def test_the_chain_binds_the_previous_chain_and_the_leaf():
    assert next_chain(b"\1" * 32, b"\2" * 32) == hashlib.sha256(b"\1" * 32 + b"\2" * 32).digest()
