"""Whose events they are: the three of an escrow, and the escrows of a user."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import structlog

from domain.events import EscrowCreated
from domain.ids import EscrowId, UserId
from eventstore.api import EventLog, LogUnavailable, Recorded
from projections.asking import ReadModels
from projections.folds import ESCROW_STREAM
from schemas.codec import UnknownEvent, decode

MEMBERS_MAX = 10_000
"""Escrows whose three are kept in memory, the least recently used thrown out first; about 0.5 kB each."""
RETRY_S = 0.5
_T = TypeVar("_T")

log = structlog.get_logger(__name__)


class Index(Protocol):
    """The read model of who has a seat where."""

    @property
    def positions(self) -> Sequence[int]:
        """How far it is, by partition."""

    async def reached(self, *, partition: int, position: int, timeout_s: float) -> bool:
        """Waits until it has passed a position; False when that takes too long."""

    async def escrows_of(self, user: UserId) -> Sequence[EscrowId]:
        """Names every escrow in which a user has a seat, as far as it is; raises `LogUnavailable`."""


class ModelIndex:
    """An `Index` over the read model of escrows."""

    def __init__(self, models: ReadModels) -> None:
        self._models = models

    @property
    def positions(self) -> Sequence[int]:
        """How far it is, by partition."""
        return [position for _, position in sorted(self._models.positions("escrows").items())]

    async def reached(self, *, partition: int, position: int, timeout_s: float) -> bool:
        """Waits until it has passed a position; False when that takes too long."""
        return await self._models.passed("escrows", {partition: position}, timeout_s=timeout_s)

    async def escrows_of(self, user: UserId) -> Sequence[EscrowId]:
        """Names every escrow in which a user has a seat, as far as it is."""
        return (await self._models.escrows_of(user)).escrows


class Members:
    """The three of each escrow, from its first event: they never change."""

    def __init__(self, event_log: EventLog, *, most: int = MEMBERS_MAX) -> None:
        self._log, self._most = event_log, most
        self._known: OrderedDict[str, tuple[UserId, ...]] = OrderedDict()

    async def of(self, recorded: Recorded) -> tuple[UserId, ...]:
        """Names whose event it is besides the administrators'; nobody's when its escrow cannot be read."""
        if not is_of_an_escrow(recorded):
            return ()
        known = self._known.get(recorded.stream_id)
        if known is None:
            known = _three(recorded if recorded.version == 1 else await self._first(recorded.stream_id))
            self._known[recorded.stream_id] = known
        self._known.move_to_end(recorded.stream_id)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return known

    async def _first(self, stream_id: str) -> Recorded:
        return (await patiently(lambda: self._log.read_stream(stream_id, limit=1)))[0]


def is_of_an_escrow(recorded: Recorded) -> bool:
    """Says whether an event goes out at all: those of orders, wallets and limits only move the cursor."""
    return recorded.stream_id.startswith(ESCROW_STREAM)


async def patiently(read: Callable[[], Awaitable[_T]]) -> _T:
    """Reads until the database answers."""
    while True:
        try:
            return await read()
        except LogUnavailable as broken:
            log.warning("stream_waits", error=type(broken).__name__)
            await asyncio.sleep(RETRY_S)


def _three(first: Recorded) -> tuple[UserId, ...]:
    try:
        event = decode(type=first.type, schema_version=first.schema_version, body=first.body)
    except UnknownEvent:
        return ()
    if not isinstance(event, EscrowCreated):
        return ()
    return event.terms.buyer_id, event.terms.vendor_id, event.terms.arbiter_id
