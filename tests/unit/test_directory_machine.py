"""Whatever is asked of a directory in whatever order, its promises hold."""

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.directory import DirectoryFull, Parked
from tests.unit.residents import Message, World, crash, nap, note

IDS = st.sampled_from(["a", "b", "c", "d"])


class DirectoryMachine(RuleBasedStateMachine):
    """Any mix of asks, naps, crashes and waiting: each ask is settled once, in order, by at most one actor an id."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World(idle_s=3, resident_max=2, crash_limit=3, crash_window_s=5)
        self.asks: list[tuple[str, str, asyncio.Task[Any]]] = []
        self.count = 0

    def teardown(self) -> None:
        self.loop.run_until_complete(self.settle())
        self.loop.close()

    async def settle(self) -> None:
        await self.world.clock.advance(1000)
        for id, text, task in self.asks:
            assert task.done(), f"{text} to {id} hangs"
            if task.exception() is None:
                assert task.result() == text
                assert self.world.diary.count(text) == 1
            else:
                assert isinstance(task.exception(), ZeroDivisionError | Parked | DirectoryFull)
                assert text not in self.world.diary
        self.assert_order()
        await self.world.directory.stop_all(timeout_s=1)
        assert not any(self.world.awake.values())

    def assert_order(self) -> None:
        for id in "abcd":
            mine = [int(text) for to, text, _ in self.asks if to == id and text in self.world.diary]
            assert mine == sorted(mine, key=lambda n: self.world.diary.index(f"{n}"))

    async def send(self, id: str, text: str, message: Message) -> None:
        asking = self.world.directory.ask(id, message, timeout_s=1000)  # longer than all naps of one run together
        self.asks.append((id, text, asyncio.create_task(asking)))
        await asyncio.sleep(0)

    def next_text(self) -> str:
        self.count += 1
        return f"{self.count}"

    @rule(id=IDS)
    def ask(self, id: str) -> None:
        text = self.next_text()
        self.loop.run_until_complete(self.send(id, text, note(text)))

    @rule(id=IDS, seconds=st.integers(1, 4))
    def nap(self, id: str, seconds: int) -> None:
        text = self.next_text()
        self.loop.run_until_complete(self.send(id, text, nap(text, seconds=seconds)))

    @rule(id=IDS)
    def crash(self, id: str) -> None:
        self.loop.run_until_complete(self.send(id, self.next_text(), crash))

    @rule(seconds=st.integers(0, 4))
    def wait(self, seconds: int) -> None:
        self.loop.run_until_complete(self.world.clock.advance(seconds))

    @precondition(lambda self: self.world.directory.parked())
    @rule()
    def unpark(self) -> None:
        self.world.directory.unpark(min(self.world.directory.parked()))

    @invariant()
    def bounds_hold(self) -> None:
        counts = self.world.directory.counts()
        assert counts.resident <= 2
        assert len(self.world.alerts) >= counts.parked
        assert counts.wakes == len(self.world.made)


DirectoryMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestDirectoryMachine = DirectoryMachine.TestCase
