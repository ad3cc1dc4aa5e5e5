"""What actors/runtime.py relies on in Pykka, private names included: a new version that differs fails here first."""

import inspect
import sys
from importlib.metadata import version
from typing import Any

import pykka
import pytest
from pykka._envelope import Envelope


class Inbox:
    """Keeps what is put into it."""

    def __init__(self) -> None:
        self.mail: list[Envelope[Any]] = []

    def put(self, envelope: Envelope[Any], /) -> None:
        self.mail.append(envelope)

    def get(self) -> Envelope[Any]:
        return self.mail.pop(0)

    def empty(self) -> bool:
        return not self.mail


class Promise(pykka.Future[Any]):
    """Keeps the exception it was set to."""

    error: BaseException | None = None

    def set_exception(self, exc_info: Any = None) -> None:
        self.error = (exc_info or sys.exc_info())[1]


class Bare(pykka.Actor):
    """Fills in the three extension points and nothing else."""

    began = False

    @staticmethod
    def _create_actor_inbox() -> Inbox:
        return Inbox()

    @staticmethod
    def _create_future() -> Promise:
        return Promise()

    def _start_actor_loop(self) -> None:
        self.began = True


def inbox_of(actor: pykka.Actor) -> Inbox:
    inbox = actor.actor_inbox
    assert isinstance(inbox, Inbox)
    return inbox


def test_the_version_is_the_one_the_contract_was_written_for() -> None:
    assert version("pykka").startswith("4.4.")


def test_the_three_extension_points_are_all_that_an_actor_must_fill_in() -> None:
    assert pykka.Actor.__abstractmethods__ == {"_create_actor_inbox", "_create_future", "_start_actor_loop"}


def test_constructing_an_actor_neither_registers_nor_starts_it() -> None:
    actor = Bare()
    assert actor.actor_ref not in pykka.ActorRegistry.get_all()
    assert not actor.began


def test_start_registers_which_is_why_the_runtime_has_its_own() -> None:
    ref = Bare.start()
    try:
        assert ref in pykka.ActorRegistry.get_all()
    finally:
        pykka.ActorRegistry.unregister(ref)


def test_the_actor_ref_property_shows_the_private_attribute() -> None:
    actor, other = Bare(), Bare()
    actor._actor_ref = other.actor_ref
    assert actor.actor_ref is other.actor_ref


def test_a_ref_shares_inbox_and_stopped_flag_with_its_actor_and_holds_it_weakly() -> None:
    actor = Bare()
    ref = actor.actor_ref
    assert (ref.actor_inbox, ref.actor_stopped) == (actor.actor_inbox, actor.actor_stopped)
    assert ref._actor_weakref() is actor
    del actor
    assert ref._actor_weakref() is None


def test_a_ref_is_alive_until_the_flag_is_set() -> None:
    actor = Bare()
    assert actor.actor_ref.is_alive()
    actor.actor_stopped.set()
    assert not actor.actor_ref.is_alive()


def test_tell_puts_an_envelope_without_reply() -> None:
    actor = Bare()
    actor.actor_ref.tell("hello")
    [mail] = inbox_of(actor).mail
    assert (mail.message, mail.reply_to) == ("hello", None)


def test_ask_without_blocking_puts_an_envelope_with_the_class_s_own_future_and_returns_it() -> None:
    actor = Bare()
    future = actor.actor_ref.ask("hello", block=False)
    [mail] = inbox_of(actor).mail
    assert isinstance(future, Promise)
    assert mail.message == "hello"
    assert mail.reply_to is future


def test_what_an_inbox_raises_reaches_whoever_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Inbox, envelope: Envelope[Any]) -> None:
        raise OverflowError

    monkeypatch.setattr(Inbox, "put", full)
    actor = Bare()
    with pytest.raises(OverflowError):
        actor.actor_ref.tell("hello")
    with pytest.raises(OverflowError):
        _ = actor.actor_ref.ask("hello", block=False)


def test_a_stopped_actor_is_refused_by_tell_and_by_the_future_of_ask() -> None:
    actor = Bare()
    actor.actor_stopped.set()
    with pytest.raises(pykka.ActorDeadError):
        actor.actor_ref.tell("hello")
    future = actor.actor_ref.ask("hello", block=False)
    assert isinstance(future, Promise)
    assert isinstance(future.error, pykka.ActorDeadError)
    assert inbox_of(actor).empty()


def test_hooks_take_the_arguments_the_runtime_passes() -> None:
    assert list(inspect.signature(pykka.Actor.on_failure).parameters)[1:] == [
        "exception_type",
        "exception_value",
        "traceback",
    ]
    assert list(inspect.signature(pykka.Actor.on_stop).parameters) == ["self"]
