"""Group commit: one appender per node and partition writes whatever is waiting in one call."""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from typing import Protocol

import msgspec

from eventstore.api import (
    Append,
    AppendRejected,
    LogBusy,
    LogUnavailable,
    Outcome,
    OutcomeUnknown,
)
from eventstore.chain import SALT_BYTES
from eventstore.plan import Hashed, Known, Plan, Written, assumed, plan_group

COMMIT_ATTEMPTS_MAX = 100
"""How often a group is judged anew because other nodes were faster, before its callers are told to wait."""

RIVAL_GROUPS = 8
"""How many groups in a row find the head where this node left it before it hashes ahead again."""

_NOTHING = Written(position=0, recorded_at=0, hashed=Hashed(behind=b"", leaves=(), chains=()))
_log = logging.getLogger(__name__)


class AnswerLost(Exception):
    """A call was sent and no answer came back: what it wrote is durable or it is not."""


class KeyTaken(Exception):
    """A command of the plan has its receipt already, or another node was faster with a version; nothing was written."""


class GroupWriter(Protocol):
    """Where groups are written: Postgres or memory.

    All methods raise `LogUnavailable` when nothing was sent and `LogBusy` when the lock was not to be had;
    `write` raises `AnswerLost` and `KeyTaken`. Anything else counts as the fault of an item of the group, nothing
    written.
    """

    async def known(self, partition: int, items: Sequence[Append]) -> Known:
        """Reads what the items are judged by, all in one snapshot."""

    async def write(self, plan: Plan) -> Written | None:
        """Writes a plan whole or not at all: behind the head it was hashed for, or behind any if it was not hashed.

        Returns the places and the time its events got, or None when something is not as the plan knew it.
        """


class Appender:
    """Gathers the appends of one partition: what arrives while a call is under way goes into the next one."""

    def __init__(
        self,
        writer: GroupWriter,
        *,
        partition: int,
        queue_max: int,
        group_max: int,
        versions_max: int,
        on_commit: Callable[[], None],
    ) -> None:
        self._writer, self._partition, self._on_commit = writer, partition, on_commit
        self._queue_max, self._group_max, self._versions_max = queue_max, group_max, versions_max
        self._waiting: deque[_Waiting] = deque()
        self._position: int | None = None
        """Where the last call left the partition, which never ends before it; None when that is not known."""
        self._chain = b""
        """The chain there."""
        self._rivals = 0
        """For how many groups more the hashing is left to the writer, because another node moves the head too."""
        self._versions: dict[str, int] = {}
        """What streams were at once; none goes back, whatever other nodes append."""
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many appends wait in the queue now."""
        return len(self._waiting)

    async def append(self, item: Append) -> Outcome:
        """Queues one item and returns its outcome once it is durable; raises as `EventLog.append` does."""
        if self._closed:
            raise LogUnavailable("the log is closed")
        if len(self._waiting) >= self._queue_max:
            raise LogBusy(f"{self._queue_max} appends are waiting already")
        waiting = _Waiting(item)
        self._waiting.append(waiting)
        if self._task is None or self._task.done():
            # An empty context: the work is everybody's, not that of the caller who happened to come first.
            self._task = asyncio.create_task(self._run(), name=f"appender-{self._partition}", context=Context())
        return await waiting.answer

    async def aclose(self) -> None:
        """Lets the call under way finish and refuses what waits behind it."""
        self._closed = True
        while self._waiting:
            self._waiting.popleft().fail(LogUnavailable("the log is closing"))
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while self._waiting:
            group = self._next_group()
            try:
                await self._settle(group)
            finally:
                # Only a cancelled task leaves somebody without an answer here.
                for waiting in group:
                    if not waiting.answer.done():
                        waiting.fail(waiting.unknown())

    def _next_group(self) -> "list[_Waiting]":
        group: list[_Waiting] = []
        while self._waiting and len(group) < self._group_max:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():
                group.append(waiting)
        return group

    async def _settle(self, group: "list[_Waiting]") -> None:
        """Commits a group and answers it; after an error that is nobody's in particular, one item at a time."""
        try:
            outcomes = await self._commit([waiting.item for waiting in group]) if group else []
        except (LogBusy, LogUnavailable) as error:
            again = error
            self._fail(group, lambda _: type(again)(*again.args))
        except AnswerLost:
            self._fail(group, _Waiting.unknown)
        except Exception as error:
            # The reason is the error's class alone: database errors quote the values they are about.
            reason = type(error).__name__
            if len(group) == 1:
                self._fail(group, lambda one: AppendRejected(stream_id=one.item.stream_id, reason=reason))
            else:
                for waiting in group:
                    await self._settle([waiting])
        else:
            for waiting, outcome in zip(group, outcomes, strict=True):
                waiting.succeed(outcome)

    async def _commit(self, items: Sequence[Append]) -> Sequence[Outcome]:
        plan = await self._first_plan(items)
        for _ in range(COMMIT_ATTEMPTS_MAX):
            if not plan.receipts:
                return plan.answers(_NOTHING)
            try:
                written = await self._writer.write(plan)
            except KeyTaken:
                plan = await self._known_plan(items)
                continue
            if written is not None:
                self._remember(plan, written)
                self._on_commit()
                return plan.answers(written)
            plan = await self._next_plan(items, lost=plan)
        raise LogBusy("other nodes were faster every time")

    async def _first_plan(self, items: Sequence[Append]) -> Plan:
        """Judges a group by its own word and what is remembered; a refusal only by what the database says."""
        position, self._position = self._position, None
        if position is None:
            return await self._known_plan(items)
        chain = b"" if self._rivals else self._chain
        plan = self._plan(items, assumed(items, position=position, chain=chain, versions=self._versions))
        return await self._known_plan(items) if plan.refuses else plan

    async def _next_plan(self, items: Sequence[Append], *, lost: Plan) -> Plan:
        """Leaves the hashing to the writer first, for most often the head alone has moved; then judges anew."""
        if lost.hashed is None:
            return await self._known_plan(items)
        self._rivals = RIVAL_GROUPS
        return msgspec.structs.replace(lost, hashed=None)

    async def _known_plan(self, items: Sequence[Append]) -> Plan:
        known = await self._writer.known(self._partition, items)
        # Forgotten each time: after a database was put back to what it was once, what is remembered is not true.
        self._versions.clear()
        return self._plan(items, known)

    def _plan(self, items: Sequence[Append], known: Known) -> Plan:
        return plan_group(items, known, partition=self._partition, salts=_new_salts(items))

    def _remember(self, plan: Plan, written: Written) -> None:
        self._rivals = max(self._rivals - 1, 0) if written.position == plan.known.position else RIVAL_GROUPS
        self._position, self._chain = written.position + len(plan.rows), written.hashed.last
        self._versions.update(plan.versions)
        if len(self._versions) > self._versions_max:
            self._versions = dict(plan.versions)

    def _fail(self, group: "list[_Waiting]", error_of: "Callable[[_Waiting], Exception]") -> None:
        _log.warning("append failed partition=%d items=%d", self._partition, len(group))
        for waiting in group:
            waiting.fail(error_of(waiting))


class _Waiting:
    """One append and who waits for it."""

    def __init__(self, item: Append) -> None:
        self.item = item
        self.answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def succeed(self, outcome: Outcome) -> None:
        if not self.answer.done():
            self.answer.set_result(outcome)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def unknown(self) -> OutcomeUnknown:
        return OutcomeUnknown(stream_id=self.item.stream_id, command_id=self.item.command_id)


def _new_salts(items: Sequence[Append]) -> Iterator[bytes]:
    """Draws a salt for each event of the items at once: one by one they took 0.5 us an event."""
    drawn = secrets.token_bytes(SALT_BYTES * sum(len(item.events) for item in items))
    return (drawn[at : at + SALT_BYTES] for at in range(0, len(drawn), SALT_BYTES))
