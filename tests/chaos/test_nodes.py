"""Three nodes on one Postgres: killed and stopped while they hold leases, they do everything once and nothing late."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from domain.ids import Address
from domain.roles import Role
from eventstore.api import Recorded
from eventstore.opening import Store
from tests.chaos.node_child import open_node_store
from tests.chaos.nodes import LIMIT_S, Nodes, People, nodes_running
from tests.chaos.wire import WireWorld
from tests.given import AMOUNT
from tests.patience import PATIENT
from tests.postgres_fixtures import PostgresServer, fresh_database
from tests.sim_world import payout_address
from tests.soak import rounds

LEASE_S = 1.5
ALLOWANCE_S = 120.0
"""For what comes after a lease is over, on a machine with other things to do: half a second on a free one."""
LIVES_AT_ONCE = 2
CALL_S = 0.02
STOPS_PER_WORLD = 100
"""Then everything is checked and the next world begins: the soak's 500 are five worlds, and what goes wrong in one is
known in a quarter of an hour."""


class Note(NamedTuple):
    """What the database said of a seat at the moment at which a stopped node was let go on."""

    stream: str
    role: str
    fence: int
    position: int
    """The end of its partition then: what lies behind it was written afterwards."""


@dataclass
class Seen:
    """What was seen in one world while nodes were stopped in it."""

    stops: int = 0
    kills: int = 0
    taken_over: int = 0
    """Stops during which another node took a slot that the stopped one still held."""
    notes: dict[tuple[str, str, int], Note] = field(default_factory=dict)
    """The first of each seat and fence: it says more than those that follow."""


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_nodes_killed_and_stopped_for_three_leases_do_everything_once_and_nothing_with_an_old_fence(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    numbers = rounds("lease-holders stopped for three leases, and one killed before each third", short=2, full=500)
    for first in numbers:
        folder = tmp_path / f"world-{first}"
        (folder / "locks").mkdir(parents=True)
        with fresh_database(postgres_server) as dsn:
            await _one_world(chain([first], islice(numbers, STOPS_PER_WORLD - 1)), dsn=dsn, folder=folder)


async def _one_world(numbers: Iterable[int], *, dsn: str, folder: Path) -> None:
    world, seen, over = WireWorld(call_s=CALL_S), Seen(), asyncio.Event()
    await world.start()
    nodes = Nodes(world=world, dsn=dsn, folder=folder, lease_s=LEASE_S)
    store = await open_node_store(dsn, name="observer", limits=PATIENT)
    # A life that fails ends the others, and the attacks.
    async with nodes_running(nodes) as people, asyncio.TaskGroup() as together:
        mining = together.create_task(people.mine())
        living = [together.create_task(_lives(people, each, over)) for each in range(LIVES_AT_ONCE)]
        for number in numbers:
            await _attack(nodes, people, store, number, seen)
        over.set()
        await asyncio.wait(living)
        mining.cancel()
    streams = {escrow_id: await store.log.read_stream(escrow_id) for each in living for escrow_id in each.result()}
    await store.aclose()
    await world.stop()
    _check(world, seen, streams)


def _check(world: WireWorld, seen: Seen, streams: Mapping[str, Sequence[Recorded]]) -> None:
    longest = max(_longest_wait(events) for events in streams.values())
    print(
        f"{seen.stops} stops, {seen.taken_over} of them taken over, {seen.kills} kills, {len(streams)} lives, "
        f"{world.refused} calls refused, {len(seen.notes)} fences noted, longest wait {longest:.1f} s",
        flush=True,
    )
    _check_money(world, len(streams))
    assert [_reminders(events) for events in streams.values()] == [1] * len(streams)
    assert _old_fences(streams, seen.notes.values()) == []
    assert longest < 3 * LEASE_S + ALLOWANCE_S


async def _lives(people: People, number: int, over: asyncio.Event) -> list[str]:
    lived: list[str] = []
    while not over.is_set():
        lived.append(await people.live(f"order-{number}-{len(lived)}"))
    return lived


async def _attack(nodes: Nodes, people: People, store: Store, number: int, seen: Seen) -> None:
    """Stops a node in the middle of its work for three leases; each third time, one is killed before that."""
    draw = random.Random(number)
    if number % 3 == 1:
        await asyncio.sleep(draw.uniform(0, 0.6))
        victim = await _holder(store, draw)
        nodes.kill(victim)
        nodes.start(victim)
        await people.answered_by(victim)
        seen.kills += 1
    await asyncio.sleep(draw.uniform(0, 0.6))
    victim = await _holder(store, draw)
    nodes.tell(victim, signal.SIGSTOP)
    held = await _slots_of(store, victim)
    await asyncio.sleep(3 * LEASE_S)
    for note in await _notes(store):
        seen.notes.setdefault((note.stream, note.role, note.fence), note)
    seen.taken_over += bool(held - await _slots_of(store, victim))
    nodes.tell(victim, signal.SIGCONT)
    seen.stops += 1


async def _holder(store: Store, draw: random.Random) -> str:
    """Names a node that holds a slot now, at work with a wallet."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            rows = (await store.slot_leases.held()).values()
            holders = sorted({row.holder for row in rows if not row.expired and row.detail})
            if holders:
                return draw.choice(holders)
            await asyncio.sleep(0.01)


async def _slots_of(store: Store, node: str) -> set[str]:
    """Names the slots that a node took last and has not given back."""
    return {name for name, row in (await store.slot_leases.held()).items() if row.holder == node and not row.released}


async def _notes(store: Store) -> list[Note]:
    rows = await store.seat_leases.held()
    ends = {head.partition: head.position for head in await store.log.heads()}  # after the rows: no earlier than they
    notes = []
    for seat, row in rows.items():
        stream, _, role = seat.rpartition("/")
        if stream.startswith("esc_"):
            notes.append(Note(stream, role, row.fence, ends[store.log.partition_of(stream)]))
    return notes


def _old_fences(streams: Mapping[str, Sequence[Recorded]], notes: Iterable[Note]) -> list[Recorded]:
    """Lists what a seat wrote with a lease that another had already taken over."""
    return [
        event
        for note in notes
        for event in streams.get(note.stream, ())
        if event.position > note.position and _seat_of(event) == note.role and _fence_of(event) < note.fence
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
