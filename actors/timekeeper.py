"""Asks escrows for what is due: each deadline fires once, on any number of nodes, and is made up for after downtime."""

from collections.abc import Callable, Iterable

import structlog

from actors.desk import Desk, derived_id
from actors.ports import Clock
from actors.seat import LATER
from domain import commands as c
from domain.deadlines import Deadline, Outages, deadlines
from domain.ids import EscrowId, Micros
from domain.states import Escrow

log = structlog.get_logger(__name__)

LiveEscrows = Callable[[], Iterable[tuple[EscrowId, Escrow]]]


class Timekeeper:
    """Looks through the read model's deadlines every `look_s` seconds."""

    def __init__(
        self,
        *,
        desk: Desk,
        live: LiveEscrows,
        outages: Callable[[], Outages],
        clock: Clock,
        look_s: float = 1.0,
    ) -> None:
        self._desk, self._live, self._outages, self._clock, self._look_s = desk, live, outages, clock, look_s

    async def run(self) -> None:
        """Keeps time until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(self._look_s)

    async def look(self) -> None:
        """Asks every escrow with a deadline behind it for what is due; the escrow itself decides."""
        now = Micros(self._clock.now())
        for escrow_id, state in list(self._live()):
            soonest = next(iter(deadlines(state)), None)
            if soonest is not None and soonest.due <= now:
                await self._ask(escrow_id, soonest, now)

    async def _ask(self, escrow_id: EscrowId, deadline: Deadline, now: Micros) -> None:
        command = c.PassTime(at=now, outages=self._outages())
        command_id = derived_id(escrow_id, "time", deadline.kind, deadline.due)
        try:
            await self._desk.handle(escrow_id, command, command_id=command_id, actor="timekeeper")
        except LATER as later:
            log.warning("deadline_waits", escrow=escrow_id, error=type(later).__name__)
        except Exception as broken:  # what is wrong with one escrow must not stop the clock of the others
            log.error("deadline_not_asked", escrow=escrow_id, error=type(broken).__name__)
