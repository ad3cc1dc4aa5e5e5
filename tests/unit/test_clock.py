"""The clocks tell time and keep promises; the virtual one does so in one order."""

import asyncio
import time

import pytest

import actors.clock
from actors.clock import SystemClock, VirtualClock


def test_the_system_clock_counts_microseconds_since_1970() -> None:
    before = time.time()
    assert before <= SystemClock().now() / 1_000_000 + 1e-6 <= time.time() + 1


async def test_the_system_clock_sleeps_and_calls_back_unless_cancelled() -> None:
    clock, called = SystemClock(), list[str]()
    clock.call_later(0.001, lambda: called.append("kept"))
    clock.call_later(0.001, lambda: called.append("cancelled")).cancel()
    await clock.sleep(0.02)
    assert called == ["kept"]


async def test_sleepers_wake_in_the_order_of_their_moments_and_see_them() -> None:
    clock, woken = VirtualClock(start=1_000_000), list[tuple[str, int]]()

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.now()))

    tasks = [asyncio.create_task(sleeper(name, s)) for name, s in [("c", 3), ("a", 1), ("b1", 2), ("b2", 2), ("d", 9)]]
    await clock.advance(5)
    assert woken == [("a", 2_000_000), ("b1", 3_000_000), ("b2", 3_000_000), ("c", 4_000_000)]
    assert clock.now() == 6_000_000
    assert clock.next_due() == 10_000_000
    await clock.advance(4)
    assert woken[-1] == ("d", 10_000_000)
    await asyncio.gather(*tasks)


async def test_a_sleep_begun_by_a_woken_sleeper_falls_into_the_same_advance() -> None:
    clock, ticks = VirtualClock(), list[int]()

    async def ticker() -> None:
        while True:
            for _ in range(50):
                await asyncio.sleep(0)  # a long chain of awaits between two sleeps
            await clock.sleep(1)
            ticks.append(clock.now())

    task = asyncio.create_task(ticker())
    await clock.advance(4.5)
    assert ticks == [1_000_000, 2_000_000, 3_000_000, 4_000_000]
    task.cancel()


async def test_a_cancelled_sleeper_leaves_no_timer() -> None:
    clock = VirtualClock()
    task = asyncio.create_task(clock.sleep(5))
    await asyncio.sleep(0)
    assert clock.next_due() == 5_000_000
    task.cancel()
    await asyncio.wait([task])
    assert clock.next_due() is None


async def test_nothing_moves_while_the_clock_stands() -> None:
    clock, called = VirtualClock(), list[int]()
    clock.call_later(0.001, lambda: called.append(clock.now()))
    await asyncio.sleep(0.02)
    assert called == []
    await clock.advance(0.001)
    assert called == [1_000]


async def test_a_task_that_never_rests_is_reported_instead_of_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.clock, "SETTLE_TICKS_MAX", 100)

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    task = asyncio.create_task(spin())
    with pytest.raises(RuntimeError, match="still busy"):
        await VirtualClock().advance(1)
    task.cancel()
