"""Three nodes on one Postgres: killed and stopped while they hold leases, they do everything once and nothing late."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import pytest_asyncio

from domain.ids import Address
from domain.roles import Role
from eventstore.api import Recorded
from eventstore.opening import Store
from tests.chaos.node_child import open_node_store
from tests.chaos.nodes import LIMIT_S, Nodes, People, nodes_running
from tests.chaos.wire import WireWorld
from tests.given import AMOUNT
from tests.patience import PATIENT
from tests.sim_world import payout_address
from tests.soak import rounds

LEASE_S = 1.5
ALLOWANCE_S = 120.0
"""For what comes after a lease is over, on a machine with other things to do: half a second on a free one."""
LIVES_AT_ONCE = 2
CALL_S = 0.02


class Note(NamedTuple):
    """What the database said of a seat at the moment at which a stopped node was let go on."""

    stream: str
    role: str
    fence: int
    version: int


@pytest_asyncio.fixture
async def world() -> AsyncIterator[WireWorld]:
    world = WireWorld(call_s=CALL_S)
    await world.start()
    yield world
    await world.stop()


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_nodes_killed_and_stopped_for_three_leases_do_everything_once_and_nothing_with_an_old_fence(
    world: WireWorld, postgres_dsn: str, tmp_path: Path
) -> None:
    (tmp_path / "locks").mkdir()
    nodes = Nodes(world=world, dsn=postgres_dsn, folder=tmp_path, lease_s=LEASE_S)
    store = await open_node_store(postgres_dsn, name="observer", limits=PATIENT)
    over = asyncio.Event()
    async with nodes_running(nodes) as people:
        mining = asyncio.create_task(people.mine())
        living = [asyncio.create_task(_lives(people, each, over)) for each in range(LIVES_AT_ONCE)]
        notes = []
        for number in rounds("lease-holders stopped for three leases, one in three of them killed", short=3, full=500):
            notes += await _attack(nodes, people, store, number)
        over.set()
        async with asyncio.timeout(600):
            lived = [escrow_id for each in await asyncio.gather(*living) for escrow_id in each]
        mining.cancel()
    streams = {escrow_id: await store.log.read_stream(escrow_id) for escrow_id in lived}
    await store.aclose()
    longest = max(_longest_wait(events) for events in streams.values())
    print(f"{len(lived)} lives, {world.refused} calls refused, longest wait {longest:.1f} s")
    _check_money(world, len(lived))
    assert [_reminders(events) for events in streams.values()] == [1] * len(lived)
    assert _old_fences(streams, notes) == []
    assert longest < 3 * LEASE_S + ALLOWANCE_S


async def _lives(people: People, number: int, over: asyncio.Event) -> list[str]:
    lived: list[str] = []
    while not over.is_set():
        lived.append(await people.live(f"order-{number}-{len(lived)}"))
    return lived


async def _attack(nodes: Nodes, people: People, store: Store, number: int) -> list[Note]:
    """Stops a node in the middle of its work for three leases, or kills it; returns what was so when it went on."""
    draw = random.Random(number)
    await asyncio.sleep(draw.uniform(0, 0.6))
    victim = await _holder(store, draw)
    if number % 3 == 1:
        nodes.kill(victim)
        nodes.start(victim)
        await people.answered_by(victim)
        return []
    nodes.tell(victim, signal.SIGSTOP)
    await asyncio.sleep(3 * LEASE_S)
    notes = await _notes(store)
    nodes.tell(victim, signal.SIGCONT)
    return notes


async def _holder(store: Store, draw: random.Random) -> str:
    """Names a node that holds a slot now, at work with a wallet."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            rows = (await store.slot_leases.held()).values()
            holders = sorted({row.holder for row in rows if not row.expired and row.detail})
            if holders:
                return draw.choice(holders)
            await asyncio.sleep(0.01)


async def _notes(store: Store) -> list[Note]:
    notes = []
    for seat, row in (await store.seat_leases.held()).items():
        stream, _, role = seat.rpartition("/")
        if stream.startswith("esc_"):
            notes.append(Note(stream, role, row.fence, len(await store.log.read_stream(stream))))
    return notes


def _old_fences(streams: dict[str, Sequence[Recorded]], notes: Sequence[Note]) -> list[Recorded]:
    """Lists what a seat wrote with a lease that another had already taken over."""
    return [
        event
        for note in notes
        for event in streams.get(note.stream, ())
        if event.version > note.version and _seat_of(event) == note.role and _fence_of(event) < note.fence
    ]


def _seat_of(event: Recorded) -> str:
    return str(msgspec.json.decode(event.meta)["by"]).removeprefix("seat:")


def _fence_of(event: Recorded) -> int:
    return int(msgspec.json.decode(event.meta)["fence"])


def _longest_wait(events: Sequence[Recorded]) -> float:
    """Seconds between two events of one life, by the database's clock."""
    return max(later.recorded_at - earlier.recorded_at for earlier, later in pairwise(events)) / 1_000_000


def _reminders(events: Sequence[Recorded]) -> int:
    return Counter(event.type for event in events)["reminder_due"]


def _check_money(world: WireWorld, lives: int) -> None:
    payouts = world.payouts()
    assert len(payouts) == lives
    paid = {role: world.paid_to(Address(payout_address(role))) for role in Role}
    fees = sum(payout.fee for payout in payouts)
    assert paid == {Role.BUYER: 0, Role.VENDOR: lives * AMOUNT - fees, Role.ARBITER: 0}
    assert world.chain.nonce_reuses == []
