"""What the rows of primed wallets promise, on the memory twin and on Postgres."""

import asyncio

import msgspec
import pytest

from eventstore.primed import PrimedRow

# A row is looked up by its slot: 4 partitions show what 1 would.
pytestmark = pytest.mark.parametrize("store_world", ["memory-4", "postgres-4"], indirect=True)

ROW = PrimedRow(slot="buyer-0", name="w_1", sealed="c2VhbGVk")
OPEN = msgspec.structs.replace(ROW, address="4address", fence=7)


@pytest.fixture
async def rows(store_world):
    return (await store_world.open()).primed


async def test_a_wallet_is_noted_before_it_is_made_and_read_back(rows):
    assert await rows.note(ROW)
    assert await rows.free() == {"buyer-0": ROW}
    assert await rows.free_of("buyer-0") == ROW
    assert await rows.free_of("buyer-1") is None


async def test_a_slot_has_one_free_wallet_at_most(rows):
    assert await rows.note(ROW)
    assert not await rows.note(msgspec.structs.replace(ROW, name="w_2"))
    assert await rows.note(msgspec.structs.replace(ROW, slot="buyer-1", name="w_2"))


async def test_a_wallet_that_was_opened_says_its_address_and_under_which_lease(rows):
    await rows.note(ROW)
    assert await rows.opened(OPEN)
    assert await rows.free_of("buyer-0") == OPEN


async def test_of_ten_that_claim_one_wallet_one_gets_it_and_it_never_becomes_free_again(rows):
    await rows.note(ROW)
    won = await asyncio.gather(*(rows.claim(ROW, seat=f"esc_{n}/buyer") for n in range(10)))
    assert sorted(won) == [False] * 9 + [True]
    assert await rows.free() == {}
    assert not await rows.opened(OPEN)
    assert not await rows.drop(ROW)
    assert not await rows.note(ROW), "its name is taken for ever"


async def test_after_a_claim_the_slot_may_have_another_wallet(rows):
    await rows.note(ROW)
    await rows.claim(ROW, seat="esc/buyer")
    following = msgspec.structs.replace(ROW, name="w_2")
    assert await rows.note(following)
    assert await rows.free() == {"buyer-0": following}


async def test_a_free_wallet_can_be_forgotten(rows):
    await rows.note(ROW)
    assert await rows.drop(ROW)
    assert await rows.free() == {}
    assert not await rows.claim(ROW, seat="esc/buyer")
    assert await rows.note(ROW)
