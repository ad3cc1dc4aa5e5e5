"""A directory on a virtual clock with actors that do what their messages say: the ground of the directory's tests."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors.clock import VirtualClock
from actors.directory import Directory
from actors.runtime import AsyncioActor

Message = Callable[["Resident"], Awaitable[object]]


class Hiccup(Exception):
    """An ordinary answer of a `Resident`."""


class Resident(AsyncioActor):
    """Does what the message says, in the world's diary of its id."""

    survives = (Hiccup,)

    def __init__(self, id: str, *, world: "World") -> None:
        super().__init__(clock=world.clock)
        self.id, self.world = id, world

    async def on_wake(self) -> None:
        self.world.awake[self.id] = self.world.awake.get(self.id, 0) + 1
        assert self.world.awake[self.id] == 1, "two actors of one id"
        await asyncio.sleep(0)
        if self.id in self.world.unreadable:
            self.world.awake[self.id] -= 1
            raise Hiccup

    async def on_receive(self, message: Message) -> object:
        return await message(self)

    def on_stop(self) -> None:
        if self._started:
            self.world.awake[self.id] -= 1


class World:
    """A directory on a virtual clock, with all that happened in it."""

    def __init__(self, **bounds: Any) -> None:
        self.clock = VirtualClock()
        self.made: list[str] = []
        self.diary: list[str] = []
        self.awake: dict[str, int] = {}
        self.unreadable: set[str] = set()
        self.alerts: list[tuple[str, str]] = []
        self.directory = Directory[str](self._make, clock=self.clock, on_parked=self._alert, **bounds)

    async def ask(self, id: str, message: Message) -> Any:
        return await self.directory.ask(id, message, timeout_s=30)

    async def crash(self, id: str, *, times: int = 1) -> None:
        for _ in range(times):
            with pytest.raises(ZeroDivisionError):
                await self.ask(id, crash)

    def _make(self, id: str) -> Resident:
        self.made.append(id)
        return Resident(id, world=self)

    def _alert(self, id: str, error: BaseException) -> None:
        self.alerts.append((id, type(error).__name__))


def note(text: str) -> Message:
    async def work(actor: Resident) -> str:
        actor.world.diary.append(text)
        return text

    return work


def nap(text: str, *, seconds: float) -> Message:
    async def work(actor: Resident) -> str:
        await actor.world.clock.sleep(seconds)
        actor.world.diary.append(text)
        return text

    return work


async def crash(actor: Resident) -> None:
    actor.world.awake[actor.id] -= 1
    raise ZeroDivisionError


async def hiccup(actor: Resident) -> None:
    raise Hiccup


async def rest() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
