"""What fenced leases promise, on the memory twin and on Postgres, for seats and for slots."""

import asyncio

import pytest

from eventstore.api import Lease

# Seats, slots and keys look up one row each: 4 partitions show what 1 would.
pytestmark = pytest.mark.parametrize("store_world", ["memory-4", "postgres-4"], indirect=True)


@pytest.fixture(params=["seat_leases", "slot_leases"])
async def leases(request, store_world):
    return getattr(await store_world.open(), request.param)


async def test_a_free_lease_is_taken_and_seen(leases):
    lease = await leases.acquire("s/buyer", holder="a", seconds=60, detail="why")
    assert lease == Lease(name="s/buyer", holder="a", fence=1, seconds=60)
    (row,) = (await leases.held()).values()
    assert (row.holder, row.fence, row.expired, row.released, row.detail) == ("a", 1, False, False, "why")


async def test_another_holder_waits_until_it_expires(leases, store_world):
    await leases.acquire("s/buyer", holder="a", seconds=60)
    assert await leases.acquire("s/buyer", holder="b", seconds=60) is None
    await store_world.pass_time(61)
    assert (await leases.held())["s/buyer"].expired
    assert (await leases.acquire("s/buyer", holder="b", seconds=60)).fence == 2


async def test_a_holder_retakes_its_own_lease_at_once_with_a_higher_fence(leases):
    first = await leases.acquire("s/buyer", holder="a", seconds=60)
    second = await leases.acquire("s/buyer", holder="a", seconds=60)
    assert (first.fence, second.fence) == (1, 2)
    assert not await leases.renew(first), "the older hold is over"
    assert await leases.renew(second)


async def test_a_renewed_lease_outlives_its_first_end(leases, store_world):
    lease = await leases.acquire("s/buyer", holder="a", seconds=600)
    await store_world.pass_time(400)
    assert await leases.renew(lease)
    await store_world.pass_time(400)
    assert await leases.acquire("s/buyer", holder="b", seconds=60) is None


async def test_a_lease_taken_over_cannot_be_renewed_or_released(leases, store_world):
    old = await leases.acquire("s/buyer", holder="a", seconds=60)
    await store_world.pass_time(61)
    await leases.acquire("s/buyer", holder="b", seconds=60)
    assert not await leases.renew(old)
    await leases.release(old)
    assert await leases.acquire("s/buyer", holder="c", seconds=60) is None


async def test_a_released_lease_is_free_cannot_be_renewed_and_keeps_its_fence(leases):
    lease = await leases.acquire("s/buyer", holder="a", seconds=60)
    await leases.release(lease)
    assert not await leases.renew(lease)
    assert (await leases.held())["s/buyer"].expired
    assert (await leases.acquire("s/buyer", holder="b", seconds=60)).fence == 2


async def test_an_expired_lease_nobody_took_can_still_be_renewed(leases, store_world):
    lease = await leases.acquire("s/buyer", holder="a", seconds=60)
    await store_world.pass_time(61)
    assert await leases.renew(lease)
    assert await leases.acquire("s/buyer", holder="b", seconds=60) is None


async def test_a_lease_given_back_is_told_from_one_that_only_expired(leases, store_world):
    kept = await leases.acquire("s/kept", holder="a", seconds=60)
    back = await leases.acquire("s/back", holder="a", seconds=60)
    await leases.release(back)
    await store_world.pass_time(61)
    rows = await leases.held()
    assert [(rows[name].expired, rows[name].released) for name in ("s/kept", "s/back")] == [(True, False), (True, True)]
    await leases.release(kept)
    assert (await leases.held())["s/kept"].released


async def test_a_lease_that_was_not_given_back_goes_on_saying_what_it_was_used_for(leases, store_world):
    await leases.acquire("s/buyer", holder="a", seconds=60, detail="first")
    await store_world.pass_time(61)
    taken = await leases.acquire("s/buyer", holder="b", seconds=60, detail="second")
    assert (await leases.held())["s/buyer"].detail == "first"
    await leases.release(taken)
    await leases.acquire("s/buyer", holder="b", seconds=60, detail="third")
    assert (await leases.held())["s/buyer"].detail == "third"


async def test_of_many_who_want_it_at_once_one_gets_it(leases):
    taken = await asyncio.gather(*(leases.acquire("s/buyer", holder=f"n{n}", seconds=60) for n in range(8)))
    assert sum(lease is not None for lease in taken) == 1


async def test_seats_and_slots_are_different_leases(store_world):
    store = await store_world.open()
    await store.seat_leases.acquire("x/y", holder="a", seconds=60)
    assert not await store.slot_leases.held()
