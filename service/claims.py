"""Claims on the streams of limits, taken in groups: whoever asks while a claim is under way shares the next append.

A stream's own version check decides between nodes. If each claim raced alone, the unlucky one of many would lose
again and again (of 200 creations at once on six nodes 3 gave up after 20 attempts, with room left); a node's claims
together race once.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence

import msgspec

from actors.desk import Desk, derived_id
from actors.directory import Parked
from actors.limit_events import event_of, new_limit_event, read_on
from domain import limits
from domain.evolve import ImpossibleHistory
from domain.ids import MICROS, CommandId, EscrowId, Micros
from domain.limits import AnyLimitEvent
from domain.refusals import Refused
from eventstore.api import Append, Appended, EventLog, LogBusy, NewEvent, OutcomeUnknown, Recorded
from schemas.codec import UnknownEvent

GROUP_MAX = 100
"""Claims in one append."""
CLAIM_S, ATTEMPTS_MIN = 10.0, 20
"""How long, and how often at least, a group loses against other nodes before its askers are told to come again."""
FULL = frozenset({"limit_concurrency", "limit_volume", "order_live"})
"""Refusals that may be undone by what is held for escrows that are over."""

Limit = Callable[[Sequence[AnyLimitEvent], frozenset[EscrowId]], limits.Decision]
"""Decides over a limit's events, given the escrows among them that are known to be over."""


class ClaimMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What a claim says about itself: who asked, and the creation it was made for."""

    by: str
    for_command: str


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """One creation's wish at one limit; a `dry` one only asks what would become of it."""

    limit: Limit
    at: Micros
    by: str
    command_id: CommandId
    dry: bool


class Claims:
    """Takes claims; one in a node, because it remembers the limits' streams."""

    def __init__(self, event_log: EventLog, desk: Desk) -> None:
        self._log, self._desk = event_log, desk
        self._remembered: dict[str, list[Recorded]] = {}
        self._groups: dict[str, _Groups] = {}

    async def ask(self, stream: str, claim: Claim) -> Refused | None:
        """Takes a claim, or says why it cannot be; raises `LogBusy` and `LogUnavailable`."""
        groups = self._groups.get(stream)
        if groups is None:
            groups = self._groups[stream] = _Groups()
            groups.task = asyncio.get_running_loop().create_task(self._work(stream, groups))
        answer: asyncio.Future[Refused | None] = asyncio.get_running_loop().create_future()
        groups.waiting.append((claim, answer))
        return await answer

    async def read(self, stream: str) -> list[Recorded]:
        """Reads a limit's stream to its end."""
        known = await read_on(self._log, stream, self._remembered.get(stream, []))
        if not stream.startswith("order-"):
            self._remembered[stream] = known
        return known

    async def _work(self, stream: str, groups: "_Groups") -> None:
        """Settles group after group until nobody asks; what one group meets is no matter of the next."""
        while group := groups.next():
            try:
                answers = await self._settle(stream, [claim for claim, _ in group])
            except Exception as error:
                for _, answer in group:
                    if not answer.done():
                        answer.set_exception(error)
            else:
                for (_, answer), refused in zip(group, answers, strict=True):
                    if not answer.done():
                        answer.set_result(refused)
        del self._groups[stream]

    async def _settle(self, stream: str, group: Sequence[Claim]) -> list[Refused | None]:
        give_up = time.monotonic() + CLAIM_S
        for attempt in itertools.count(1):
            recorded = await self.read(stream)
            answers, decided = await self._decide(group, recorded)
            if not decided or await self._append(stream, decided, after=recorded):
                return answers
            # A node that stood still has not lost: it goes again, however late it is.
            if attempt >= ATTEMPTS_MIN and time.monotonic() > give_up:
                break
        raise LogBusy(stream)

    async def _decide(
        self, group: Sequence[Claim], recorded: Sequence[Recorded]
    ) -> tuple[list[Refused | None], list[tuple[Claim, AnyLimitEvent]]]:
        """Decides claim after claim, each behind what those before it take."""
        events, dead = [event_of(each) for each in recorded], None
        answers: list[Refused | None] = []
        decided: list[tuple[Claim, AnyLimitEvent]] = []
        for claim in group:
            decision = claim.limit(events, dead or frozenset())
            if isinstance(decision, Refused) and decision.code in FULL and dead is None:
                # Who is over is looked up only when there is no room: it may ask every escrow that holds some.
                dead = await self._dead(recorded, at=claim.at)
                decision = claim.limit(events, dead)
            answers.append(decision if isinstance(decision, Refused) else None)
            if not isinstance(decision, Refused) and not claim.dry:
                events += decision
                decided += [(claim, event) for event in decision]
        return answers, decided

    async def _append(
        self, stream: str, decided: Sequence[tuple[Claim, AnyLimitEvent]], *, after: Sequence[Recorded]
    ) -> bool:
        commands = dict.fromkeys(claim.command_id for claim, _ in decided)
        item = Append(
            stream_id=stream,
            expected_version=len(after),
            events=tuple(_new_events(decided, least=after[-1].occurred_at if after else 0)),
            command_id=derived_id("claim", stream, len(after), *commands),
        )
        try:
            return isinstance(await self._log.append(item), Appended)
        except OutcomeUnknown:
            return False  # read again: the claims are there or they are not

    # -- what is held for nobody -----------------------------------------------------------------------------

    async def _dead(self, recorded: Sequence[Recorded], *, at: Micros) -> frozenset[EscrowId]:
        """Names the escrows of a limit's stream that do not count any more."""
        claims: dict[EscrowId, Recorded] = {}
        for each in recorded:
            event = event_of(each)
            if isinstance(event, limits.OrderClaimed | limits.VolumeReserved | limits.PlaceTaken):
                claims[event.escrow_id] = each
            elif isinstance(event, limits.VolumeFreed | limits.PlaceFreed):
                claims.pop(event.escrow_id, None)
        return frozenset([key for key, claim in claims.items() if await self._is_dead(key, claim, at=at)])

    async def _is_dead(self, escrow_id: EscrowId, claim: Recorded, *, at: Micros) -> bool:
        try:
            state = await self._desk.state(escrow_id)
        except (UnknownEvent, ImpossibleHistory, Parked):
            return False  # it stands still: it keeps its place until somebody has looked
        if state is not None:
            event = event_of(claim)
            return limits.frees_volume(state) if isinstance(event, limits.VolumeReserved) else limits.frees_place(state)
        meta = msgspec.json.decode(claim.meta, type=ClaimMeta)
        receipt = await self._log.receipt(stream_id=escrow_id, command_id=meta.for_command)
        if receipt is not None:
            return receipt.version == 0  # refused; else it was created, by a node that this one has not read yet
        return at >= claim.occurred_at + limits.CLAIM_UNUSED_S * MICROS


class _Groups:
    """Who waits at one stream."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Claim, asyncio.Future[Refused | None]]] = []
        self.task: asyncio.Task[None] | None = None
        """Kept here: the loop itself holds its tasks only weakly."""

    def next(self) -> list[tuple[Claim, asyncio.Future[Refused | None]]]:
        """Takes the next group out, without those who went away meanwhile."""
        self.waiting = [each for each in self.waiting if not each[1].done()]
        group, self.waiting = self.waiting[:GROUP_MAX], self.waiting[GROUP_MAX:]
        return group


def _new_events(decided: Sequence[tuple[Claim, AnyLimitEvent]], *, least: int) -> list[NewEvent]:
    """Writes the events, none earlier than the one before it."""
    written = []
    for claim, event in decided:
        least = max(event.at, least)
        later = msgspec.structs.replace(event, at=Micros(least))
        written.append(new_limit_event(later, meta=ClaimMeta(by=claim.by, for_command=claim.command_id)))
    return written
