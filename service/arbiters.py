"""Arbiters of one installation: what they say of themselves, who may be drawn, and the draw itself.

Both streams are decided by their own version checks, so they hold on any number of nodes.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec
import structlog

from actors.desk import derived_id
from actors.escrow import KeyReused
from actors.limit_events import READ_PAGE, event_of, new_limit_event
from domain import arbiters as d
from domain.draw import ArbiterDraw, anchor_of, drawn, link_of
from domain.ids import CommandId, EscrowId, Micros, Sealed, UserId
from domain.limits import AnyLimitEvent
from domain.refusals import Refused
from domain.terms import Terms
from eventstore.api import AlreadyDone, Append, Appended, EventLog, LogBusy, LogUnavailable, OutcomeUnknown
from schemas.sealing import SealedKind
from service.house import House

log = structlog.get_logger(__name__)

SEED_BYTES = 32
GIVE_UP_S, ATTEMPTS_MIN = 10.0, 20
"""How long, and how often at least, one loses against other nodes before being told to come again."""
SEEN_PARTS = 4
"""A sign of life counts so many times within the time that it is good for."""
QUIET_S = 900
"""How often one is written down where nobody asks for them."""
_S = TypeVar("_S")


class Arbiters:
    """One in a node, because it remembers both streams."""

    def __init__(self, house: House) -> None:
        self._house, self._log = house, house.store.log
        self._roster = _Fold(self._log, d.ARBITERS_STREAM, d.Roster(), _enrol)
        self._draws = _Fold(self._log, d.DRAWS_STREAM, d.Draws(), _enter)
        self._drawing = asyncio.Lock()

    # -- what they say of themselves ---------------------------------------------------------------------------

    def is_one(self, user: UserId) -> bool:
        """Says whether somebody may be an arbiter of this installation, at least as a delegate."""
        settings = self._house.settings
        return user in settings.arbiter_delegates or any(each.user_id == user for each in settings.arbiters)

    async def roster(self) -> d.Roster:
        """Reads what they have said, whichever node heard it; raises `LogUnavailable`."""
        return (await self._roster.read())[1]

    async def say(
        self, event: d.AnyArbiterEvent, *, by: UserId, command_id: CommandId, body_hash: str = ""
    ) -> Refused | None:
        """Takes what an arbiter says, once for a command with a body hash; nothing is added by what is known.

        Raises `KeyReused`, `LogBusy`, `LogUnavailable`.
        """
        ready_s = self._house.settings.arbiter_ready_s
        quiet_s = max(1, ready_s // SEEN_PARTS) if ready_s else QUIET_S
        for _ in range(ATTEMPTS_MIN):
            version, roster = await self._roster.read()
            event = msgspec.structs.replace(event, at=Micros(max(event.at, self._roster.last_at)))
            decided = d.decide_roster(roster, event, quiet_s=quiet_s)
            if isinstance(decided, Refused):
                return decided
            if not decided and not body_hash:
                return None
            item = _item(d.ARBITERS_STREAM, version, decided, by=by, command_id=command_id, body_hash=body_hash)
            outcome = await _appended(self._log, item)
            if isinstance(outcome, AlreadyDone) and outcome.receipt.body_hash != body_hash:
                raise KeyReused
            if isinstance(outcome, Appended | AlreadyDone):
                return None
        raise LogBusy(d.ARBITERS_STREAM)

    # -- the draw ----------------------------------------------------------------------------------------------

    async def candidates(self, parties: frozenset[UserId], *, at: Micros) -> d.Candidates:
        """Finds who may be an order's arbiter; raises `LogUnavailable`."""
        settings = self._house.settings
        return d.candidates(
            await self.roster(),
            [each.user_id for each in settings.arbiters],
            parties=parties,
            at=at,
            ready_s=settings.arbiter_ready_s,
        )

    async def draws(self) -> d.Draws:
        """Reads the chains and how far they are used; raises `LogUnavailable`."""
        return (await self._draws.read())[1]

    async def commit_ahead(self) -> None:
        """Commits to the first chain before there is any order; raises `LogUnavailable`, `LogBusy`."""
        if not (await self.draws()).chains:
            await self._take(None, at=Micros(self._house.clock.now()))

    async def draw(self, terms: Terms, among: d.Candidates, *, at: Micros) -> ArbiterDraw:
        """Draws with the next link; asked again for the same escrow it is the same link.

        Raises `LogBusy`, `LogUnavailable`.
        """
        async with self._drawing:  # a node's draws race other nodes', not each other
            draws = await self._take(terms.escrow_id, at=at)
        number, link = draws.taken[terms.escrow_id]
        chain = draws.chains[number - 1]
        secret = link_of(await self._open(number, chain.seed), link)
        return ArbiterDraw(
            chain=number,
            anchor=chain.anchor,
            link=link,
            secret=secret,
            eligible=among.eligible,
            excluded=among.excluded,
        )

    async def _take(self, escrow_id: EscrowId | None, *, at: Micros) -> d.Draws:
        """Takes the next link for an escrow; without one it only sees to it that there is a chain."""
        give_up = time.monotonic() + GIVE_UP_S
        for attempt in itertools.count(1):
            version, draws = await self._draws.read()
            if escrow_id in draws.taken or (escrow_id is None and draws.chains):
                return draws
            events = await self._next(draws, escrow_id, at=Micros(max(at, self._draws.last_at)))
            command_id = derived_id("draw", escrow_id or "", version)
            await _appended(self._log, _item(d.DRAWS_STREAM, version, events, by=UserId("draw"), command_id=command_id))
            if attempt >= ATTEMPTS_MIN and time.monotonic() > give_up:
                raise LogBusy(d.DRAWS_STREAM)
        raise AssertionError

    async def _next(self, draws: d.Draws, escrow_id: EscrowId | None, *, at: Micros) -> list[d.AnyDrawEvent]:
        number = draws.current
        if number is None or escrow_id is None:
            return [await self._commit(len(draws.chains) + 1, at=at)]
        link = draws.chains[number - 1].taken + 1
        taken = d.LinkTaken(at=at, chain=number, link=link, escrow_id=escrow_id)
        # The chain after this one is committed to long before an order could be known that will use it.
        ahead = [await self._commit(number + 1, at=at)] if number == len(draws.chains) else []
        return [taken, *ahead]

    async def _commit(self, number: int, *, at: Micros) -> d.ChainCommitted:
        seed = secrets.token_bytes(SEED_BYTES)
        sealed = await self._house.store.vault.seal(
            d.DRAWS_STREAM, event=SealedKind.DRAW_SEED, field=str(number), plain=seed
        )
        return d.ChainCommitted(at=at, chain=number, anchor=anchor_of(seed), seed=Sealed(sealed))

    async def _open(self, number: int, sealed: Sealed) -> bytes:
        vault = self._house.store.vault
        return await vault.open(d.DRAWS_STREAM, event=SealedKind.DRAW_SEED, field=str(number), sealed=sealed)


def with_arbiter(terms: Terms, draw: ArbiterDraw) -> Terms:
    """Names the arbiter that a draw leads to."""
    arbiter = drawn(terms, secret=draw.secret, eligible=draw.eligible)
    return msgspec.structs.replace(terms, arbiter_id=arbiter)


class _Fold(Generic[_S]):
    """One stream, folded as far as it was read: of what was read it keeps the state alone."""

    def __init__(self, event_log: EventLog, stream: str, state: _S, apply: Callable[[_S, AnyLimitEvent], _S]) -> None:
        self._log, self._stream, self._apply = event_log, stream, apply
        self._version, self._state = 0, state
        self.last_at = Micros(0)

    async def read(self) -> tuple[int, _S]:
        """Reads on to the stream's end; returns its version and the state."""
        while page := await self._log.read_stream(self._stream, after_version=self._version, limit=READ_PAGE):
            for each in page:
                if each.version != self._version + 1:
                    continue  # somebody else read on meanwhile
                event = event_of(each)
                self._state, self._version = self._apply(self._state, event), each.version
                self.last_at = event.at
        return self._version, self._state


def _enrol(state: d.Roster, event: AnyLimitEvent) -> d.Roster:
    assert isinstance(event, d.AnyArbiterEvent)
    return d.enrol(state, event)


def _enter(state: d.Draws, event: AnyLimitEvent) -> d.Draws:
    assert isinstance(event, d.AnyDrawEvent)
    return d.enter(state, event)


def _item(
    stream: str,
    version: int,
    events: Sequence[AnyLimitEvent],
    *,
    by: UserId,
    command_id: CommandId,
    body_hash: str = "",
) -> Append:
    return Append(
        stream_id=stream,
        expected_version=version,
        events=tuple(new_limit_event(event, meta={"by": by}) for event in events),
        command_id=command_id,
        body_hash=body_hash,
    )


async def _appended(event_log: EventLog, item: Append) -> object:
    try:
        return await event_log.append(item)
    except OutcomeUnknown:
        raise LogUnavailable(item.stream_id) from None
