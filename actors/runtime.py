"""Actors on the event loop, built on Pykka's extension points; every private name of Pykka is used in this file only.

An actor costs a task only while it has mail. Each message is handled in a task of its own with an empty context, to
its end, before the next one is begun. `tests/contract/test_pykka.py` pins what is relied on.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import pykka
import structlog
from pykka._envelope import Envelope as PykkaEnvelope

from actors.mail import ActorStopped, AskTimeout, Envelope, MailboxFull, Reply, envelope
from actors.ports import Clock

_log = structlog.get_logger(__name__)


class Mailbox:
    """Mail that waits for one actor; what comes is put behind what is there."""

    __slots__ = ("_mail", "_owner")

    def __init__(self) -> None:
        self._mail: deque[PykkaEnvelope[Any]] = deque()
        self._owner: AsyncioActor | None = None

    def __len__(self) -> int:
        return len(self._mail)

    def empty(self) -> bool:
        """Says whether no mail waits."""
        return not self._mail

    def put(self, mail: PykkaEnvelope[Any], /) -> None:
        """Adds mail and sees to it that the actor is at work; raises `MailboxFull`."""
        owner = self._owner
        assert owner is not None
        if len(self._mail) >= owner.mailbox_max:
            raise MailboxFull(actor=str(owner), mailbox_max=owner.mailbox_max)
        self._mail.append(mail)
        owner._start_actor_loop()

    def get(self) -> PykkaEnvelope[Any]:
        """Takes the oldest mail."""
        return self._mail.popleft()


class AsyncioRef(pykka.ActorRef["AsyncioActor"]):
    """What others hold of an actor: ask, tell, stop."""

    def __init__(self, actor: "AsyncioActor", *, clock: Clock) -> None:
        super().__init__(actor)
        self._clock = clock

    async def ask(  # type: ignore[override]  # a coroutine with a deadline instead of a call that may block for ever
        self, message: object, *, timeout_s: float, correlation_id: str | None = None
    ) -> Any:
        """Sends a message and returns the answer.

        `correlation_id` is by default that of the message or request in hand. Raises what the handler raised,
        `MailboxFull`, `ActorStopped` or `AskTimeout`. When the asker is cancelled its message is dropped, unless it
        is begun: then it is handled to its end.
        """
        self._refuse_if_stopped()
        reply = super().ask(envelope(message, correlation_id=correlation_id), block=False)
        assert isinstance(reply, Reply)
        timer = self._clock.call_later(timeout_s, lambda: self._expire(reply, timeout_s))
        try:
            return await reply
        finally:
            timer.cancel()

    def tell(self, message: object, *, correlation_id: str | None = None) -> None:
        """Sends a message and asks for no answer; raises `MailboxFull` or `ActorStopped`."""
        self._refuse_if_stopped()
        super().tell(envelope(message, correlation_id=correlation_id))

    async def stop(self, *, timeout_s: float) -> None:  # type: ignore[override]  # see ask
        """Refuses new mail at once, lets the waiting mail be handled, kills the actor when that takes too long."""
        actor = self._actor_weakref()
        if actor is None:
            return
        ended = actor._farewell()

        def give_up() -> None:
            actor.kill()
            ended.set()  # a handler that holds out against its cancellation is not waited for

        timer = self._clock.call_later(timeout_s, give_up)
        try:
            actor.stop()
            await ended
        finally:
            timer.cancel()

    def _refuse_if_stopped(self) -> None:
        if not self.is_alive():
            raise ActorStopped(actor=str(self), begun=False)

    def _expire(self, reply: Reply, timeout_s: float) -> None:
        reply.fail(AskTimeout(actor=str(self), timeout_s=timeout_s, begun=reply.begun))


class AsyncioActor(pykka.Actor):
    """An actor on the event loop. Subclasses write `async def on_receive(self, message)`.

    `on_wake` runs before the first message, as part of it; what it raises goes to that message's asker and ends the
    actor. Pykka's `on_start` is never called; `on_stop` and `on_failure` are ordinary functions, as there.
    Constructing an actor makes it live; no registry knows it (Pykka's takes time linear in the number of actors for
    each that ends).
    """

    mailbox_max: ClassVar[int] = 100
    survives: ClassVar[tuple[type[Exception], ...]] = ()
    """Exceptions that are ordinary answers. Any other that `on_receive` raises is a crash and ends the actor."""

    actor_inbox: Mailbox

    def __init__(self, *, clock: Clock) -> None:
        super().__init__()
        self._actor_ref: AsyncioRef = AsyncioRef(self, clock=clock)
        self.actor_inbox._owner = self
        self.on_end: Callable[[BaseException | None], None] | None = None
        """Called once with the exception that ended the actor, or None, while `hand_over` still finds its mail."""
        self._started = self._ended = False
        self._task: asyncio.Task[object] | None = None
        self._current: Reply | None = None
        self._farewells: tuple[Reply, ...] = ()

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> AsyncioRef:
        """Constructs an actor and returns its reference, as Pykka does, but without the registry."""
        return cls(*args, **kwargs).actor_ref

    @property
    def actor_ref(self) -> AsyncioRef:
        """The actor's reference."""
        return self._actor_ref

    @property
    def busy(self) -> bool:
        """Whether a message is being handled or waits."""
        return self._task is not None

    async def on_wake(self) -> None:
        """Prepares for the first message, for example by reading state from the log."""

    async def on_receive(self, message: Any) -> object:
        """Handles one message and returns the answer."""
        raise NotImplementedError

    def stop(self) -> None:
        """Refuses new mail at once, handles what waits, then ends."""
        self.actor_stopped.set()
        if not self.busy:
            self._end(None)

    def kill(self) -> None:
        """Refuses new and waiting mail and cancels the message in hand; the actor ends when that has unwound."""
        self.actor_stopped.set()
        self.refuse_mail(ActorStopped(actor=str(self), begun=False))
        self._refuse_current()
        if self._task is None:
            self._end(None)
        else:
            self._task.cancel()

    def hand_over(self, successor: "AsyncioActor") -> None:
        """Gives the waiting mail to another actor, in order; only from within `on_end`."""
        while not self.actor_inbox.empty():
            successor.actor_inbox.put(self.actor_inbox.get())

    def refuse_mail(self, error: Exception) -> None:
        """Answers all waiting asks with an exception and drops what was told."""
        while not self.actor_inbox.empty():
            if reply := _reply_to(self.actor_inbox.get()):
                reply.fail(error)

    @staticmethod
    def _create_actor_inbox() -> Mailbox:
        return Mailbox()

    @staticmethod
    def _create_future() -> Reply:
        return Reply()

    def _start_actor_loop(self) -> None:
        """Sets to work on the waiting mail, if it is not at work already."""
        if self._task is None:
            self._next()

    def _next(self) -> None:
        """Begins the next message whose asker has not gone; without one comes to rest, or ends if it is to stop."""
        self._task = self._current = None
        while not self.actor_inbox.empty():
            mail = self.actor_inbox.get()
            reply = _reply_to(mail)
            if reply is None or not reply.done():
                self._begin(mail.message, reply)
                return
        if self.actor_stopped.is_set():
            self._end(None)

    def _begin(self, envelope: Envelope, reply: Reply | None) -> None:
        context = contextvars.Context()
        self._current = reply
        self._task = asyncio.get_running_loop().create_task(self._handle(envelope, reply), context=context)
        # A task cancelled before its first step never runs a line of its own: only a callback sees every end.
        self._task.add_done_callback(self._handled, context=context)

    async def _handle(self, envelope: Envelope, reply: Reply | None) -> object:
        if envelope.correlation_id:
            structlog.contextvars.bind_contextvars(correlation_id=envelope.correlation_id)
        if reply is not None:
            reply.begun = True
        if not self._started:
            await self.on_wake()
            self._started = True
        return await self.on_receive(envelope.message)

    def _handled(self, task: asyncio.Task[object]) -> None:
        """Answers only now, so that whoever has an answer finds the actor at rest, or gone."""
        if task.cancelled():
            self._task = None
            self.kill()
        elif (failure := task.exception()) is not None:
            self._failed(failure)
        else:
            if self._current is not None:
                self._current.set(task.result())
            self._next()

    def _failed(self, failure: BaseException) -> None:
        if self._current is None:
            self._guarded(partial(self.on_failure, type(failure), failure, failure.__traceback__))
        elif isinstance(failure, Exception):
            self._current.fail(failure)
        else:
            self._refuse_current()
        if self._started and isinstance(failure, self.survives):
            self._next()
        else:
            self._end(failure)

    def _refuse_current(self) -> None:
        if self._current is not None:
            self._current.fail(ActorStopped(actor=str(self), begun=self._current.begun))

    def _end(self, failure: BaseException | None) -> None:
        if self._ended:
            return
        self._ended = True
        self.actor_stopped.set()
        self._task = self._current = None
        self._leave(failure)
        self.refuse_mail(ActorStopped(actor=str(self), begun=False))
        self.actor_inbox._owner = None
        for ended in self._farewells:
            ended.set()

    def _leave(self, failure: BaseException | None) -> None:
        """Calls the hooks. Askers are waiting: whatever a hook raises is logged, and their mail is still refused."""
        if failure is None:
            self._guarded(self.on_stop)
        else:
            # Never the text of the exception: it may carry what must not be in a log.
            _log.error("actor_crashed", actor=type(self).__name__, error=type(failure).__name__)
        if self.on_end is not None:
            self._guarded(partial(self.on_end, failure))
            self.on_end = None

    def _guarded(self, hook: Callable[[], None]) -> None:
        try:
            hook()
        except Exception as error:
            _log.error("actor_hook_failed", actor=type(self).__name__, error=type(error).__name__)

    def _farewell(self) -> Reply:
        """Returns a future that is set when the actor has ended."""
        reply = Reply()
        self._farewells += (reply,)
        if self._ended:
            reply.set()
        return reply


def _reply_to(mail: PykkaEnvelope[Any]) -> Reply | None:
    reply = mail.reply_to
    assert reply is None or isinstance(reply, Reply)
    return reply
