"""The leaf's bytes, spelled out a second time: they can never change once a log exists."""

import hashlib
import struct

import pytest

from eventstore.api import NewEvent
from eventstore.chain import SHORT_BYTES, leaf_of, next_chain


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


@pytest.mark.parametrize("field", ["stream_id", "type", "command_id", "meta", "body"])
@pytest.mark.parametrize("length", [0, 1, SHORT_BYTES - 1, SHORT_BYTES, 10 * SHORT_BYTES + 1])
def test_a_field_of_any_length_is_hashed_the_same_way(field: str, length: int):
    parts = {"stream_id": b"s", "type": b"t", "command_id": b"c", "meta": b"{}", "body": b"[]"} | {field: b"x" * length}
    text = {name: part.decode() for name, part in parts.items()}
    event = NewEvent(type=text["type"], schema_version=1, occurred_at=2, meta=parts["meta"], body=parts["body"])
    leaf = leaf_of(
        event,
        partition=3,
        position=4,
        stream_id=text["stream_id"],
        version=5,
        command_id=text["command_id"],
        salt=bytes(16),
    )
    fields = (b"3", b"4", parts["stream_id"], b"5", parts["type"], b"1", parts["command_id"], b"2")
    framed = (struct.pack(">I", len(each)) + each for each in (*fields, parts["meta"], parts["body"]))
    assert leaf == hashlib.sha256(bytes(16) + b"".join(framed)).digest()


def test_the_chain_binds_the_previous_chain_and_the_leaf():
    assert next_chain(b"\1" * 32, b"\2" * 32) == hashlib.sha256(b"\1" * 32 + b"\2" * 32).digest()
