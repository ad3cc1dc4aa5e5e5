"""What must never cost anybody the money: disks that are full, deposits made to disturb."""

import asyncio
from collections.abc import Sequence

import pytest

from actors.escrow import Accepted
from actors.ports import KeyImageStatus, WalletFault
from actors.simulation import SimDaemon
from actors.simulation.chain import SimTx, outputs_of
from actors.simulation.faults import Fault
from domain import commands as c
from domain.ids import EscrowId, KeyImage, Micros, TxHash
from domain.roles import Role
from domain.states import Completed, Escrow, Money, money_of
from service.node import Node
from tests.given import AMOUNT, BUYER, NETWORK_FEE, VENDOR
from tests.patience import PATIENCE_S
from tests.sim_world import SimWorld, create, pay_in, payout_address, play_release, set_addresses, tell, until


async def test_a_signature_that_could_not_be_stored_is_given_up_with_its_nonces() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await create(node)
        await set_addresses(node, escrow_id)
        await pay_in(world, node, escrow_id)
        await until(node, escrow_id, "funded")
        await tell(node, escrow_id, c.Ship(at=Micros(0), by=VENDOR), key="ship")
        await _until_proposed(node, escrow_id)
        # The disk is full: the signature is made, nothing of it can be written.
        world.wallets[Role.BUYER][0].faults.plan("store", Fault.REFUSED, times=2, refusal=WalletFault.OTHER)
        state = await play_release(world, node, escrow_id)
    money = money_of(state)
    assert money is not None
    assert money.payouts[0].epochs[0].ended == "sign_unknown"
    assert world.chain.nonce_reuses == []


@pytest.mark.parametrize("answered", [False, True], ids=["answer_lost", "answered"])
async def test_a_payout_that_a_dying_daemon_took_and_told_nobody_of_is_sent_again(answered: bool) -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await create(node)
        await set_addresses(node, escrow_id)
        await pay_in(world, node, escrow_id)
        world.chain.relays = False
        if not answered:
            world.wallets[Role.BUYER][0].faults.plan("submit_multisig", Fault.LOST_AFTER)
        playing = asyncio.create_task(play_release(world, node, escrow_id))
        while not world.chain.unrelayed:
            await asyncio.sleep(0.01)
        (taken,) = world.chain.unrelayed
        world.chain.relays = True
        state = await playing
    assert isinstance(state, Completed)
    assert state.tx_hash == taken
    assert world.chain.nonce_reuses == []


async def _until_proposed(node: Node, escrow_id: EscrowId) -> None:
    while not _proposed(await until(node, escrow_id, "delivering")):
        await asyncio.sleep(0.01)


def _proposed(state: Escrow) -> bool:
    money = money_of(state)
    assert money is not None and money.payout is not None
    epoch = money.payout.epoch
    return epoch is not None and epoch.proposal is not None


async def test_a_deposit_of_less_than_dust_that_a_wallet_would_spend_blocks_no_payout() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await create(node)
        await set_addresses(node, escrow_id)
        state = await until(node, escrow_id, "awaiting_funding")
        money = money_of(state)
        assert money is not None
        world.chain.pay(money.address, AMOUNT)
        world.chain.pay(money.address, 900_000_000)
        world.chain.mine(10)
        assert isinstance(await play_release(world, node, escrow_id), Completed)


@pytest.mark.parametrize("shipped", [False, True], ids=["before_shipping", "after_shipping"])
async def test_a_payout_that_two_make_without_us_is_found_and_ends_the_escrow(shipped: bool) -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await create(node)
        await set_addresses(node, escrow_id)
        await pay_in(world, node, escrow_id)
        money = await _key_images_known(node, escrow_id)
        if shipped:
            await tell(node, escrow_id, c.Ship(at=Micros(0), by=VENDOR), key="ship")
        inputs, tx_hash = tuple(money.deposits), TxHash(world.chain.fresh("theirs"))
        paid = outputs_of(tx_hash, [(payout_address(Role.BUYER), AMOUNT - NETWORK_FEE)])
        assert world.chain.relay(SimTx(hash=tx_hash, inputs=inputs, outputs=paid, fee=NETWORK_FEE))
        world.chain.mine(11)
        state = await until(node, escrow_id, "completed")
    assert isinstance(state, Completed)
    assert (state.tx_hash, state.outcome) == (tx_hash, "agreed")
    assert "spent_by_others" in state.core.recovery
    assert world.chain.nonce_reuses == []


async def _key_images_known(node: Node, escrow_id: EscrowId) -> Money:
    """Waits until every deposit would be seen when it is spent."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            money = money_of(await until(node, escrow_id, "funded"))
            if money is not None and money.key_images.keys() >= money.deposits.keys():
                return money
            await asyncio.sleep(0.01)


class PoolGhost(SimDaemon):
    """A daemon in whose pool something spends everything, for as long as it is told to say so."""

    says_so = False

    async def key_images(self, images: Sequence[KeyImage]) -> tuple[KeyImageStatus, ...]:
        if self.says_so:
            return (KeyImageStatus.IN_POOL,) * len(images)
        return await super().key_images(images)


async def test_an_announced_signature_is_given_up_even_while_something_else_spends_its_inputs() -> None:
    world = SimWorld()
    async with world.running() as node:
        daemon = node._finder._daemon = PoolGhost(world.chain)
        escrow_id = await create(node)
        await set_addresses(node, escrow_id)
        await pay_in(world, node, escrow_id)
        await until(node, escrow_id, "funded")
        await tell(node, escrow_id, c.Ship(at=Micros(0), by=VENDOR), key="ship")
        await _until_proposed(node, escrow_id)
        # The wallet signs, and dies before it stored that its nonces are used.
        world.wallets[Role.BUYER][0].faults.plan("sign_multisig", Fault.KILLED_AFTER)
        await tell(node, escrow_id, c.ConfirmDelivery(at=Micros(0), by=BUYER), key="confirm")
        while Role.BUYER not in (await until(node, escrow_id, "releasing")).core.intents:
            await asyncio.sleep(0)
        daemon.says_so = True
        await asyncio.sleep(0.3)
        offer = c.ProposeAgreement(at=Micros(0), by=VENDOR, buyer_share_bp=1_000, ship_until=None)
        assert isinstance(await tell(node, escrow_id, offer, key="offer"), Accepted)
        accepted = c.AcceptAgreement(at=Micros(0), by=BUYER, number=1)
        assert isinstance(await tell(node, escrow_id, accepted, key="accept"), Accepted)
        daemon.says_so = False
        assert isinstance(await play_release(world, node, escrow_id), Completed)
    assert world.chain.nonce_reuses == []
