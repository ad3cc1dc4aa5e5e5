"""What every log built on grouped appends shares: partitions, appenders, wakes."""

import logging
import re
import time
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256

import msgspec

from eventstore.api import Append, Outcome, Wake
from eventstore.appender import Appender, GroupWriter

PLACES_MAX = 65_536
"""Streams whose partition is remembered in a process."""

_COMMAND_ID = re.compile(r"[0-9a-f]{64}").fullmatch
_log = logging.getLogger(__name__)


class LogLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one node's log; times in seconds."""

    append_queue_max: int = 4096
    """Appends waiting per partition; beyond it `LogBusy`."""
    append_group_max: int = 256
    """Appends written in one call."""
    append_versions_max: int = 16_384
    """Streams per partition whose version is remembered from one call to the next; the others are looked up."""
    append_timeout_s: float = 10.0
    """How long one call may take before its outcome counts as unknown."""
    lock_timeout_s: float = 3.0
    """How long the database waits for a lock; then `LogBusy`."""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    read_page_max: int = 10_000
    """Events read in one call."""
    pool_max: int = 10
    """Connections for everything but appends; those have one per partition."""
    statement_cache_size: int = 100
    """0 behind pgbouncer in transaction mode."""
    key_cache_max: int = 10_000
    """Unwrapped keys kept in memory."""
    key_cache_s: float = 60.0
    """How long an unwrapped key is used before it is read again: one shredded elsewhere opens here no longer."""


@lru_cache(maxsize=PLACES_MAX)
def partition_of(stream_id: str, *, partitions: int) -> int:
    """Spreads streams evenly: the first 8 bytes of the id's sha256, big-endian, modulo the number of partitions."""
    return int.from_bytes(sha256(stream_id.encode()).digest()[:8]) % partitions


def stream_of_seat(seat: str) -> str:
    """Names the stream of a seat lease: what stands before the last slash."""
    return seat.rpartition("/")[0]


class GroupedLog:
    """The appending half of an `EventLog`: one appender per partition over a writer."""

    def __init__(self, writer: GroupWriter, *, partitions: int, limits: LogLimits) -> None:
        self.partitions = partitions
        self.observe_append: Callable[[float], None] | None = None
        """Told the seconds of each append, from being queued to being durable or refused."""
        self.tell_others: Callable[[], None] | None = None
        """Called after each commit of this node, to have other nodes woken."""
        self._wakes: list[Wake] = []
        self._appenders = [
            Appender(
                writer,
                partition=partition,
                queue_max=limits.append_queue_max,
                group_max=limits.append_group_max,
                versions_max=limits.append_versions_max,
                on_commit=self._committed,
            )
            for partition in range(partitions)
        ]

    def partition_of(self, stream_id: str) -> int:
        """Names the partition a stream lies in, the same for ever."""
        return partition_of(stream_id, partitions=self.partitions)

    async def append(self, item: Append) -> Outcome:
        """Appends one item; returns after it is durable.

        Raises `LogBusy`, `LogUnavailable`, `AppendRejected` (nothing written) or `OutcomeUnknown`; `ValueError` for
        an item no log may hold, before it is queued.
        """
        partition = self.partition_of(item.stream_id)
        self._check(item, partition=partition)
        started = time.monotonic()
        try:
            return await self._appenders[partition].append(item)
        finally:
            if self.observe_append is not None:
                self.observe_append(time.monotonic() - started)

    @property
    def waiting(self) -> int:
        """How many appends wait now, over all partitions."""
        return sum(appender.waiting for appender in self._appenders)

    def subscribe_wake(self, wake: Wake) -> None:
        """Calls `wake.notify()` after commits of this process, and of others where it hears of them."""
        self._wakes.append(wake)

    def unsubscribe_wake(self, wake: Wake) -> None:
        """Ends a `subscribe_wake`; a wake that is not subscribed is left alone."""
        self._wakes = [each for each in self._wakes if each is not wake]

    def wake(self) -> None:
        """Wakes every subscriber: something was committed, here or on another node."""
        for wake in self._wakes:
            try:
                wake.notify()
            except Exception:
                # The commit is durable whatever a subscriber does; it will find it by polling.
                _log.exception("a subscriber's wake failed")

    async def aclose(self) -> None:
        """Lets calls under way finish, refuses what waits."""
        for appender in self._appenders:
            await appender.aclose()

    def _check(self, item: Append, *, partition: int) -> None:
        if not item.stream_id or item.expected_version < 0:
            raise ValueError("an append needs a stream and a version of 0 or more")
        if not _COMMAND_ID(item.command_id):
            raise ValueError("a command id is 64 hex digits")
        if item.fence is not None and self.partition_of(stream_of_seat(item.fence.seat)) != partition:
            raise ValueError("a fence guards streams of its seat's partition only")

    def _committed(self) -> None:
        self.wake()
        if self.tell_others is not None:
            self.tell_others()
