"""A node that stood still, or was overtaken, while it looked at the chain takes back nothing that others saw since."""

import asyncio
from collections.abc import Mapping, Sequence

from actors.ports import Watch, WatchTarget
from domain.chain import ChainView
from domain.events import DepositLost, DepositUnlocked
from domain.ids import EscrowId
from domain.states import money_of
from schemas.codec import decode
from tests.given import AMOUNT
from tests.sim_world import SimWorld, create, set_addresses, until, until_true


class Stopped:
    """A watch whose caller stands still between its first look at a deposit and what it does about it."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.stands, self.go_on, self.looks = asyncio.Event(), asyncio.Event(), 0

    async def look(self, targets: Sequence[WatchTarget]) -> Mapping[EscrowId, ChainView]:
        views = await self._watch.look(targets)
        if any(view.outputs for view in views.values()):
            self.stands.set()
            await self.go_on.wait()
            self.looks += 1
        return views


async def test_a_view_brought_late_takes_back_nothing() -> None:
    world = SimWorld()
    late = world.node()
    stopped = late.watcher._watch = Stopped(late.watcher._watch)
    await late.start()
    try:
        async with world.running() as node:
            escrow_id = await create(node)
            await set_addresses(node, escrow_id)
            money = money_of(await until(node, escrow_id, "awaiting_funding"))
            assert money is not None
            await until_true(lambda: escrow_id in late.watcher.watched)
            world.chain.pay(money.address, AMOUNT)
            await stopped.stands.wait()
            world.chain.mine(10)
            await until(node, escrow_id, "funded")
            stopped.go_on.set()
            await until_true(lambda: stopped.looks > 2)
            recorded = await node.store.log.read_stream(escrow_id)
            kinds = [type(decode(type=e.type, schema_version=e.schema_version, body=e.body)) for e in recorded]
            assert DepositUnlocked in kinds
            assert DepositLost not in kinds
    finally:
        await late.stop()
