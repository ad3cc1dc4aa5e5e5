"""Each wallet call and each daemon call of a payout suffers whatever can befall it: one payout, exact balances.

A kill of the service at the same points is `tests/chaos/test_kill_after_each_append.py`: before an intent, after it
(which is before the call), after the call (which is before its outcome) and after the outcome.
"""

from collections.abc import Iterable

import pytest

from actors.simulation import SimDaemon
from actors.simulation.faults import Fault, Faults
from domain.roles import THREE, Role
from domain.states import Completed, Escrow, money_of
from domain.terms import Policy
from tests.given import AMOUNT
from tests.sim_world import SimWorld, create, pay_in, payout_address, play_release, set_addresses, until

ONCE = ("export_multisig_info", "sign_multisig", "submit_multisig")
OTHERS = (
    "open_wallet",
    "refresh",
    "get_height",
    "get_address",
    "incoming_transfers",
    "import_multisig_info",
    "freeze",
    "thaw",
    "transfer",
    "describe_transfer",
    "store",
    "close_wallet",
)
DAEMON_CALLS = ("info", "transactions", "key_images", "fee_per_byte")
FAULTS = (
    Fault.LATE,
    Fault.LOST_BEFORE,
    Fault.LOST_AFTER,
    Fault.DOUBLED,
    Fault.KILLED_BEFORE,
    Fault.KILLED_AFTER,
)
EPOCHS_MAX = 3
"""An announced signature whose answer died takes one epoch, a nonce used up by a doubled export another one."""


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("method", ONCE)
async def test_a_call_that_must_not_be_repeated_blind_suffers_at_every_seat(method: str, fault: Fault) -> None:
    await _lives_through([method], fault)


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_call_of_a_payout_suffers_the_same_in_one_life(fault: Fault) -> None:
    await _lives_through([*ONCE, *OTHERS], fault)


@pytest.mark.parametrize("method", DAEMON_CALLS)
async def test_a_daemon_that_dies_at_a_call_of_a_payout_is_waited_for(method: str) -> None:
    await _lives_through([], Fault.LOST_BEFORE, of_daemon=[method])


async def _lives_through(methods: Iterable[str], fault: Fault, *, of_daemon: Iterable[str] = ()) -> None:
    world, daemon_faults = SimWorld(), Faults()
    async with world.running() as node:
        node._finder._daemon = SimDaemon(world.chain, faults=daemon_faults)
        escrow_id = await create(node)
        await set_addresses(node, escrow_id)
        await until(node, escrow_id, "awaiting_funding")
        for role in THREE:
            for method in methods:
                world.wallets[role][0].faults.plan(method, fault, seconds=0.05)
        for method in of_daemon:
            daemon_faults.plan(method, fault, times=2)
        await pay_in(world, node, escrow_id)
        state = await play_release(world, node, escrow_id)
    _paid_once(world, state)
    suffered = [world.wallets[role][0].faults.left(method) for role in THREE for method in methods]
    assert not methods or suffered.count(0) > 0, "nothing was called that was to suffer"
    assert all(daemon_faults.left(method) == 0 for method in of_daemon)


def _paid_once(world: SimWorld, state: Escrow) -> None:
    assert isinstance(state, Completed)
    money = money_of(state)
    assert money is not None
    (payout,) = money.payouts
    assert len(payout.epochs) <= min(EPOCHS_MAX, Policy().epochs_max)
    (spent,) = [tx for block in world.chain.blocks_from(0) for tx in block.txs if tx.inputs]
    assert spent.hash == state.tx_hash
    paid = {output.address: output.amount for output in spent.outputs}
    assert paid == {payout_address(Role.VENDOR): AMOUNT - spent.fee}
    assert world.chain.nonce_reuses == []
