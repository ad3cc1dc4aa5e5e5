"""Several slots of a role share a folder: a wallet is never open in two of them."""

import asyncio

import pytest

from actors.simulation.faults import Fault
from domain.roles import Role
from domain.states import Completed
from tests import sim_world
from tests.sim_world import SimHost, SimWorld, create, pay_in, play_release, set_addresses, until


class SlowHost(SimHost):
    """A process that takes its time to end."""

    async def restart(self, fence: int) -> None:
        await asyncio.sleep(0.5)
        await super().restart(fence)


async def test_a_wallet_that_may_be_open_in_one_slot_waits_for_its_end_before_another_slot_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sim_world, "SimHost", SlowHost)
    world = SimWorld(slots_per_role=2)
    for wallet in world.wallets[Role.BUYER]:
        wallet.faults.plan("make_multisig", Fault.LOST_AFTER)
    async with world.running() as node:
        escrow_id = await create(node)
        await set_addresses(node, escrow_id)
        await until(node, escrow_id, "awaiting_funding")
        await pay_in(world, node, escrow_id)
        assert isinstance(await play_release(world, node, escrow_id), Completed)
