"""States of escrows as of any version, folded from the log: it is the truth, what is kept here only saves reading."""

from collections import OrderedDict

import msgspec

from domain.evolve import ImpossibleHistory, evolve
from domain.ids import EscrowId
from domain.states import Escrow
from eventstore.api import EventLog, Recorded
from schemas.codec import UnknownEvent, decode

ESCROW_STREAM = "esc_"
"""Streams of escrows begin with this; reservations and other streams concern no read model."""
KEPT_MAX = 2_000
"""States kept in memory, the least recently used given up first."""
PAGE = 1_000


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Why an escrow stands still: its history cannot be followed beyond this event."""

    version: int
    position: int
    says: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where one escrow stands after so many of its events; with a `stop` the state is the one before it."""

    escrow_id: EscrowId
    read: int = 0
    """Version of the last event looked at."""
    position: int = 0
    """Of the last event that is in the state."""
    state: Escrow | None = None
    stop: Stop | None = None


def advance(before: Standing, recorded: Recorded) -> Standing:
    """Takes the next event of an escrow; one that cannot be read or cannot follow stops this escrow, none else."""
    if before.stop is not None:
        return msgspec.structs.replace(before, read=recorded.version)
    if recorded.version != before.read + 1:
        return _stopped(before, recorded, f"version {before.read + 1} is missing")
    try:
        event = decode(type=recorded.type, schema_version=recorded.schema_version, body=recorded.body)
        state = evolve(before.state, event)
    except (UnknownEvent, ImpossibleHistory) as broken:
        return _stopped(before, recorded, f"{type(broken).__name__}: {broken}")
    return Standing(escrow_id=before.escrow_id, read=recorded.version, position=recorded.position, state=state)


def _stopped(before: Standing, recorded: Recorded, says: str) -> Standing:
    stop = Stop(version=recorded.version, position=recorded.position, says=says)
    return msgspec.structs.replace(before, read=recorded.version, stop=stop)


class Folds:
    """Finds standings, from memory where they are kept and else from the log; keeps `kept_max` at most."""

    def __init__(self, log: EventLog, *, kept_max: int = KEPT_MAX) -> None:
        self._log, self._kept_max = log, kept_max
        self._kept: OrderedDict[EscrowId, Standing] = OrderedDict()

    async def at(self, escrow_id: EscrowId, *, version: int) -> Standing:
        """Returns where an escrow stood after the event of this version, 0 for before its first."""
        known = self._kept.get(escrow_id)
        if known is None or known.read > version:
            known = Standing(escrow_id=escrow_id)
        if known.read < version:
            known = await self._read(known, until=version)
        return self.keep(known)

    def keep(self, standing: Standing) -> Standing:
        """Remembers a standing and returns it; escrows that do not exist are not remembered."""
        if standing.read:
            self._kept[standing.escrow_id] = standing
            self._kept.move_to_end(standing.escrow_id)
            if len(self._kept) > self._kept_max:
                self._kept.popitem(last=False)
        return standing

    async def _read(self, standing: Standing, *, until: int) -> Standing:
        while standing.read < until:
            limit = min(PAGE, until - standing.read)
            page = await self._log.read_stream(standing.escrow_id, after_version=standing.read, limit=limit)
            for recorded in page:
                if recorded.version > until:
                    return standing  # what should come before it is missing; whoever asked finds that out
                standing = advance(standing, recorded)
            if len(page) < limit:
                return standing
        return standing
