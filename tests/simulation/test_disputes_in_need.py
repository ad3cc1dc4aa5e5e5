"""A dispute goes its way whatever wallets, peers and daemons are doing; its money follows once two of them are back."""

import asyncio

from actors.escrow import Accepted
from actors.simulation import Fault
from actors.simulation.faults import Faults
from domain import commands as c
from domain.events import Verdict
from domain.ids import CaseId, EscrowId, Sealed
from domain.roles import THREE, Role
from domain.states import CaseStatus, Refunded
from domain.terms import arbiter_fee
from service.decisions import Decision, decision_holds, new_salt, sign_decision
from service.node import Node
from tests.given import AMOUNT, ARBITER, BUYER, USERS, VENDOR, terms
from tests.patience import PATIENCE_S
from tests.sim_world import SimWorld, create, moment, pay_in, payout_address, set_addresses, tell, until

CALLS_MAX = 100_000


async def test_a_case_is_opened_argued_and_decided_while_no_wallet_and_no_daemon_answers() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await _delivering(world, node)
        for role in THREE:
            _faults(world, role).plan("*", Fault.LOST_BEFORE, times=CALLS_MAX)
        world.chain.online = False
        await _argue(node, escrow_id)
        await _decide(node, escrow_id)
        state = await node.desk.state(escrow_id)
        assert state is not None and state.core.case is not None
        assert (state.core.case.undecided, len(state.core.case.messages)) == (False, 3)
        assert decision_holds(state), "signed with the key of the arbiter's own seat"


async def test_the_loser_who_never_comes_back_keeps_nobody_from_the_money() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await _delivering(world, node)
        for role in THREE:
            _faults(world, role).plan("*", Fault.LOST_BEFORE, times=CALLS_MAX)
        await _argue(node, escrow_id)
        await _decide(node, escrow_id)
        for role in (Role.BUYER, Role.ARBITER):
            _faults(world, role).clear()
        async with asyncio.timeout(PATIENCE_S):
            while not isinstance(state := await node.desk.state(escrow_id), Refunded):
                world.chain.mine(1)
                await asyncio.sleep(0.02)
        assert state.core.case is not None and state.core.case.status is CaseStatus.RESOLVED
    (paid,) = [tx for block in world.chain.blocks_from(0) for tx in block.txs if tx.inputs]
    parts = {output.address: output.amount for output in paid.outputs}
    fee = arbiter_fee(terms())
    assert parts == {payout_address(Role.BUYER): AMOUNT - fee - paid.fee, payout_address(Role.ARBITER): fee}


def _faults(world: SimWorld, role: Role) -> Faults:
    (wallet,) = world.wallets[role]
    return wallet.faults


async def _delivering(world: SimWorld, node: Node) -> EscrowId:
    escrow_id = await create(node)
    await set_addresses(node, escrow_id)
    await pay_in(world, node, escrow_id)
    await until(node, escrow_id, "funded")
    assert isinstance(await tell(node, escrow_id, c.Ship(at=moment(node), by=VENDOR), key="ship"), Accepted)
    return escrow_id


async def _argue(node: Node, escrow_id: EscrowId) -> None:
    """Lets a party open the case, the other answer, and all three speak."""
    opened = c.OpenDispute(at=moment(node), by=BUYER, case_id=CaseId("case_1"), claim=Sealed("an empty box"))
    answered = c.AddClaim(at=moment(node), by=VENDOR, claim=Sealed("it was full"))
    said = [c.AddMessage(at=moment(node), by=by, message=Sealed(f"by {by}")) for by in USERS.values()]
    for number, command in enumerate((opened, answered, *said)):
        assert isinstance(await tell(node, escrow_id, command, key=f"{number}"), Accepted)


async def _decide(node: Node, escrow_id: EscrowId) -> None:
    state = await node.desk.state(escrow_id)
    assert state is not None
    meant = Decision(verdict=Verdict.REFUND, buyer_share_bp=None, reason="It was empty.", salt=new_salt())
    ruling = c.ResolveDispute(
        at=moment(node),
        by=ARBITER,
        verdict=meant.verdict,
        buyer_share_bp=None,
        reason=Sealed("sealed"),
        signed=await sign_decision(node.store.vault, state, meant, signature=None),
    )
    assert isinstance(await tell(node, escrow_id, ruling, key="decide"), Accepted)
