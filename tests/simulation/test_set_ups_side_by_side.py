"""Set-ups of different escrows wait for each other for a slot and for nothing else: there is no lock they share.

On a clock that passes only while somebody waits, a set-up takes exactly as long as its wallet calls and its waits: ten
at once take what one takes, unless something makes one wait for another.
"""

import asyncio

import structlog

from actors.simulation.faults import Fault
from domain.roles import THREE, Role
from eventstore.memory import MemoryTables
from eventstore.opening import memory_store
from service.node import Node, NodeLimits
from tests.sim_world import SimWorld, create, until
from tests.warp import WarpClock, WarpLoop

AT_ONCE = 10
CALL_S = 0.5
CALLS_MAX = 1_000
HUNG_S = 200.0
"""Less than the longest call may take."""
LINE_S = AT_ONCE * CALL_S
"""The line for a role's slots offers one at a time, and each look at one takes a call: the last waits for all looks."""


def test_ten_set_ups_at_once_take_as_long_as_one() -> None:
    assert _seconds_of(AT_ONCE) <= _seconds_of(1) + LINE_S


def test_a_set_up_whose_wallet_hangs_holds_up_no_other() -> None:
    alone = _seconds_of(1)
    assert _seconds_of(AT_ONCE, hung=1) <= alone + LINE_S


def test_with_a_slot_too_few_one_waits_for_another_and_the_clock_shows_it() -> None:
    assert _seconds_of(2, slots=1) >= 2 * _seconds_of(1)


def test_where_buyers_have_more_slots_than_the_others_set_ups_still_follow_one_after_another() -> None:
    # Served in the order in which seats asked, each of these held a slot and waited for another's: 418 s, not 127.
    assert _seconds_of(9, slots=3, others=1) <= 12 * _seconds_of(1)


def _seconds_of(escrows: int, *, slots: int = AT_ONCE, others: int | None = None, hung: int = 0) -> float:
    """Sets up so many escrows at once, and more that hang; returns the seconds until the last has its address.

    Each role has as many slots, and more for those that hang; vendors and arbiters `others`, where that is given.
    """
    structlog.configure(processors=[_drop])
    try:
        with asyncio.Runner(loop_factory=WarpLoop) as runner:
            return runner.run(_set_up(escrows, slots=slots + hung, others=others or slots + hung, hung=hung))
    finally:
        structlog.reset_defaults()


async def _set_up(escrows: int, *, slots: int, others: int, hung: int) -> float:
    clock = WarpClock()
    store = memory_store(partitions=4, tables=MemoryTables(partitions=4, clock=clock.now))
    limits = NodeLimits(prime_at_once=0)
    world = SimWorld(store=lambda: store, slots_per_role=slots, clock=clock, limits=limits)
    for role, wallets in world.wallets.items():
        del wallets[slots if role is Role.BUYER else others :]
        for wallet in wallets:
            wallet.faults.plan("*", Fault.LATE, times=CALLS_MAX, seconds=CALL_S)
    async with world.running() as node:
        await asyncio.sleep(LINE_S)  # every slot was looked at
        for number in range(hung):
            await _hang(world, node, number)
        begun = asyncio.get_running_loop().time()
        ids = [await create(node, escrow_id=f"esc_{number}") for number in range(escrows)]
        await asyncio.gather(*(until(node, each, "awaiting_funding", timeout_s=HUNG_S) for each in ids))
        return asyncio.get_running_loop().time() - begun


async def _hang(world: SimWorld, node: Node, number: int) -> None:
    """Begins a set-up whose wallets then answer nothing for a long time."""
    await create(node, escrow_id=f"esc_hung_{number}")
    busy: set[object] = set()
    async with asyncio.timeout(HUNG_S):
        while len(busy) < len(THREE):
            busy = {wallet for role in THREE for wallet in world.wallets[role] if wallet.opened}
            await asyncio.sleep(0.1)
    for role in THREE:
        for wallet in world.wallets[role]:
            if wallet in busy:
                wallet.faults.plan("make_multisig", Fault.LATE, seconds=HUNG_S)


def _drop(*_: object) -> str:
    raise structlog.DropEvent
