"""What rotating the `ENCRYPTION_KEY` and shredding a key promise, on the memory twin and on Postgres."""

from hashlib import sha256

import pytest
from msgspec.structs import replace

from eventstore.api import Append, Appended, NewEvent, SealBroken, Shredded
from eventstore.keys import Rewrapped, wrapping_key_id
from eventstore.rotation import rotate
from tests.patience import PATIENT
from tests.store_worlds import KEY

# Keys are one row each: 4 partitions show what 1 would.
pytestmark = pytest.mark.parametrize("store_world", ["memory-4", "postgres-4"], indirect=True)

NEW, NEWEST = bytes(range(1, 33)), bytes(range(2, 34))
PLACE = {"event": "claim", "field": "buyer"}


async def _sealed(vault, *, count) -> dict[str, str]:
    return {f"e{n}": await vault.seal(f"e{n}", **PLACE, plain=b"secret %d" % n) for n in range(count)}


async def _opened(vault, sealed) -> list[bytes]:
    return [await vault.open(stream, **PLACE, sealed=text) for stream, text in sealed.items()]


def _secrets(count) -> list[bytes]:
    return [b"secret %d" % n for n in range(count)]


async def _shred(store, stream) -> None:
    event = NewEvent(type="key_shredded", schema_version=1, occurred_at=1, meta=b"{}", body=b"{}")
    command_id = sha256(stream.encode()).hexdigest()
    item = Append(stream_id=stream, expected_version=0, events=(event,), command_id=command_id)
    assert isinstance(await store.log.append(item), Appended)


async def test_every_key_is_wrapped_anew_in_batches_and_told_as_it_goes(store_world):
    sealed = await _sealed((await store_world.open()).vault, count=13)
    node = await store_world.open(encryption_key=NEW, other_keys=(KEY,))
    told = []
    rotated = await rotate(node.keys, node.ring, batch_max=2, progress=lambda done, total: told.append((done, total)))
    assert (rotated.rewrapped, rotated.left) == (13, {})
    assert len(told) >= 7 and told[-1] == (13, 13) and sorted(told) == told
    alone = await store_world.open(encryption_key=NEW)
    await alone.vault.check()
    assert await _opened(alone.vault, sealed) == _secrets(13)


async def test_while_rotation_is_under_way_nodes_of_either_key_open_everything(store_world):
    before = await store_world.open(other_keys=(NEW,))
    sealed = await _sealed(before.vault, count=9)
    after = await store_world.open(encryption_key=NEW, other_keys=(KEY,))
    with pytest.raises(_Stop):
        await rotate(after.keys, after.ring, batch_max=3, progress=_stop)
    assert set(await after.keys.wrapped_by()) == {wrapping_key_id(KEY), wrapping_key_id(NEW)}
    sealed |= {"late": await before.vault.seal("late", **PLACE, plain=b"secret 9")}
    for keys in ({"other_keys": (NEW,)}, {"encryption_key": NEW, "other_keys": (KEY,)}):
        fresh = await store_world.open(**keys)
        await fresh.vault.check()
        assert await _opened(fresh.vault, sealed) == _secrets(10)


async def test_a_rotation_that_was_stopped_goes_on_and_one_that_is_done_changes_nothing(store_world):
    sealed = await _sealed((await store_world.open()).vault, count=9)
    node = await store_world.open(encryption_key=NEW, other_keys=(KEY,))
    with pytest.raises(_Stop):
        await rotate(node.keys, node.ring, batch_max=3, progress=_stop)
    begun = (await node.keys.wrapped_by())[wrapping_key_id(NEW)]
    assert 0 < begun <= 3
    assert (await rotate(node.keys, node.ring)).rewrapped == 9 - begun
    stored = [await node.keys.read(stream) for stream in sealed]
    again = await rotate(node.keys, node.ring)
    assert (again.rewrapped, again.left) == (0, {})
    assert [await node.keys.read(stream) for stream in sealed] == stored


async def test_what_no_given_key_opens_is_counted_and_left_alone(store_world):
    sealed = await _sealed((await store_world.open()).vault, count=3)
    stranger = await store_world.open(encryption_key=NEWEST, other_keys=(NEW,))
    rotated = await rotate(stranger.keys, stranger.ring, batch_max=1)
    assert (rotated.rewrapped, rotated.left) == (0, {wrapping_key_id(KEY): 3})
    assert await _opened((await store_world.open()).vault, sealed) == _secrets(3)


async def test_a_single_key_under_another_encryption_key_is_noticed_before_anything_is_opened(store_world):
    await _sealed((await store_world.open()).vault, count=5)
    node = await store_world.open(encryption_key=NEW, other_keys=(KEY,))
    await rotate(node.keys, node.ring)
    await (await store_world.open()).vault.seal("late", **PLACE, plain=b"by a node that was forgotten")
    with pytest.raises(SealBroken, match=f"1 by the key with fingerprint {wrapping_key_id(KEY)}"):
        await (await store_world.open(encryption_key=NEW)).vault.check()
    await node.vault.check()


async def test_a_shredded_key_opens_and_seals_nothing_and_others_do(store_world):
    node = await store_world.open()
    sealed = await _sealed(node.vault, count=3)
    await _shred(node, "e1")
    assert list(await node.vault.shred()) == ["e1"]
    with pytest.raises(Shredded):
        await node.vault.open("e1", **PLACE, sealed=sealed["e1"])
    with pytest.raises(Shredded):
        await node.vault.seal("e1", **PLACE, plain=b"more")
    with pytest.raises(Shredded):
        await node.vault.tag("e1", field="f", plain=b"more")
    assert await _opened(node.vault, {stream: sealed[stream] for stream in ("e0", "e2")}) == [b"secret 0", b"secret 2"]
    await node.vault.check()


async def test_shredding_follows_from_the_log_and_may_be_repeated(store_world):
    node = await store_world.open()
    await _sealed(node.vault, count=2)
    assert list(await node.vault.shred()) == []
    await _shred(node, "e0")
    await _shred(node, "never sealed")
    assert [list(await each.vault.shred()) for each in (await store_world.open(), node)] == [["e0"], []]
    await node.vault.seal("late", **PLACE, plain=b"x")
    await _shred(node, "late")
    assert list(await node.vault.shred()) == ["late"]


async def test_a_key_beside_the_shredded_one_is_left_alone(store_world):
    node = await store_world.open()
    kept = await node.vault.seal("e1/wallets", **PLACE, plain=b"a password")
    await node.vault.seal("e1", **PLACE, plain=b"a claim")
    await _shred(node, "e1")
    assert list(await node.vault.shred()) == ["e1"]
    assert await node.vault.open("e1/wallets", **PLACE, sealed=kept) == b"a password"


async def test_a_key_shredded_while_it_is_wrapped_anew_stays_shredded(store_world):
    await _sealed((await store_world.open()).vault, count=4)
    node = await store_world.open(encryption_key=NEW, other_keys=(KEY,))
    partition = node.log.partition_of("e2")
    page = await node.keys.wrapped_otherwise(wrapping_key_id(NEW), partition=partition, after="", limit=10)
    changes = [
        Rewrapped(read=each, key=node.ring.wrap(each.stream_id, node.ring.unwrap(each.stream_id, each.key)))
        for each in page
    ]
    await _shred(node, "e2")
    assert list(await node.keys.shred()) == ["e2"]
    assert await node.keys.rewrap(changes) == len(page) - 1
    assert (await node.keys.read("e2")).wrapped is None


async def test_a_key_shredded_by_another_node_is_forgotten_here_in_time(store_world):
    other = await store_world.open()
    node = await store_world.open(limits=replace(PATIENT, key_cache_s=0))
    patient = await store_world.open(limits=replace(PATIENT, key_cache_s=3_600))
    sealed = await _sealed(node.vault, count=1)
    assert await _opened(patient.vault, sealed) == [b"secret 0"]
    await _shred(other, "e0")
    await other.vault.shred()
    assert await _opened(patient.vault, sealed) == [b"secret 0"]
    with pytest.raises(Shredded):
        await _opened(node.vault, sealed)


class _Stop(Exception):
    """Ends a rotation after its first batch, as kill -9 would."""


def _stop(done, total):
    raise _Stop
