"""Actors on the event loop: one message at a time, bounded, with a deadline, and never a hanging asker."""

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pykka
import pytest
import structlog

from actors.clock import SystemClock, VirtualClock
from actors.mail import ActorStopped, AskTimeout, MailboxFull
from actors.runtime import AsyncioActor, AsyncioRef

CLOCK = SystemClock()
LEAK: contextvars.ContextVar[str] = contextvars.ContextVar("LEAK", default="empty")


class Survivable(Exception):
    """An ordinary answer of a `Worker`."""


class Worker(AsyncioActor):
    """Does what the message says and keeps a diary."""

    mailbox_max = 5
    survives = (Survivable,)

    def __init__(self) -> None:
        super().__init__(clock=CLOCK)
        self.diary: list[str] = []

    async def on_wake(self) -> None:
        self.diary.append("start")

    async def on_receive(self, message: Callable[["Worker"], Awaitable[object]]) -> object:
        return await message(self)

    def on_stop(self) -> None:
        self.diary.append("stop")

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.diary.append(f"failure {exception_type.__name__}")


def note(text: str, *, ticks: int = 0) -> Callable[[Worker], Awaitable[str]]:
    """A message that writes when it begins and when it ends."""

    async def work(worker: Worker) -> str:
        worker.diary.append(f"{text}<")
        for _ in range(ticks):
            await asyncio.sleep(0)
        worker.diary.append(f"{text}>")
        return text

    return work


def throw(error: BaseException) -> Callable[[Worker], Awaitable[str]]:
    """A message whose handler raises."""

    async def work(worker: Worker) -> str:
        raise error

    return work


async def stuck(worker: Worker) -> None:
    """A message that is never done."""
    worker.diary.append("stuck")
    await asyncio.Event().wait()


async def rest() -> None:
    """Lets everything that is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def ask(worker: Worker, message: object) -> Any:
    return await worker.actor_ref.ask(message, timeout_s=60)


async def test_messages_are_handled_in_the_order_they_came_each_to_its_end() -> None:
    worker = Worker()
    worker.actor_ref.tell(note("a", ticks=3))
    worker.actor_ref.tell(note("b", ticks=1))
    assert await ask(worker, note("c")) == "c"
    assert worker.diary == ["start", "a<", "a>", "b<", "b>", "c<", "c>"]


async def test_an_idle_actor_has_no_task() -> None:
    workers = [Worker() for _ in range(100)]
    await asyncio.gather(*(ask(worker, note("a", ticks=2)) for worker in workers))
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not any(worker.busy for worker in workers)


async def test_no_actor_is_in_pykka_s_registry() -> None:
    ref = Worker.start()
    assert isinstance(ref, AsyncioRef)
    assert await ref.ask(note("a"), timeout_s=60) == "a"
    assert ref not in pykka.ActorRegistry.get_all()


async def test_mail_beyond_the_bound_is_refused_and_the_rest_is_handled() -> None:
    worker, go = Worker(), asyncio.Event()

    async def wait(worker: Worker) -> None:
        await go.wait()

    worker.actor_ref.tell(wait)
    asks = [asyncio.create_task(ask(worker, note(f"{i}"))) for i in range(Worker.mailbox_max)]
    await rest()
    with pytest.raises(MailboxFull) as full:
        await ask(worker, note("too much"))
    with pytest.raises(MailboxFull):
        worker.actor_ref.tell(note("too much"))
    assert full.value.mailbox_max == Worker.mailbox_max
    go.set()
    assert await asyncio.gather(*asks) == ["0", "1", "2", "3", "4"]
    assert not any("too much" in line for line in worker.diary)


async def test_a_message_begins_with_an_empty_context() -> None:
    worker, seen = Worker(), list[str]()

    async def look(worker: Worker) -> None:
        seen.append(LEAK.get())
        LEAK.set("from the message before")

    LEAK.set("from the asker")
    worker.actor_ref.tell(look)
    worker.actor_ref.tell(look)
    await ask(worker, look)
    assert seen == ["empty"] * 3


async def test_the_correlation_id_travels_with_the_message_and_on_to_the_next_actor() -> None:
    first, second = Worker(), Worker()

    async def inner(worker: Worker) -> object:
        return structlog.contextvars.get_contextvars()

    async def outer(worker: Worker) -> object:
        return structlog.contextvars.get_contextvars(), await ask(second, inner)

    given = await first.actor_ref.ask(outer, timeout_s=60, correlation_id="r-1")
    assert given == ({"correlation_id": "r-1"},) * 2
    with structlog.contextvars.bound_contextvars(correlation_id="r-2", user="not carried"):
        assert await ask(first, outer) == ({"correlation_id": "r-2"},) * 2
    assert await ask(first, outer) == ({}, {})


async def test_the_asker_gets_what_the_handler_raised_and_a_crash_ends_the_actor() -> None:
    worker = Worker()
    with pytest.raises(ZeroDivisionError):
        await ask(worker, throw(ZeroDivisionError()))
    assert not worker.actor_ref.is_alive()
    with pytest.raises(ActorStopped) as stopped:
        await ask(worker, note("late"))
    assert not stopped.value.begun
    assert worker.diary == ["start"]


async def test_an_exception_the_actor_survives_is_only_an_answer() -> None:
    worker = Worker()
    with pytest.raises(Survivable):
        await ask(worker, throw(Survivable()))
    assert await ask(worker, note("a")) == "a"


async def test_a_told_message_that_fails_calls_the_failure_hook() -> None:
    worker = Worker()
    worker.actor_ref.tell(throw(Survivable()))
    worker.actor_ref.tell(throw(ZeroDivisionError()))
    await rest()
    assert worker.diary == ["start", "failure Survivable", "failure ZeroDivisionError"]
    assert not worker.actor_ref.is_alive()


async def test_a_failing_start_goes_to_the_asker_and_ends_the_actor_even_if_survivable() -> None:
    class Unready(Worker):
        async def on_wake(self) -> None:
            raise Survivable

    worker = Unready()
    with pytest.raises(Survivable):
        await ask(worker, note("a"))
    assert not worker.actor_ref.is_alive()


async def test_mail_behind_a_crash_is_refused_as_not_begun() -> None:
    worker = Worker()
    worker.actor_ref.tell(throw(ZeroDivisionError()))
    with pytest.raises(ActorStopped) as stopped:
        await ask(worker, note("behind"))
    assert not stopped.value.begun


async def test_a_deadline_passes_on_the_injected_clock_and_says_whether_the_message_was_begun() -> None:
    clock = VirtualClock()

    class Timed(Worker):
        def __init__(self) -> None:
            super().__init__()
            self._actor_ref = AsyncioRef(self, clock=clock)

    worker = Timed()
    begun = asyncio.create_task(worker.actor_ref.ask(stuck, timeout_s=10))
    waiting = asyncio.create_task(worker.actor_ref.ask(note("never"), timeout_s=20))
    await clock.advance(9.999)
    assert not begun.done()
    await clock.advance(20)
    with pytest.raises(AskTimeout) as first:
        await begun
    with pytest.raises(AskTimeout) as second:
        await waiting
    assert (first.value.begun, second.value.begun) == (True, False)
    assert (first.value.timeout_s, second.value.timeout_s) == (10, 20)
    assert clock.next_due() is None
    worker.kill()


async def test_a_message_whose_asker_has_gone_is_dropped_unless_begun() -> None:
    worker = Worker()
    begun = asyncio.create_task(ask(worker, note("begun", ticks=5)))
    waiting = asyncio.create_task(ask(worker, note("waiting")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    begun.cancel()
    waiting.cancel()
    assert await ask(worker, note("next")) == "next"
    assert worker.diary == ["start", "begun<", "begun>", "next<", "next>"]


async def test_stopping_refuses_new_mail_at_once_and_handles_what_waits() -> None:
    worker = Worker()
    asks = [asyncio.create_task(ask(worker, note(name, ticks=3))) for name in "ab"]
    await asyncio.sleep(0)
    worker.stop()
    with pytest.raises(ActorStopped):
        await ask(worker, note("late"))
    with pytest.raises(ActorStopped):
        worker.actor_ref.tell(note("late"))
    await worker.actor_ref.stop(timeout_s=60)
    assert worker.diary == ["start", "a<", "a>", "b<", "b>", "stop"]
    assert await asyncio.gather(*asks) == ["a", "b"]


async def test_stop_kills_an_actor_that_is_not_done_in_time_and_frees_all_askers() -> None:
    worker = Worker()
    asks = [asyncio.create_task(ask(worker, message)) for message in (stuck, note("waiting"))]
    await rest()
    await worker.actor_ref.stop(timeout_s=0.01)
    refused = await asyncio.gather(*asks, return_exceptions=True)
    assert [error.begun for error in refused if isinstance(error, ActorStopped)] == [True, False]
    await rest()
    assert worker.diary == ["start", "stuck", "stop"]
    await worker.actor_ref.stop(timeout_s=0.01)


async def test_a_handler_that_resists_its_cancellation_holds_up_neither_stop_nor_askers() -> None:
    worker, go = Worker(), asyncio.Event()

    async def stubborn(worker: Worker) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await go.wait()

    asks = [asyncio.create_task(ask(worker, message)) for message in (stubborn, note("waiting"))]
    await rest()
    await asyncio.wait_for(worker.actor_ref.stop(timeout_s=0.01), 60)
    refused = await asyncio.wait_for(asyncio.gather(*asks, return_exceptions=True), 60)
    assert [error.begun for error in refused if isinstance(error, ActorStopped)] == [True, False]
    assert worker.diary == ["start"]
    go.set()
    await rest()
    assert worker.diary == ["start", "stop"]


@pytest.mark.parametrize("ticks", [0, 1, 5])
async def test_cancelling_the_task_is_an_ordinary_end_even_before_its_first_step(ticks: int) -> None:
    worker = Worker()
    before = asyncio.all_tasks()
    asks = [worker.actor_ref.ask(message, timeout_s=60) for message in (stuck, note("waiting"))]
    running = [asyncio.create_task(coroutine) for coroutine in asks]
    await asyncio.sleep(0)
    [handling] = asyncio.all_tasks() - before - set(running)
    for _ in range(ticks):
        await asyncio.sleep(0)
    handling.cancel()
    refused = await asyncio.gather(*running, return_exceptions=True)
    assert [error.begun for error in refused if isinstance(error, ActorStopped)] == [ticks > 0, False]
    assert worker.diary[-1] == "stop"
    assert not worker.busy


@pytest.mark.parametrize("ending", ["stop", "kill", "crash", "cancel"])
async def test_an_ask_racing_an_end_is_answered_or_refused_but_never_hangs(ending: str) -> None:
    for seed in range(150):
        async with asyncio.timeout(60):
            await race(random.Random(seed), ending=ending)


async def race(rng: random.Random, *, ending: str) -> None:
    """Five askers and one end, each after its own number of ticks; all must be settled and the actor gone."""
    worker = Worker()
    outcomes = await asyncio.gather(
        *(late_ask(worker, rng.randrange(12), note(f"{i}", ticks=rng.randrange(4))) for i in range(5)),
        late_end(worker, rng.randrange(12), ending=ending),
    )
    for i, outcome in enumerate(outcomes[:5]):
        if isinstance(outcome, ActorStopped):
            assert outcome.begun == (f"{i}<" in worker.diary)
        else:
            assert outcome == f"{i}"
    await rest()
    assert not worker.actor_ref.is_alive()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def late_ask(worker: Worker, ticks: int, message: object) -> object:
    for _ in range(ticks):
        await asyncio.sleep(0)
    try:
        return await ask(worker, message)
    except (ActorStopped, MailboxFull) as error:
        return error


async def late_end(worker: Worker, ticks: int, *, ending: str) -> None:
    for _ in range(ticks):
        await asyncio.sleep(0)
    if ending == "stop":
        await worker.actor_ref.stop(timeout_s=60)
    elif ending == "kill" or not worker.busy:
        worker.kill()
    elif ending == "crash":
        worker.actor_ref.tell(throw(ZeroDivisionError()))
    elif worker._task is None or not worker._task.cancel():
        worker.kill()  # the task was over already: there was nothing to cancel


async def test_the_answer_is_awaited_and_never_blocked_on() -> None:
    with pytest.raises(RuntimeError, match="await"):
        Worker._create_future().get()


async def test_a_hook_that_raises_still_leaves_no_asker_waiting() -> None:
    class BadHooks(Worker):
        def on_stop(self) -> None:
            raise ZeroDivisionError

    worker = BadHooks()
    asker = asyncio.create_task(ask(worker, stuck))
    waiting = asyncio.create_task(ask(worker, note("waiting")))
    await rest()
    worker.kill()
    assert all(isinstance(e, ActorStopped) for e in await asyncio.gather(asker, waiting, return_exceptions=True))
    await asyncio.wait_for(worker.actor_ref.stop(timeout_s=90), 60)


async def test_a_crash_is_logged_by_name_without_what_the_exception_says() -> None:
    worker = Worker()
    with structlog.testing.capture_logs() as logs, pytest.raises(ValueError, match="secret"):
        await ask(worker, throw(ValueError("secret")))
    assert logs == [{"event": "actor_crashed", "actor": "Worker", "error": "ValueError", "log_level": "error"}]
