"""More escrows than slots: everybody waits for a slot in turn, nobody for ever, and no wallet is shared."""

import asyncio

from domain.states import Completed
from tests.sim_world import SimWorld, create, pay_in, play_release, set_addresses, until


async def test_escrows_share_one_slot_a_role_and_all_get_wallets_of_their_own():
    world = SimWorld()
    async with world.running() as node:
        ids = [await create(node, escrow_id=f"esc_{number}") for number in range(6)]
        states = await asyncio.gather(*(until(node, each, "awaiting_funding") for each in ids))
    wallets = [seat.wallet_id for state in states for seat in state.core.seats.values()]
    assert len(set(wallets)) == len(wallets) == 18


async def test_two_escrows_at_once_are_both_paid_out():
    world = SimWorld()
    async with world.running() as node:
        ids = [await create(node, escrow_id=f"esc_{number}") for number in range(2)]
        for each in ids:
            await set_addresses(node, each)
            await pay_in(world, node, each)
        states = await asyncio.gather(*(play_release(world, node, each) for each in ids))
    assert [state.outcome for state in states if isinstance(state, Completed)] == ["released", "released"]
    assert world.chain.nonce_reuses == []
