"""A whole escrow on simulated wallets and the memory log, through the node's own actors."""

from domain.roles import Role
from domain.states import Completed, money_of
from tests.given import AMOUNT
from tests.sim_world import SimWorld, create, pay_in, payout_address, play_release, set_addresses, until


async def test_an_escrow_lives_from_order_to_final_payout() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await create(node)
        await set_addresses(node, escrow_id)
        await pay_in(world, node, escrow_id)
        await until(node, escrow_id, "funded")
        state = await play_release(world, node, escrow_id)
    assert isinstance(state, Completed)
    assert state.outcome == "released"
    money = money_of(state)
    assert money is not None
    tx, _ = world.chain.find(state.tx_hash) or (None, None)
    assert tx is not None
    assert [(output.address, output.amount) for output in tx.outputs if output.amount] == [
        (payout_address(Role.VENDOR), AMOUNT - tx.fee)
    ]
    assert world.chain.nonce_reuses == []
