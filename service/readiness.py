"""Shows addresses to pay to once their arbiters are there: readiness is asked again before any money comes."""

import structlog

from actors.desk import Desk, derived_id
from actors.ports import Clock
from actors.seat import LATER
from domain import commands as c
from domain.arbiters import Roster, unfit
from domain.ids import EscrowId, Micros, UserId
from eventstore.api import LogUnavailable
from projections.api import ModelReader
from projections.rows import EscrowRow
from service.arbiters import Arbiters

log = structlog.get_logger(__name__)

LOOK_S = 2.0
PAGE_MAX = 1_000
ACTOR = "readiness"


class ReadinessKeeper:
    """One in a node, all at once: the first that finds an arbiter ready says so, the others change nothing.

    A holiday and a declared conflict keep an address back as well as an arbiter who is nowhere to be seen: what was
    found out since the escrow was created still harms nobody.
    """

    def __init__(self, arbiters: Arbiters, *, rows: ModelReader, desk: Desk, clock: Clock) -> None:
        self._arbiters, self._rows, self._desk, self._clock = arbiters, rows, desk, clock
        self._told: dict[EscrowId, Micros] = {}
        """Of which sign of life each escrow that still waits was told: it grows older, and serves no better later."""

    async def run(self) -> None:
        """Looks again and again until cancelled."""
        while True:
            try:
                await self.look()
            except LogUnavailable as broken:
                log.warning("readiness_not_looked", error=type(broken).__name__)
            except Exception as broken:  # it may pass, and without this nobody shows any address until a restart
                log.error("readiness_not_looked", error=type(broken).__name__)
            await self._clock.sleep(LOOK_S)

    async def look(self) -> None:
        """Tells every escrow that awaits its arbiter of one who is there; raises `LogUnavailable`."""
        after: EscrowId | None = None
        told = dict[EscrowId, Micros]()
        while page := await self._rows.unready(after=after, limit=PAGE_MAX):
            roster, at = await self._arbiters.roster(), Micros(self._clock.now())
            for row in page:
                seen_at = _seen(roster, row, at=at)
                known = seen_at == self._told.get(row.escrow_id)
                if seen_at is not None and (known or await self._tell(row.escrow_id, seen_at=seen_at, at=at)):
                    told[row.escrow_id] = seen_at
            after = page[-1].escrow_id
        self._told = told

    async def _tell(self, escrow_id: EscrowId, *, seen_at: Micros, at: Micros) -> bool:
        """Says whether the escrow has heard it, whatever it thought of it."""
        command = c.ReportArbiterReady(at=at, seen_at=min(seen_at, at))
        try:
            await self._desk.handle(
                escrow_id, command, command_id=derived_id(escrow_id, "arbiter_ready", seen_at), actor=ACTOR
            )
        except LATER as later:
            log.warning("readiness_waits", escrow=escrow_id, error=type(later).__name__)
        except Exception as broken:  # what is wrong with one escrow must not keep the others' addresses back
            log.error("readiness_not_told", escrow=escrow_id, error=type(broken).__name__)
        else:
            return True
        return False


def _seen(roster: Roster, row: EscrowRow, *, at: Micros) -> Micros | None:
    """Returns when a fit arbiter was last seen; whether that is lately enough, the escrow's own terms say."""
    parties = frozenset[UserId]({row.buyer_id, row.vendor_id})
    if unfit(roster, row.arbiter_id, parties=parties, at=at, ready_s=0) is not None:
        return None
    return roster.seen.get(row.arbiter_id)
