"""Asks escrows for what is due: each deadline fires once, on any number of nodes, and is made up for after downtime."""

from collections.abc import AsyncIterator, Callable

import structlog

from actors.desk import Desk, derived_id
from actors.ports import Clock
from actors.seat import LATER
from domain import commands as c
from domain.deadlines import Outages
from domain.ids import EscrowId, Micros
from eventstore.api import LogUnavailable

log = structlog.get_logger(__name__)

Due = Callable[[Micros], AsyncIterator[tuple[EscrowId, str, Micros]]]
"""Escrow, kind and moment of every deadline up to a moment, soonest first, as far as the read model is."""


class Timekeeper:
    """Looks through the read model's deadlines every `look_s` seconds."""

    def __init__(
        self,
        *,
        desk: Desk,
        due: Due,
        outages: Callable[[], Outages],
        clock: Clock,
        look_s: float = 1.0,
    ) -> None:
        self._desk, self._due, self._outages, self._clock, self._look_s = desk, due, outages, clock, look_s

    async def run(self) -> None:
        """Keeps time until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(self._look_s)

    async def look(self) -> None:
        """Asks every escrow with a deadline behind it for what is due; the escrow itself decides."""
        now, asked = Micros(self._clock.now()), set[EscrowId]()
        try:
            async for escrow_id, kind, due in self._due(now):
                if escrow_id not in asked:
                    asked.add(escrow_id)
                    await self._ask(escrow_id, kind, due, now)
        except LogUnavailable as broken:
            log.warning("deadlines_not_read", error=type(broken).__name__)

    async def _ask(self, escrow_id: EscrowId, kind: str, due: Micros, now: Micros) -> None:
        command = c.PassTime(at=now, outages=self._outages())
        command_id = derived_id(escrow_id, "time", kind, due)
        try:
            await self._desk.handle(escrow_id, command, command_id=command_id, actor="timekeeper")
        except LATER as later:
            log.warning("deadline_waits", escrow=escrow_id, error=type(later).__name__)
        except Exception as broken:  # what is wrong with one escrow must not stop the clock of the others
            log.error("deadline_not_asked", escrow=escrow_id, error=type(broken).__name__)
