"""kill -9 of Postgres at several points of one life, the node running on: it waits, and goes on to the same end."""

import asyncio
import time
from typing import Any, cast

import msgspec

from actors.mail import AskTimeout
from domain.evolve import fold
from domain.ids import EscrowId
from domain.roles import Role
from domain.setup import payin_address
from domain.states import Completed, money_of, name
from eventstore.api import Append, Appended, LogBusy, LogUnavailable, Outcome, OutcomeUnknown, Recorded
from eventstore.chain import GENESIS, verify_chain
from eventstore.memory import MemoryLog
from eventstore.opening import Store
from schemas.codec import decode
from service.node import Node
from tests.chaos.child import PARTITIONS, Ending, do_what_is_awaited, open_killed_store, signature_of
from tests.given import AMOUNT
from tests.killed_postgres import Database
from tests.sim_world import SimWorld, payout_address

ESCROW = EscrowId("esc_pg")
LIFE_S = 400.0
LATER = (LogUnavailable, LogBusy, OutcomeUnknown, AskTimeout)
"""What a person is answered while the database is down: they try again."""

POINTS = {
    "wallet_claimed/buyer": "before the set-up",
    "setup_message_given/vendor/make": "between two rounds",
    "export_given/arbiter": "while it is being funded",
    "shipped": "while funded",
    "call_intended/buyer/cosign": "before the signature is announced",
    "payout_signed": "before the signature is in the log",
    "call_intended/buyer/broadcast": "before the broadcast",
}


class DeadlyLog:
    """A log whose database dies when an append of a certain kind comes: just before it, or while it is under way."""

    def __init__(self, log: Any, database: Database) -> None:
        self._log, self._database = log, database
        self.left = dict(POINTS)
        self.acknowledged: set[tuple[str, int, str]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, item: Append) -> Outcome:
        """Appends; the caller hears what it would hear of a log whose database is gone."""
        point = next((point for point in self.left if point in signature_of(item)), None)
        if point is not None:
            del self.left[point]
            await self._kill(item)
        outcome: Outcome = await self._log.append(item)
        if isinstance(outcome, Appended):
            self.acknowledged.add((item.stream_id, outcome.version, item.command_id))
        return outcome

    async def _kill(self, item: Append) -> None:
        await self._database.back()
        if self._database.kills % 2:
            asyncio.get_running_loop().call_later(0.001, lambda: asyncio.ensure_future(self._database.killed()))
        else:
            await self._database.killed()


async def test_an_escrow_survives_kills_of_postgres_while_the_node_runs_on(database: Database) -> None:
    store = await open_killed_store(await database.start())
    deadly = DeadlyLog(store.log, database)
    world = SimWorld()
    async with world.running(store=msgspec.structs.replace(store, log=cast(MemoryLog, deadly))) as node:
        began = time.monotonic()
        await _play(world, node)
        print(f"{database.kills} kills of Postgres in {time.monotonic() - began:.1f} s")
        assert node.problems == []
    assert deadly.left == {}
    state = await _audited(store, deadly)
    await store.aclose()
    assert isinstance(state, Completed)
    _check_money(world, state)


async def _play(world: SimWorld, node: Node) -> None:
    async with asyncio.timeout(LIFE_S):
        while True:
            try:
                if await _ended(world, node):
                    return
            except LATER:
                pass
            await asyncio.sleep(0.02)


async def _ended(world: SimWorld, node: Node) -> bool:
    state = await node.desk.state(ESCROW)
    if isinstance(state, Completed):
        return True
    await do_what_is_awaited(node, state, ending=Ending.RELEASE, escrow_id=ESCROW)
    if state is not None and (address := payin_address(state)):
        if name(state) == "awaiting_funding" and not _paid(world, address):
            world.chain.pay(address, AMOUNT)
        world.chain.mine(1)
    return False


def _paid(world: SimWorld, address: str) -> bool:
    mined = [tx for block in world.chain.blocks_from(0) for tx in block.txs]
    return any(output.address == address for tx in (*mined, *world.chain.pool.values()) for output in tx.outputs)


async def _audited(store: Store, deadly: DeadlyLog) -> object:
    recorded: list[Recorded] = []
    for partition in range(PARTITIONS):
        events = await store.log.read_partition(partition, after_position=0)
        verify_chain(GENESIS, events)
        recorded += events
    assert deadly.acknowledged <= {(each.stream_id, each.version, each.command_id) for each in recorded}
    events = await store.log.read_stream(ESCROW)
    return fold([decode(type=each.type, schema_version=each.schema_version, body=each.body) for each in events])


def _check_money(world: SimWorld, state: Completed) -> None:
    mined = [tx for block in world.chain.blocks_from(0) for tx in block.txs]
    (paid,) = [tx for tx in (*mined, *world.chain.pool.values()) if tx.inputs]
    assert paid.hash == state.tx_hash
    receivers = [(output.address, output.amount) for output in paid.outputs if output.amount]
    assert receivers == [(payout_address(Role.VENDOR), AMOUNT - paid.fee)]
    assert world.chain.nonce_reuses == []
    assert money_of(state) is not None
