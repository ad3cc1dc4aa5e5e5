"""What the vault promises, on the memory twin and on Postgres."""

import asyncio
import base64

import pytest
from msgspec.structs import replace

from eventstore.api import SealBroken
from tests.patience import PATIENT

# Seats, slots and keys look up one row each: 4 partitions show what 1 would.
pytestmark = pytest.mark.parametrize("store_world", ["memory-4", "postgres-4"], indirect=True)


async def test_a_sealed_field_opens_where_it_was_sealed_and_shows_nothing(store_world):
    vault = (await store_world.open()).vault
    sealed = await vault.seal("e1", event="address_set", field="address", plain=b"a secret")
    assert await vault.open("e1", event="address_set", field="address", sealed=sealed) == b"a secret"
    assert b"secret" not in base64.b64decode(sealed, validate=True)


@pytest.mark.parametrize(
    ("stream", "event", "field"),
    [
        ("e2", "address_set", "address"),
        ("e1", "other", "address"),
        ("e1", "address_set", "other"),
        ("e1", "address_seta", "ddress"),
    ],
    ids=["stream", "event", "field", "shifted"],
)
async def test_a_sealed_field_does_not_open_anywhere_else(store_world, stream, event, field):
    vault = (await store_world.open()).vault
    await vault.seal("e2", event="x", field="x", plain=b"makes its key")
    sealed = await vault.seal("e1", event="address_set", field="address", plain=b"a secret")
    with pytest.raises(SealBroken):
        await vault.open(stream, event=event, field=field, sealed=sealed)


@pytest.mark.parametrize("broken", ["", "no base64!", "AAAA", "flipped"])
async def test_changed_bytes_do_not_open(store_world, broken):
    vault = (await store_world.open()).vault
    sealed = await vault.seal("e1", event="a", field="f", plain=b"a secret")
    data = bytearray(base64.b64decode(sealed))
    data[-1] ^= 1
    with pytest.raises(SealBroken) as raised:
        changed = base64.b64encode(data).decode() if broken == "flipped" else broken
        await vault.open("e1", event="a", field="f", sealed=changed)
    assert "secret" not in str(raised.value)


async def test_the_same_plain_is_sealed_differently_each_time_and_tagged_alike(store_world):
    vault = (await store_world.open()).vault
    assert len({await vault.seal("e1", event="a", field="f", plain=b"x") for _ in range(5)}) == 5
    tag = await vault.tag("e1", field="f", plain=b"x")
    assert len(tag) == 32 and int(tag, 16) >= 0
    assert tag == await vault.tag("e1", field="f", plain=b"x")
    others = [
        await vault.tag(s, field=f, plain=p) for s, f, p in (("e2", "f", b"x"), ("e1", "g", b"x"), ("e1", "f", b"y"))
    ]
    assert tag not in others


async def test_nodes_that_seal_first_at_once_agree_on_one_key(store_world):
    nodes = [await store_world.open() for _ in range(3)]
    sealed = await asyncio.gather(
        *(
            node.vault.seal("e1", event="a", field="f", plain=b"%d" % n)
            for n, node in enumerate(nodes)
            for _ in range(3)
        )
    )
    opened = [await nodes[-1].vault.open("e1", event="a", field="f", sealed=each) for each in sealed]
    assert opened == [b"%d" % n for n in range(3) for _ in range(3)]


async def test_another_encryption_key_opens_nothing_and_says_nothing(store_world):
    sealed = await (await store_world.open()).vault.seal("e1", event="a", field="f", plain=b"a secret")
    stranger = await store_world.open(encryption_key=bytes(32))
    with pytest.raises(SealBroken, match="ENCRYPTION_KEY"):
        await stranger.vault.open("e1", event="a", field="f", sealed=sealed)


async def test_another_encryption_key_is_noticed_before_anything_is_opened(store_world):
    first = (await store_world.open()).vault
    await first.check()
    await first.seal("e1", event="a", field="f", plain=b"a secret")
    await first.check()
    with pytest.raises(SealBroken, match="ENCRYPTION_KEY"):
        await (await store_world.open(encryption_key=bytes(32))).vault.check()


async def test_opening_makes_no_key(store_world):
    vault = (await store_world.open()).vault
    with pytest.raises(SealBroken, match="no key"):
        await vault.open("e1", event="a", field="f", sealed="AAAA")


async def test_more_escrows_than_the_cache_holds_still_open(store_world):
    vault = (await store_world.open(limits=replace(PATIENT, key_cache_max=2))).vault
    sealed = {f"e{n}": await vault.seal(f"e{n}", event="a", field="f", plain=b"%d" % n) for n in range(5)}
    assert [await vault.open(s, event="a", field="f", sealed=text) for s, text in sealed.items()] == [
        b"%d" % n for n in range(5)
    ]


async def test_a_short_encryption_key_is_refused(store_world):
    with pytest.raises(ValueError, match="32 bytes"):
        await store_world.open(encryption_key=b"short")


@pytest.mark.parametrize("size", [0, 100, 300_000])
async def test_bytes_of_any_size_open_where_they_were_sealed_and_nowhere_else(store_world, size):
    vault = (await store_world.open()).vault
    plain = bytes(range(256)) * (size // 256) + bytes(size % 256)
    sealed = await vault.seal_bytes("e1", event="picture", field="one", plain=plain)
    assert await vault.open_bytes("e1", event="picture", field="one", sealed=sealed) == plain
    for field, data in (("other", sealed), ("one", sealed[:-1] + bytes([sealed[-1] ^ 1])), ("one", b"")):
        with pytest.raises(SealBroken):
            await vault.open_bytes("e1", event="picture", field=field, sealed=data)
