"""A message on its way to an actor, its answer, and what can become of both instead."""

import asyncio
import sys
from collections.abc import Generator
from typing import Any

import msgspec
import pykka
import structlog


class MailboxFull(Exception):
    """The actor has as much mail waiting as it may have: try again later; nothing was delivered."""

    def __init__(self, *, actor: str, mailbox_max: int) -> None:
        super().__init__(f"{actor}: {mailbox_max} messages are waiting")
        self.actor, self.mailbox_max = actor, mailbox_max


class ActorStopped(pykka.ActorDeadError):
    """The actor ended before it answered. Unless `begun`, the message had no effect."""

    def __init__(self, *, actor: str, begun: bool) -> None:
        super().__init__(f"{actor} stopped {'during' if begun else 'before'} the message")
        self.actor, self.begun = actor, begun


class AskTimeout(pykka.Timeout):
    """No answer came in time. Unless `begun`, the message is dropped and has no effect; else it is still handled."""

    def __init__(self, *, actor: str, timeout_s: float, begun: bool) -> None:
        super().__init__(f"{actor}: no answer in {timeout_s} s")
        self.actor, self.timeout_s, self.begun = actor, timeout_s, begun


class Envelope(msgspec.Struct, frozen=True):
    """A message and the id that ties its log lines to the request it came from."""

    message: object
    correlation_id: str


def envelope(message: object, *, correlation_id: str | None) -> Envelope:
    """Wraps a message; None means the correlation id of the message or request in hand, if there is one."""
    if correlation_id is None:
        correlation_id = structlog.contextvars.get_contextvars().get("correlation_id", "")
    return Envelope(message, correlation_id)


class Reply(pykka.Future[Any]):
    """The answer to one ask: awaited, never blocked on. The first answer counts, later ones are ignored."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = False
        """Whether the actor has begun to handle the message."""
        self._waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(self) -> bool:
        """Says whether an answer came or the asker has gone."""
        return self._waiter.done()

    def set(self, value: Any = None) -> None:
        """Answers."""
        if not self._waiter.done():
            self._waiter.set_result(value)

    def set_exception(self, exc_info: Any = None) -> None:
        """Answers with an exception, by default the one in hand, as Pykka does."""
        error = (exc_info or sys.exc_info())[1]
        assert error is not None
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Answers with an exception."""
        if not self._waiter.done():
            self._waiter.set_exception(error)

    def get(self, *, timeout: float | None = None) -> Any:
        """Refuses: a blocking wait would stop the event loop, and the actor with it."""
        raise RuntimeError("await this future instead")

    def __await__(self) -> Generator[Any, None, Any]:
        return self._waiter.__await__()
