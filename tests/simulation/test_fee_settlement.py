"""Rulings of which the arbiter is paid together with the winner or afterwards: balances to the atomic unit."""

import asyncio
from collections.abc import Callable

import pytest

from actors.simulation.faults import Fault
from domain import commands as c
from domain.dispute import fee_tx_hash
from domain.events import Verdict
from domain.ids import CaseId, EscrowId, Sealed
from domain.payout import fee_due
from domain.roles import Role
from domain.states import Completed, Escrow, Refunded, money_of, name
from domain.terms import FeeSettlement, Policy, arbiter_fee
from service.node import Node
from tests.given import AMOUNT, ARBITER, BUYER
from tests.patience import PATIENCE_S
from tests.sim_world import SimWorld, create, moment, pay_in, payout_address, set_addresses, tell, until

SWEEP = Policy(fee_settlement=FeeSettlement.SWEEP)


@pytest.mark.parametrize(
    ("verdict", "bp"), [(Verdict.RELEASE, 0), (Verdict.REFUND, 10_000), (Verdict.SPLIT, 3_000)], ids=str
)
@pytest.mark.parametrize("settlement", FeeSettlement)
async def test_winner_and_arbiter_get_what_was_decided_to_the_atomic_unit(
    settlement: FeeSettlement, verdict: Verdict, bp: int
) -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await _ruled(world, node, Policy(fee_settlement=settlement), verdict, bp)
        state = await _paid_out(world, node, escrow_id)
    assert isinstance(state, Refunded if verdict is Verdict.REFUND else Completed)
    fee, balances, fees = arbiter_fee(state.core.terms), _balances(world), _network_fees(world)
    first, *second = fees
    rest = AMOUNT - fee - first
    buyer = rest * bp // 10_000
    assert balances == {Role.BUYER: buyer, Role.VENDOR: rest - buyer, Role.ARBITER: fee - sum(second)}
    assert len(second) == (1 if settlement is FeeSettlement.SWEEP else 0)
    assert sum(balances.values()) + sum(fees) == AMOUNT
    assert fee_tx_hash(state) is not None
    assert world.chain.nonce_reuses == []


@pytest.mark.parametrize("method", ["export_multisig_info", "transfer", "sign_multisig", "submit_multisig"])
@pytest.mark.parametrize("fault", [Fault.KILLED_BEFORE, Fault.KILLED_AFTER, Fault.LOST_AFTER])
async def test_the_arbiter_is_paid_once_whatever_its_payout_suffers(method: str, fault: Fault) -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await _ruled(world, node, SWEEP, Verdict.RELEASE, 0)
        await _mined_until(world, node, escrow_id, _winner_is_final)
        for role in Role:
            world.wallets[role][0].faults.plan(method, fault)
        state = await _paid_out(world, node, escrow_id)
    balances = _balances(world)
    _, second = _network_fees(world)
    assert balances[Role.ARBITER] == arbiter_fee(state.core.terms) - second
    assert sum(balances.values()) + sum(_network_fees(world)) == AMOUNT
    assert world.chain.nonce_reuses == []


async def test_a_reorganisation_of_the_winners_payout_takes_the_arbiters_back_and_both_come_again() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await _ruled(world, node, SWEEP, Verdict.REFUND, 10_000)
        await _mined_until(world, node, escrow_id, _change_seen)
        world.chain.pop(1)
        await asyncio.sleep(0.1)
        state = await _paid_out(world, node, escrow_id)
    assert isinstance(state, Refunded)
    assert sum(_balances(world).values()) + sum(_network_fees(world)) == AMOUNT
    assert len(_network_fees(world)) == 2
    assert world.chain.nonce_reuses == []


@pytest.mark.parametrize("settlement", FeeSettlement)
async def test_small_deposits_of_anybody_do_not_hold_a_ruling_up(settlement: FeeSettlement) -> None:
    world = SimWorld()
    small = (1_500_000_000, 5_000_000_000, 7_000_000_000)
    async with world.running() as node:
        policy = Policy(fee_settlement=settlement)
        escrow_id = await _ruled(world, node, policy, Verdict.REFUND, 10_000, before=small)
        state = await _paid_out(world, node, escrow_id)
    balances, fees = _balances(world), _network_fees(world)
    assert balances[Role.ARBITER] == arbiter_fee(state.core.terms)
    assert sum(balances.values()) + sum(fees) == AMOUNT + sum(small)
    assert len(fees) == 1


async def _ruled(
    world: SimWorld, node: Node, policy: Policy, verdict: Verdict, bp: int, *, before: tuple[int, ...] = ()
) -> EscrowId:
    """Brings an escrow to the arbiter's decision; amounts `before` are paid in first."""
    escrow_id = await create(node, policy=policy)
    await set_addresses(node, escrow_id)
    for amount in before:
        await pay_in(world, node, escrow_id, amount=amount)
    await pay_in(world, node, escrow_id)
    await until(node, escrow_id, "funded")
    opened = c.OpenDispute(at=moment(node), by=BUYER, case_id=CaseId("case-1"), claim=Sealed("claim"))
    await tell(node, escrow_id, opened, key="open")
    decided = c.ResolveDispute(
        at=moment(node),
        by=ARBITER,
        verdict=verdict,
        buyer_share_bp=bp if verdict is Verdict.SPLIT else None,
        reason=Sealed("because"),
    )
    await tell(node, escrow_id, decided, key="decide")
    return escrow_id


async def _paid_out(world: SimWorld, node: Node, escrow_id: EscrowId) -> Escrow:
    """Mines until winner and arbiter are paid for good."""
    return await _mined_until(world, node, escrow_id, _settled)


async def _mined_until(world: SimWorld, node: Node, escrow_id: EscrowId, holds: Callable[[Escrow], bool]) -> Escrow:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            state = await node.desk.state(escrow_id)
            if state is not None and holds(state):
                return state
            world.chain.mine(1)
            await asyncio.sleep(0.02)


def _settled(state: Escrow) -> bool:
    money = money_of(state)
    over = name(state) in ("completed", "refunded")
    return over and money is not None and money.payout is None and not fee_due(money)


def _winner_is_final(state: Escrow) -> bool:
    return name(state) in ("completed", "refunded")


def _change_seen(state: Escrow) -> bool:
    money = money_of(state)
    return money is not None and any(each.height is not None for each in list(money.deposits.values())[1:])


def _balances(world: SimWorld) -> dict[Role, int]:
    """Adds what each of the three was paid on the chain."""
    outputs = [each for block in world.chain.blocks_from(0) for tx in block.txs for each in tx.outputs]
    return {role: sum(each.amount for each in outputs if each.address == payout_address(role)) for role in Role}


def _network_fees(world: SimWorld) -> list[int]:
    """Lists the network fees of what the escrow spent, in the order of the chain."""
    return [tx.fee for block in world.chain.blocks_from(0) for tx in block.txs if tx.inputs]
