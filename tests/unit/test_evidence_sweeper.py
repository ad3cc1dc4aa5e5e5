"""When what no event names is cleared away."""

import asyncio

from actors.clock import VirtualClock
from actors.evidence_sweeper import ORPHAN_AGE_S, EvidenceSweeper
from domain.ids import EscrowId
from eventstore.evidence_memory import MemoryEvidence
from eventstore.memory import MemoryTables

LOOK_S = 3_600.0


async def test_an_orphan_lies_for_a_day_and_is_gone_at_the_look_after() -> None:
    clock = VirtualClock(start=1_000_000)
    blocks = MemoryEvidence(MemoryTables(partitions=1, clock=clock.now))
    await blocks.add(EscrowId("esc_1"), b"left by a crash")
    sweeping = asyncio.create_task(EvidenceSweeper(blocks, clock=clock, look_s=LOOK_S).run())
    await clock.advance(ORPHAN_AGE_S - LOOK_S)
    assert len(blocks.kept) == 1
    await clock.advance(2 * LOOK_S)
    assert not blocks.kept
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)
