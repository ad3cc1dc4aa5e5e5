"""Group commit: one appender per node and partition writes whatever is waiting in one call."""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Protocol

from eventstore.api import (
    Append,
    AppendRejected,
    Head,
    LogBusy,
    LogUnavailable,
    Outcome,
    OutcomeUnknown,
)
from eventstore.chain import SALT_BYTES
from eventstore.plan import Known, Plan, assumed, plan_group

COMMIT_ATTEMPTS_MAX = 100
"""How often a group is judged anew because other nodes moved the head first, before its callers are told to wait."""
KNOWN_EVERY = 3
"""After so many attempts everything is looked up: a moving head must not hide that the group itself is in the way."""
RIVAL_GROUPS = 8
"""How many groups in a row find the head where this node left it before the next one is written without looking."""

_log = logging.getLogger(__name__)


class AnswerLost(Exception):
    """A call was sent and no answer came back: what it wrote is durable or it is not."""


class GroupWriter(Protocol):
    """Where groups are written: Postgres or memory.

    All methods raise `LogUnavailable` when nothing was sent and `LogBusy` when the lock was not to be had;
    `write` raises `AnswerLost`. Anything else counts as the fault of an item of the group, nothing written.
    """

    async def head(self, partition: int) -> Head:
        """Reads the end of the partition."""

    async def known(self, partition: int, items: Sequence[Append]) -> Known:
        """Reads what the items are judged by, all in one snapshot."""

    async def write(self, plan: Plan) -> int | None:
        """Writes a plan whole or not at all.

        Returns the `recorded_at` of its events, or None when something is no longer as the plan knew it.
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
        self._head: Head | None = None
        """Where the last call left it; None when that is not known."""
        self._versions: dict[str, int] = {}
        """Of streams at this head: right as long as it is, for whoever appends moves it."""
        self._rivals = 0
        """For how many groups more the head is looked at first, because another node moves it too."""
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
        for attempt in range(COMMIT_ATTEMPTS_MAX):
            recorded_at = await self._writer.write(plan) if plan.receipts else 0
            if recorded_at is not None:
                self._remember(plan)
                if plan.receipts:
                    self._on_commit()
                return plan.answers(recorded_at)
            plan = await self._next_plan(items, lost=plan.known.head, attempt=attempt)
        raise LogBusy("other nodes kept moving the head")

    async def _first_plan(self, items: Sequence[Append]) -> Plan:
        head, self._head = self._head, None
        if head is None:
            return await self._known_plan(items)
        return await self._assumed_plan(items, head=await self._look(seen=head) if self._rivals else head)

    async def _next_plan(self, items: Sequence[Append], *, lost: Head, attempt: int) -> Plan:
        """Judges a group anew that could not be written: because the head moved, or because of what is in it."""
        head = await self._look(seen=lost)
        if head == lost or attempt % KNOWN_EVERY == KNOWN_EVERY - 1:
            return await self._known_plan(items)
        return await self._assumed_plan(items, head=head)

    async def _look(self, *, seen: Head) -> Head:
        """Reads the head, and learns whether another node moved it."""
        head = await self._writer.head(self._partition)
        if head == seen:
            self._rivals = max(self._rivals - 1, 0)
        else:
            self._versions.clear()
            self._rivals = RIVAL_GROUPS
        return head

    async def _assumed_plan(self, items: Sequence[Append], *, head: Head) -> Plan:
        """Judges a group by its own word and what is remembered; a refusal only by what the database says."""
        plan = plan_group(items, assumed(items, head=head, versions=self._versions), new_salt=_new_salt)
        return await self._known_plan(items) if plan.refuses else plan

    async def _known_plan(self, items: Sequence[Append]) -> Plan:
        known = await self._writer.known(self._partition, items)
        self._versions.clear()
        return plan_group(items, known, new_salt=_new_salt)

    def _remember(self, plan: Plan) -> None:
        self._head = plan.head
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


def _new_salt() -> bytes:
    return secrets.token_bytes(SALT_BYTES)
