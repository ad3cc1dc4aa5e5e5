"""What the edges ask: rows of the read models, and how fresh they are."""

from collections.abc import Mapping, Sequence

import msgspec

from domain.ids import EscrowId, UserId
from eventstore.api import EventLog
from projections.api import ModelReader
from projections.runner import Runner


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """The escrows in which somebody has a seat, complete up to these positions."""

    escrows: Sequence[EscrowId]
    positions: Mapping[int, int]


class ReadModels:
    """The reading half of one node. `rows` answers from the live generations, as far as they are."""

    def __init__(self, event_log: EventLog, rows: ModelReader, runner: Runner) -> None:
        self._log, self.rows, self._runner = event_log, rows, runner

    async def escrows_of(self, user: UserId) -> Membership:
        """Names every escrow in which a user has a seat, with how far that index is."""
        positions = self.positions("escrows")  # read first: the rows may only be further
        return Membership(escrows=await self.rows.escrows_of(user), positions=positions)

    def positions(self, model: str) -> Mapping[int, int]:
        """How far a model is known to be, by partition."""
        return self._runner.positions(model)

    async def passed(self, model: str, positions: Mapping[int, int], *, timeout_s: float) -> bool:
        """Waits until a model has passed these positions; False when it takes too long."""
        return await self._runner.reached(model, positions, timeout_s=timeout_s)

    async def ends(self) -> Mapping[int, int]:
        """Where the log ends now, by partition; raises `LogUnavailable`."""
        return {head.partition: head.position for head in await self._log.heads()}

    async def passed_all(self, model: str, *, timeout_s: float) -> bool:
        """Waits until a model has passed everything that is in the log now, whoever wrote it."""
        return await self.passed(model, await self.ends(), timeout_s=timeout_s)
