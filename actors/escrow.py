"""One escrow, one thing at a time: receipt, decide, append, evolve, reply."""

from typing import Protocol

import msgspec
import structlog

from actors.ports import Clock
from actors.runtime import AsyncioActor
from domain.commands import AnyCommand
from domain.decide import decide
from domain.events import AnyEvent
from domain.evolve import fold
from domain.ids import CommandId, EscrowId
from domain.refusals import Refused
from domain.states import Escrow, name
from eventstore.api import (
    AlreadyDone,
    Append,
    Appended,
    Conflict,
    EventLog,
    Fence,
    FencedOff,
    LogBusy,
    LogUnavailable,
    NewEvent,
    OutcomeUnknown,
    Receipt,
    Recorded,
)
from schemas.codec import UnknownEvent, decode, encode

log = structlog.get_logger(__name__)

CONFLICTS_MAX = 10
READ_PAGE = 1000


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A command for one escrow, with what makes it happen once."""

    command: AnyCommand
    command_id: CommandId
    body_hash: str = ""
    """Hash of the request behind it; only asks with one keep a receipt of a refusal."""
    fence: Fence | None = None
    actor: str = ""
    """Who asks, for the event's meta: a user, a seat, `timekeeper`, `watcher`."""


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag="accepted"):
    """The command was followed: where the escrow stands after it."""

    version: int
    status: str
    partition: int
    position: int


class Rejected(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """The command was refused; nothing changed."""

    code: str
    facts: dict[str, str | int]


Answer = Accepted | Rejected


class KeyReused(Exception):
    """An idempotency key came back with another body."""


class LostLease(Exception):
    """The seat lease behind a turn's result belongs to somebody else by now; nothing changed."""


class GetState(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for the state, `fresh` with what other nodes have appended by now (one read of the log)."""

    fresh: bool = False


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The present state and where the log stands with it."""

    state: Escrow | None
    position: int


class OnAppended(Protocol):
    """Somebody who is told what an escrow just recorded."""

    def __call__(self, escrow_id: EscrowId, events: tuple[AnyEvent, ...], state: Escrow) -> None: ...


class EscrowActor(AsyncioActor):
    """Holds one escrow's state, rebuilt from its stream; the only one in this process that appends to it.

    Answers `Ask` with `Answer` (raising `KeyReused` or `LostLease`) and `GetState` with `Snapshot`. State moves only
    after the append is durable.
    """

    survives = (KeyReused, LostLease, LogBusy, LogUnavailable)

    def __init__(
        self, escrow_id: EscrowId, *, event_log: EventLog, clock: Clock, on_appended: OnAppended | None = None
    ) -> None:
        super().__init__(clock=clock)
        self._id, self._log, self._clock, self._on_appended = escrow_id, event_log, clock, on_appended
        self._state: Escrow | None = None
        self._version = self._position = 0

    async def on_wake(self) -> None:
        """Reads the stream."""
        await self._catch_up()

    async def on_receive(self, message: Ask | GetState) -> Answer | Snapshot:
        """Handles one ask to its end."""
        if isinstance(message, GetState):
            if message.fresh:
                await self._catch_up()
            return Snapshot(state=self._state, position=self._position)
        known = await self._receipt(message) if message.body_hash else None
        return replayed(known, body_hash=message.body_hash) if known else await self._follow(message)

    async def _follow(self, ask: Ask) -> Answer:
        for _ in range(CONFLICTS_MAX):
            answer = await self._try(ask)
            if answer is not None:
                return answer
            await self._catch_up()
        raise LogUnavailable("conflict after conflict")

    async def _try(self, ask: Ask) -> Answer | None:
        """Decides and appends once; None when another node was first and the state must be read again."""
        decision = decide(self._state, ask.command)
        if isinstance(decision, Refused):
            return await self._refuse(ask, decision)
        if not decision:
            return await self._nothing_happened(ask)
        state = fold(decision, start=self._state)
        assert state is not None
        item = self._item(ask, decision, state)
        match await self._append(item):
            case Appended() as appended:
                self._move(state, appended)
                if self._on_appended:
                    self._on_appended(self._id, decision, state)
                return self._accepted()
            case AlreadyDone(receipt=receipt):
                await self._catch_up()
                return replayed(receipt, body_hash=ask.body_hash)
            case FencedOff():
                raise LostLease
            case Conflict():
                return None

    def _item(self, ask: Ask, events: tuple[AnyEvent, ...], state: Escrow) -> Append:
        fenced = {"fence": ask.fence.fence} if ask.fence else {}
        meta = msgspec.json.encode({"by": ask.actor} | fenced, order="deterministic")
        version = self._version + len(events)
        outcome = Accepted(version=version, status=name(state), partition=self._log.partition_of(self._id), position=0)
        return Append(
            stream_id=self._id,
            expected_version=self._version,
            events=tuple(_new_event(event, meta) for event in events),
            command_id=ask.command_id,
            body_hash=ask.body_hash,
            outcome=msgspec.json.encode(outcome),
            fence=ask.fence,
        )

    async def _append(self, item: Append) -> Appended | Conflict | AlreadyDone | FencedOff:
        try:
            return await self._log.append(item)
        except OutcomeUnknown:
            # Nothing else of this stream goes first: the receipt says whether it is durable.
            receipt = await self._log.receipt(stream_id=item.stream_id, command_id=item.command_id)
            log.warning("append_outcome_unknown", escrow=self._id, durable=receipt is not None)
            return AlreadyDone(receipt=receipt) if receipt else Conflict(actual_version=self._version)

    async def _refuse(self, ask: Ask, refused: Refused) -> Answer | None:
        rejected = Rejected(code=refused.code, facts=refused.facts)
        if not ask.body_hash:
            return None if await self._overtaken() else rejected
        return await self._receipt_alone(ask, rejected)

    async def _nothing_happened(self, ask: Ask) -> Answer | None:
        if not ask.body_hash:
            return None if await self._overtaken() else self._accepted()
        return await self._receipt_alone(ask, self._accepted())

    async def _overtaken(self) -> bool:
        """Reads what other nodes wrote, and says whether they did: where nothing is appended nothing else tells."""
        before = self._version
        await self._catch_up()
        return self._version != before

    async def _receipt_alone(self, ask: Ask, answer: Answer) -> Answer | None:
        item = Append(
            stream_id=self._id,
            expected_version=self._version,
            events=(),
            command_id=ask.command_id,
            body_hash=ask.body_hash,
            outcome=msgspec.json.encode(answer),
        )
        match await self._append(item):
            case Conflict():
                return None
            case AlreadyDone(receipt=receipt):
                return replayed(receipt, body_hash=ask.body_hash)
            case _:
                return answer

    async def _receipt(self, ask: Ask) -> Receipt | None:
        return await self._log.receipt(stream_id=self._id, command_id=ask.command_id)

    async def _catch_up(self) -> None:
        while True:
            page = await self._log.read_stream(self._id, after_version=self._version, limit=READ_PAGE)
            for recorded in page:
                assert recorded.version == self._version + 1, "a hole in the stream"
                self._state = fold([self._event(recorded)], start=self._state)
                self._version, self._position = recorded.version, recorded.position
            if len(page) < READ_PAGE:
                return

    def _event(self, recorded: Recorded) -> AnyEvent:
        try:
            return decode(type=recorded.type, schema_version=recorded.schema_version, body=recorded.body)
        except UnknownEvent as unknown:
            log.error("event_unknown", escrow=self._id, version=recorded.version, says=str(unknown))
            raise

    def _move(self, state: Escrow, appended: Appended) -> None:
        assert appended.version == state.core.version, "versions of log and state differ"
        self._state, self._version, self._position = state, appended.version, appended.position

    def _accepted(self) -> Accepted:
        assert self._state is not None
        return Accepted(
            version=self._version,
            status=name(self._state),
            partition=self._log.partition_of(self._id),
            position=self._position,
        )


def _new_event(event: AnyEvent, meta: bytes) -> NewEvent:
    encoded = encode(event)
    return NewEvent(
        type=encoded.type,
        schema_version=encoded.schema_version,
        occurred_at=event.at,
        meta=meta,
        body=encoded.body,
    )


def replayed(receipt: Receipt, *, body_hash: str) -> Answer:
    """Answers as the command was answered the first time; raises `KeyReused` for another body."""
    if receipt.body_hash != body_hash:
        raise KeyReused
    answer: Answer = msgspec.json.decode(receipt.outcome, type=Accepted | Rejected)
    if isinstance(answer, Accepted) and answer.position == 0:
        return msgspec.structs.replace(answer, position=receipt.position)
    return answer
