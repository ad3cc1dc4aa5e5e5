"""What the store of signed heads promises, on the memory twin and on Postgres."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from eventstore.api import Append, Head, NewEvent
from eventstore.heads import GrowingHead, duty_lease_name, sign_head, signature_holds
from eventstore.merkle import Frontier

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))

# Heads of one partition never meet those of another: 4 partitions show what 1 would.
pytestmark = pytest.mark.parametrize("store_world", ["memory-4", "postgres-4"], indirect=True)


@pytest.fixture
async def store(store_world):
    return await store_world.open(node_id="a")


async def lease_of(store, partition=0, *, holder="a", seconds=60):
    return await store.duty_leases.acquire(duty_lease_name(partition), holder=holder, seconds=seconds)


def growing(position, *, partition=0, key=KEY, leaf=b"leaf"):
    frontier = Frontier().extended([leaf] * position)
    end = Head(partition=partition, position=position, chain=bytes(31) + bytes([position]))
    return GrowingHead(
        head=sign_head(key, end, merkle_root=frontier.root, signed_at=1_700_000_000_000_000 + position),
        frontier=frontier,
    )


async def test_a_head_is_read_back_as_it_was_added_with_its_frontier(store):
    first, second = growing(3), growing(7, partition=2)
    assert await store.heads.add(first, follows=0, lease=await lease_of(store))
    assert await store.heads.add(second, follows=0, lease=await lease_of(store, 2))
    assert await store.heads.newest() == {0: first, 2: second}
    assert signature_holds((await store.heads.newest())[2].head)


async def test_heads_are_read_in_order_of_position_in_pages(store):
    lease, follows = await lease_of(store), 0
    for position in (2, 5, 9):
        assert await store.heads.add(growing(position), follows=follows, lease=lease)
        follows = position
    assert [head.position for head in await store.heads.after(0, position=0, limit=2)] == [2, 5]
    assert [head.position for head in await store.heads.after(0, position=5, limit=2)] == [9]
    assert await store.heads.after(1, position=0, limit=9) == []
    assert (await store.heads.newest())[0] == growing(9)


async def test_the_first_heads_that_cover_some_positions_are_found_once_each(store):
    lease, follows = await lease_of(store), 0
    for position in (2, 5, 9):
        assert await store.heads.add(growing(position), follows=follows, lease=lease)
        follows = position
    found = await store.heads.covering(0, [10, 3, 4, 1, 5])
    assert [head.position for head in found] == [2, 5]
    assert await store.heads.covering(0, [10]) == []
    assert await store.heads.covering(1, [1]) == []


async def test_every_key_that_ever_signed_is_known(store):
    assert list(await store.heads.keys()) == []
    lease = await lease_of(store)
    for position, key in ((1, KEY), (2, KEY), (3, OTHER_KEY)):
        assert await store.heads.add(growing(position, key=key), follows=position - 1, lease=lease)
    keys = {growing(1).head.key_id, growing(1, key=OTHER_KEY).head.key_id}
    assert (set(await store.heads.keys()), len(await store.heads.keys())) == (keys, 2)


async def test_a_head_follows_the_one_it_was_made_from_or_is_not_added(store):
    lease = await lease_of(store)
    assert await store.heads.add(growing(5), follows=0, lease=lease)
    assert not await store.heads.add(growing(7), follows=0, lease=lease)
    assert not await store.heads.add(growing(7), follows=4, lease=lease)
    assert not await store.heads.add(growing(5, leaf=b"forged"), follows=5, lease=lease)
    assert (await store.heads.newest())[0] == growing(5)


async def test_an_old_holder_that_wakes_up_adds_nothing(store, store_world):
    old = await lease_of(store, holder="a", seconds=60)
    await store_world.pass_time(61)
    new = await lease_of(store, holder="b")
    assert new is not None
    assert not await store.heads.add(growing(5, leaf=b"fork"), follows=0, lease=old)
    assert await store.heads.add(growing(5), follows=0, lease=new)
    assert (await store.heads.newest())[0] == growing(5)


async def test_a_holder_whose_lease_expired_and_nobody_took_still_adds(store, store_world):
    lease = await lease_of(store, seconds=60)
    await store_world.pass_time(61)
    assert await store.heads.add(growing(5), follows=0, lease=lease)


async def test_a_lease_given_back_or_of_another_partition_adds_nothing(store):
    back = await lease_of(store)
    await store.duty_leases.release(back)
    assert not await store.heads.add(growing(5), follows=0, lease=back)
    assert not await store.heads.add(growing(5), follows=0, lease=await lease_of(store, 1))
    lease = await lease_of(store)
    forged = msgspec.structs.replace(lease, fence=lease.fence + 1)
    assert not await store.heads.add(growing(5), follows=0, lease=forged)


async def test_one_holder_at_a_time_has_a_duty_of_a_partition(store, store_world):
    await lease_of(store, holder="a")
    assert await lease_of(store, holder="b") is None
    assert (await lease_of(store, 1, holder="b")).fence == 1
    lease = await lease_of(store, holder="a", seconds=60)
    await store_world.pass_time(61)
    assert (await lease_of(store, holder="b")).fence == 3
    assert not await store.duty_leases.renew(lease)
    assert set(await store.duty_leases.held()) == {duty_lease_name(0), duty_lease_name(1)}


async def test_leaves_are_read_in_order_of_position_in_pages(store):
    event = NewEvent(type="t", schema_version=1, occurred_at=1, meta=b"{}", body=b"{}")
    await store.log.append(Append(stream_id="s", expected_version=0, events=(event,) * 5, command_id="0" * 64))
    partition = store.log.partition_of("s")
    events = await store.log.read_partition(partition, after_position=0)
    leaves = [each.leaf for each in events]
    assert await store.heads.leaves(partition, after_position=0, limit=3) == leaves[:3]
    assert await store.heads.leaves(partition, after_position=3, limit=3) == leaves[3:]
    assert await store.heads.leaves((partition + 1) % 4, after_position=0, limit=3) == []
