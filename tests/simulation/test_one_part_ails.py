"""What ails in one place stays there: a database that is away for a moment, one escrow that cannot be read."""

import asyncio

import msgspec

from domain.ids import EscrowId
from domain.roles import THREE
from domain.states import AwaitingFunding, Completed
from eventstore.api import Append, EventLog, Lease, LeaseRow, Leases, LogUnavailable, NewEvent
from eventstore.opening import memory_store
from service.node import Node
from tests.given import AMOUNT
from tests.sim_world import SimWorld, create, pay_in, play_release, set_addresses, until, until_true


class LeasesAway:
    """Leases whose database does not answer every third call."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self.refused = 0
        self._calls = 0

    async def acquire(self, name: str, *, holder: str, seconds: float, detail: str = "") -> Lease | None:
        self._answer_or_not()
        return await self._leases.acquire(name, holder=holder, seconds=seconds, detail=detail)

    async def renew(self, lease: Lease) -> bool:
        self._answer_or_not()
        return await self._leases.renew(lease)

    async def release(self, lease: Lease) -> None:
        self._answer_or_not()
        await self._leases.release(lease)

    async def held(self) -> dict[str, LeaseRow]:
        return dict(await self._leases.held())

    def _answer_or_not(self) -> None:
        self._calls += 1
        if self._calls % 3 == 0:
            self.refused += 1
            raise LogUnavailable("away")


async def test_leases_that_do_not_answer_cost_time_and_nothing_else() -> None:
    store = memory_store(partitions=4)
    away = LeasesAway(store.slot_leases), LeasesAway(store.seat_leases)
    world = SimWorld()
    ailing = msgspec.structs.replace(store, slot_leases=away[0], seat_leases=away[1])
    async with world.running(store=ailing) as node:
        escrow_id = await create(node)
        await set_addresses(node, escrow_id)
        await pay_in(world, node, escrow_id)
        assert isinstance(await play_release(world, node, escrow_id), Completed)
        await until_true(lambda: all(counts.free == counts.total for counts in node.slot_counts().values()))
        assert node.problems == []
    assert all(each.refused > 2 for each in away)


async def test_an_escrow_that_cannot_be_read_blinds_nobody_else() -> None:
    world = SimWorld()
    async with world.running() as node:
        ill, well = await create(node, escrow_id="esc_ill"), await create(node, escrow_id="esc_well")
        for escrow_id in (ill, well):
            await set_addresses(node, escrow_id)
            stopped_at = await until(node, ill, "awaiting_funding")
            await until(node, escrow_id, "awaiting_funding")
        await node.store.log.append(await _unreadable(node.store.log, ill))
    async with world.running() as node:
        assert isinstance(stopped_at, AwaitingFunding)
        world.chain.pay(stopped_at.money.address, AMOUNT)  # now the watcher has something to tell it
        await pay_in(world, node, well)
        assert isinstance(await play_release(world, node, well), Completed)
        assert [problem for problem in node.problems if "ended" in problem] == []


async def test_no_wallet_is_made_while_the_daemon_is_away() -> None:
    world = SimWorld()
    world.chain.online = False
    async with world.running() as node:
        escrow_id = await create(node)
        await set_addresses(node, escrow_id)
        await _until_seated(node, escrow_id)
        await asyncio.sleep(0.5)
        assert [folder.keys for folder in world.folders.values()] == [{}, {}, {}]
        world.chain.online = True
        await pay_in(world, node, escrow_id)
        assert isinstance(await play_release(world, node, escrow_id), Completed)


async def _until_seated(node: Node, escrow_id: EscrowId) -> None:
    async with asyncio.timeout(120):
        while (state := await node.desk.state(escrow_id)) is None or set(state.core.seats) != set(THREE):
            await asyncio.sleep(0.01)


async def _unreadable(log: EventLog, escrow_id: EscrowId) -> Append:
    version = len(await log.read_stream(escrow_id))
    event = NewEvent(type="from_the_future", schema_version=1, occurred_at=0, meta=b"{}", body=b"{}")
    return Append(stream_id=escrow_id, expected_version=version, events=(event,), command_id="f" * 64)
