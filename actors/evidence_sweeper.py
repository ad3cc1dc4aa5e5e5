"""Clears away evidence that no event names: what a crash left before its event, and what was shredded."""

import structlog

from actors.ports import Clock
from eventstore.evidence import EvidenceBlocks, EvidenceUnavailable

log = structlog.get_logger(__name__)

ORPHAN_AGE_S = 24 * 3_600.0
"""Far longer than anybody takes from storing a picture to its event."""


class EvidenceSweeper:
    """Sweeps each `look_s` seconds; several nodes may."""

    def __init__(self, blocks: EvidenceBlocks, *, clock: Clock, look_s: float = 3_600.0) -> None:
        self._blocks, self._clock, self._look_s = blocks, clock, look_s

    async def run(self) -> None:
        """Sweeps until cancelled."""
        while True:
            await self._clock.sleep(self._look_s)
            try:
                gone = await self._blocks.sweep(older_than_s=ORPHAN_AGE_S)
            except EvidenceUnavailable as away:
                log.warning("sweeping_waits", error=type(away).__name__)
            else:
                log.info("evidence_swept", count=len(gone))
