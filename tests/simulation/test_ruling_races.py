"""A ruling after the parties had begun to pay each other: whichever payout the chain takes first is the ending."""

import asyncio

from actors.sealed import EscrowSecrets, epoch_place
from actors.simulation.faults import Fault
from actors.simulation.spending import transaction_of
from domain import commands as c
from domain.events import Verdict
from domain.ids import CaseId, EscrowId, Micros, Sealed
from domain.roles import Role
from domain.states import CaseStatus, Completed, Epoch, Money, Refunded, money_of
from domain.terms import Policy
from schemas.sealing import SealedKind
from service.node import Node
from tests.given import AMOUNT, ARBITER, BUYER, VENDOR
from tests.patience import PATIENCE_S
from tests.sim_world import SimWorld, create, pay_in, payout_address, set_addresses, tell, until

SIGNING_S = 0.5
FEE = AMOUNT * Policy().arbiter_fee_ppm // 1_000_000


async def test_a_ruling_before_the_buyer_signed_makes_the_vendors_proposal_worthless() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await _proposed(world, node)
        await _dispute(node, escrow_id, by=BUYER)
        await _rule_for_the_buyer(node, escrow_id)
        state = await _mined_until(world, node, escrow_id, "refunded")
    assert isinstance(state, Refunded)
    released, ruled = state.money.payouts
    assert (released.ended, released.signed) == ("disputed", ())
    assert ruled.signed == (state.tx_hash,)
    _balances(world, state.money, buyer=AMOUNT - FEE, arbiter=FEE)


async def test_a_ruling_that_is_paid_first_leaves_a_late_signature_nothing_to_spend() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await _signed_during_a_dispute(world, node)
        late = await _late_transaction(node, escrow_id)
        await _rule_for_the_buyer(node, escrow_id)
        state = await _mined_until(world, node, escrow_id, "refunded")
    assert isinstance(state, Refunded)
    assert not world.chain.relay(transaction_of(late))
    assert list(state.money.spends) == [state.tx_hash]
    _balances(world, state.money, buyer=AMOUNT - FEE, arbiter=FEE)


async def test_a_late_signature_that_the_buyer_sends_itself_ends_the_escrow_whatever_was_ruled() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await _signed_during_a_dispute(world, node)
        late = transaction_of(await _late_transaction(node, escrow_id))
        # So that the ruling comes second.
        world.wallets[Role.ARBITER][0].faults.plan("*", Fault.LOST_BEFORE, times=1_000)
        await _rule_for_the_buyer(node, escrow_id)
        assert world.chain.relay(late)
        state = await _mined_until(world, node, escrow_id, "completed")
    assert isinstance(state, Completed)
    assert (state.tx_hash, state.outcome) == (late.hash, "released")
    assert state.core.case is not None and state.core.case.status is CaseStatus.CLOSED
    assert [payout.signed for payout in state.money.payouts] == [(late.hash,), ()]
    _balances(world, state.money, vendor=AMOUNT)


async def _proposed(world: SimWorld, node: Node) -> EscrowId:
    """Brings an escrow to where the vendor has proposed its release."""
    escrow_id = await create(node)
    await set_addresses(node, escrow_id)
    await pay_in(world, node, escrow_id)
    await until(node, escrow_id, "funded")
    await tell(node, escrow_id, c.Ship(at=Micros(0), by=VENDOR), key="ship")
    async with asyncio.timeout(PATIENCE_S):
        while (await _first_epoch(node, escrow_id)).proposal is None:
            await asyncio.sleep(0.01)
    return escrow_id


async def _signed_during_a_dispute(world: SimWorld, node: Node) -> EscrowId:
    """Lets the vendor open a dispute while the buyer's wallet makes its signature, which is told afterwards."""
    escrow_id = await _proposed(world, node)
    world.wallets[Role.BUYER][0].faults.plan("sign_multisig", Fault.LATE, seconds=SIGNING_S)
    await tell(node, escrow_id, c.ConfirmDelivery(at=Micros(0), by=BUYER), key="confirm")
    async with asyncio.timeout(PATIENCE_S):
        while Role.BUYER not in (await until(node, escrow_id, "releasing")).core.intents:
            await asyncio.sleep(0.01)
    await _dispute(node, escrow_id, by=VENDOR)
    async with asyncio.timeout(PATIENCE_S):
        while (await _first_epoch(node, escrow_id)).signature is None:
            await asyncio.sleep(0.01)
    return escrow_id


async def _first_epoch(node: Node, escrow_id: EscrowId) -> Epoch:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            money = money_of(await until(node, escrow_id, "delivering", "releasing", "disputed"))
            assert money is not None
            if money.payouts and money.payouts[0].epochs:
                return money.payouts[0].epochs[0]
            await asyncio.sleep(0.01)


async def _late_transaction(node: Node, escrow_id: EscrowId) -> str:
    epoch = await _first_epoch(node, escrow_id)
    assert epoch.signature is not None and epoch.ended == "disputed" and not epoch.broadcast
    secrets = EscrowSecrets(node.store.vault, escrow_id)
    return await secrets.open(SealedKind.SIGNED_TX, epoch_place(1, epoch.number), epoch.signature.sealed)


async def _dispute(node: Node, escrow_id: EscrowId, *, by: str) -> None:
    command = c.OpenDispute(at=Micros(0), by=by, case_id=CaseId("case-1"), claim=Sealed("claim"))  # type: ignore[arg-type]
    await tell(node, escrow_id, command, key="dispute")
    await until(node, escrow_id, "disputed")


async def _rule_for_the_buyer(node: Node, escrow_id: EscrowId) -> None:
    verdict = c.ResolveDispute(
        at=Micros(0), by=ARBITER, verdict=Verdict.REFUND, buyer_share_bp=None, reason=Sealed("because")
    )
    await tell(node, escrow_id, verdict, key="rule")


async def _mined_until(world: SimWorld, node: Node, escrow_id: EscrowId, end: str) -> object:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            world.chain.mine(1)
            state = await until(node, escrow_id, "disputed", "refunding", "releasing", end)
            if isinstance(state, (Refunded, Completed)):
                return state
            await asyncio.sleep(0.02)


def _balances(world: SimWorld, money: Money, *, buyer: int = 0, vendor: int = 0, arbiter: int = 0) -> None:
    """Compares what the three were paid, less the one payout's network fee at the winner, to the atomic unit."""
    (tx,) = [found[0] for tx_hash in money.spends if (found := world.chain.find(tx_hash))]
    paid = {role: sum(o.amount for o in tx.outputs if o.address == payout_address(role)) for role in Role}
    wanted = {Role.BUYER: buyer, Role.VENDOR: vendor, Role.ARBITER: arbiter}
    winner = max(PARTIES_PAID, key=lambda role: wanted[role])
    assert paid == wanted | {winner: wanted[winner] - tx.fee}
    assert world.chain.nonce_reuses == []


PARTIES_PAID = (Role.BUYER, Role.VENDOR)
