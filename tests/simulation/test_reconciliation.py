"""A whole node compared with its chain: a life that was lived on it agrees, and what its watcher misses is an item."""

import asyncio
from collections.abc import Mapping, Sequence

from actors.clock import SystemClock
from actors.ports import WatchTarget
from actors.simulation import SimDaemon, SimWatch
from domain.chain import ChainView
from domain.difference import CHAIN_DIFFERS
from domain.difference import DifferenceCode as Code
from domain.ids import EscrowId
from domain.states import Escrow, money_of
from service.node import Node
from service.reconcile import ReconcileLimits, Reconciler
from service.reconcile_duty import ReconcileDuty
from tests.given import AMOUNT
from tests.patience import PATIENCE_S
from tests.sim_world import SimWorld, create, pay_in, play_release, set_addresses, until, until_true


class Nearsighted(SimWatch):
    """A watch that does not see what is mined from some height on."""

    blind_from: int | None = None

    async def look(self, targets: Sequence[WatchTarget]) -> Mapping[EscrowId, ChainView]:
        views = await super().look(targets)
        return {escrow_id: self._seen(view) for escrow_id, view in views.items()}

    def _seen(self, view: ChainView) -> ChainView:
        end = self.blind_from
        if end is None:
            return view
        outputs = tuple(each for each in view.outputs if each.height is not None and each.height < end)
        return ChainView(height=view.height, outputs=outputs, spends=view.spends)


def duty_on(world: SimWorld, node: Node) -> ReconcileDuty:
    """The node's duty, compared by a watch that sees everything."""
    reconciler = Reconciler(
        node.store.log,
        node.store.vault,
        SimDaemon(world.chain),
        watch=lambda: SimWatch(world.chain),
        clock=SystemClock(),
        # Long enough for a watcher that sees the chain to take in what is new.
        limits=ReconcileLimits(settle_s=2.0),
    )
    return ReconcileDuty(
        lambda _: reconciler.all(),
        desk=node.desk,
        leases=node.store.duty_leases,
        node_id=node.store.node_id,
        clock=SystemClock(),
        ready=lambda: node.watcher.has_looked,
    )


async def compared(duty: ReconcileDuty, node: Node, escrow_id: EscrowId, *, item: bool) -> Escrow:
    """Compares until an escrow has an item about the chain, or has none: while it moves it is left to the next run."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await duty.compare_once()
            state = await node.desk.state(escrow_id)
            if state is not None and (CHAIN_DIFFERS in state.core.recovery) is item:
                return state


async def test_a_life_agrees_with_its_chain_and_money_that_the_watcher_misses_is_an_item_until_it_is_seen() -> None:
    world = SimWorld()
    eyes = Nearsighted(world.chain)
    node = world.node(watch=eyes)
    await node.start()
    try:
        escrow_id = await create(node)
        await set_addresses(node, escrow_id)
        await pay_in(world, node, escrow_id)
        await until(node, escrow_id, "funded")
        ended = await play_release(world, node, escrow_id)
        duty = duty_on(world, node)
        await until_true(lambda: node.watcher.has_looked)
        await duty.compare_once()
        assert duty.last is not None
        assert (duty.last.escrows, duty.last.differences) == ({"compared": 1}, {})

        eyes.blind_from = world.chain.height
        money = money_of(ended)
        assert money is not None
        world.chain.pay(money.address, AMOUNT)
        world.chain.mine(10)
        state = await compared(duty, node, escrow_id, item=True)
        assert [each.code for each in state.core.differences] == [Code.DEPOSIT_NOT_LOGGED]
        positions = {head.partition: head.position for head in await node.store.log.heads()}
        assert await node.models.passed("recovery", positions, timeout_s=PATIENCE_S)
        (row,) = await node.models.rows.recovery(after=None, limit=10)
        assert row.reasons == (CHAIN_DIFFERS,)

        eyes.blind_from = None
        await _until_seen(node, escrow_id, deposits=2)
        state = await compared(duty, node, escrow_id, item=False)
        assert not state.core.differences
    finally:
        await node.stop()


async def _until_seen(node: Node, escrow_id: EscrowId, *, deposits: int) -> None:
    """Waits until the log knows of so many deposits that can be spent, or were."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            state = await node.desk.state(escrow_id)
            money = money_of(state) if state else None
            if money and sum(each.unlocked for each in money.deposits.values()) >= deposits:
                return
            await asyncio.sleep(0.01)
