"""The directory wakes an actor once, never loses its mail, and lets nobody crash for ever."""

import asyncio
import gc
import weakref

import pytest

from actors.directory import DirectoryFull, Parked
from actors.mail import ActorStopped, AskTimeout
from tests.unit.residents import Hiccup, World, crash, hiccup, nap, note, rest


async def test_asks_for_one_sleeping_id_wake_it_once_and_are_answered_in_order() -> None:
    world = World()
    answers = await asyncio.gather(*(world.ask("a", note(f"{i}")) for i in range(50)))
    assert answers == world.diary == [f"{i}" for i in range(50)]
    assert world.made == ["a"]


async def test_each_id_has_its_own_actor_and_no_task_when_idle() -> None:
    world = World()
    await asyncio.gather(*(world.ask(f"{i % 7}", note("x")) for i in range(70)))
    assert sorted(world.made) == [f"{i}" for i in range(7)]
    assert world.directory.counts().resident == 7
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_idle_actor_is_put_to_sleep_at_its_time_and_woken_by_the_next_ask() -> None:
    world = World(idle_s=600)
    await world.ask("a", note("1"))
    await world.clock.advance(300)
    await world.ask("b", note("2"))
    await world.clock.advance(299.999)
    assert world.directory.counts().resident == 2
    await world.clock.advance(0.001)
    assert world.directory.counts().resident == 1
    await world.clock.advance(300)
    assert (world.directory.counts().resident, world.directory.counts().passivations) == (0, 2)
    assert world.clock.next_due() is None
    assert await world.ask("a", note("3")) == "3"
    assert world.made == ["a", "b", "a"]


async def test_an_actor_in_the_middle_of_a_message_is_not_put_to_sleep() -> None:
    world = World(idle_s=10)
    asker = asyncio.create_task(world.ask("a", nap("done", seconds=25)))
    await world.clock.advance(24)
    assert world.directory.counts().passivations == 0
    await world.clock.advance(2)
    assert await asker == "done"
    await world.clock.advance(10)
    assert world.directory.counts().passivations == 1


async def test_above_the_bound_the_least_recently_used_idle_actor_goes() -> None:
    world = World(resident_max=3)
    napping = asyncio.create_task(world.ask("busy", nap("nap", seconds=5)))
    await rest()
    for id in ["a", "b", "a", "c"]:
        await world.ask(id, note(id))
    assert world.directory.counts().resident == 3
    await world.ask("a", note("a"))
    assert world.made == ["busy", "a", "b", "c"]
    await world.ask("b", note("b"))
    assert world.made == ["busy", "a", "b", "c", "b"]
    await world.clock.advance(5)
    assert await napping == "nap"


async def test_when_all_residents_are_at_work_one_more_is_refused_and_the_known_ones_are_not() -> None:
    world = World(resident_max=2)
    naps = [asyncio.create_task(world.ask(id, nap(id, seconds=5))) for id in "ab"]
    await rest()
    with pytest.raises(DirectoryFull) as full:
        await world.ask("c", note("c"))
    assert full.value.resident_max == 2
    with pytest.raises(DirectoryFull):
        world.directory.tell("c", note("c"))
    waiting = asyncio.create_task(world.ask("a", note("after")))
    await world.clock.advance(5)
    assert await asyncio.gather(*naps, waiting) == ["a", "b", "after"]
    assert await world.ask("c", note("c")) == "c"


async def test_putting_to_sleep_never_loses_a_message() -> None:
    world = World(idle_s=1, resident_max=3)
    asked = 0
    for round_ in range(60):
        tasks = [asyncio.create_task(world.ask(f"{(round_ + i) % 9}", note(f"{round_}.{i}"))) for i in range(3)]
        await world.clock.advance([0, 0.5, 1, 2][round_ % 4])
        assert await asyncio.gather(*tasks) == [f"{round_}.{i}" for i in range(3)]
        asked += 3
    assert len(world.diary) == asked
    assert world.directory.counts().passivations > 50


async def test_a_sleeping_actor_leaves_nothing_in_memory() -> None:
    world = World(idle_s=1)
    await world.ask("a", note("1"))
    gone = weakref.ref(world.directory._residents["a"].actor)
    gc.disable()
    try:
        await world.clock.advance(1)
        assert gone() is None
    finally:
        gc.enable()


async def test_a_crashed_actor_is_made_anew_at_the_next_message() -> None:
    world = World()
    await world.crash("a")
    assert world.directory.counts().resident == 0
    assert await world.ask("a", note("1")) == "1"
    assert world.made == ["a", "a"]
    assert world.directory.counts().crashes == 1


async def test_mail_behind_a_crash_goes_to_the_next_actor_in_order() -> None:
    world = World()
    crashing = asyncio.create_task(world.ask("a", crash))
    await asyncio.sleep(0)
    world.directory.tell("a", note("told"))
    asks = [asyncio.create_task(world.ask("a", note(f"{i}"))) for i in range(3)]
    assert await asyncio.gather(*asks) == ["0", "1", "2"]
    assert world.diary == ["told", "0", "1", "2"]
    with pytest.raises(ZeroDivisionError):
        await crashing
    assert world.made == ["a", "a"]


async def test_the_fifth_crash_within_a_minute_parks_the_id_with_one_alert_and_no_other_id() -> None:
    world = World()
    await world.crash("a", times=5)
    for _ in range(3):
        with pytest.raises(Parked) as parked:
            await world.ask("a", note("never"))
    with pytest.raises(Parked):
        world.directory.tell("a", note("never"))
    assert parked.value.id == "a"
    assert world.alerts == [("a", "ZeroDivisionError")]
    assert world.directory.parked() == {"a"}
    assert world.directory.counts().parked == 1
    assert await world.ask("b", note("b")) == "b"
    assert len(world.made) == 6


async def test_crashes_further_apart_than_the_window_do_not_park() -> None:
    world = World()
    for _ in range(20):
        await world.crash("a")
        await world.clock.advance(15)
    assert world.alerts == []
    await world.crash("a", times=2)
    assert world.alerts == [("a", "ZeroDivisionError")]


async def test_mail_behind_the_crash_that_parks_is_refused_as_parked() -> None:
    world = World(crash_limit=1)
    asks = [asyncio.create_task(world.ask("a", message)) for message in (crash, note("1"), note("2"))]
    errors = await asyncio.gather(*asks, return_exceptions=True)
    assert [type(error) for error in errors] == [ZeroDivisionError, Parked, Parked]


async def test_an_unparked_id_wakes_again_with_its_crashes_forgotten() -> None:
    world = World()
    await world.crash("a", times=5)
    world.directory.unpark("a")
    await world.crash("a", times=4)
    assert await world.ask("a", note("1")) == "1"
    await world.crash("a")
    assert len(world.alerts) == 2


async def test_unparking_what_is_not_parked_forgives_no_crash() -> None:
    world = World()
    await world.crash("a", times=4)
    world.directory.unpark("a")
    await world.crash("a")
    assert world.directory.parked() == {"a"}


async def test_an_answer_the_actor_survives_is_no_crash_not_even_from_its_start() -> None:
    world = World(crash_limit=2)
    world.unreadable.add("a")
    for _ in range(5):
        with pytest.raises(Hiccup):
            await world.ask("a", note("never"))
    world.unreadable.clear()
    for _ in range(5):
        with pytest.raises(Hiccup):
            await world.ask("a", hiccup)
    assert await world.ask("a", note("1")) == "1"
    assert (world.directory.counts().crashes, len(world.made)) == (0, 6)


async def test_when_reading_the_state_fails_each_asker_is_told_and_none_waits() -> None:
    world = World()
    world.unreadable.add("a")
    errors = await asyncio.gather(*(world.ask("a", note("never")) for _ in range(4)), return_exceptions=True)
    assert [type(error) for error in errors] == [Hiccup] * 4


async def test_an_alert_hook_that_fails_stops_nobody() -> None:
    world = World(crash_limit=1)
    world.alerts = None  # type: ignore[assignment]  # so that the hook raises
    await world.crash("a")
    with pytest.raises(Parked):
        await world.ask("a", note("never"))


async def test_the_memory_of_crashes_is_bounded_by_the_window() -> None:
    world = World()
    for i in range(30):
        await world.crash(f"{i}")
        await world.clock.advance(10)
    assert len(world.directory._crashes) <= 7


async def test_a_deadline_covers_waking() -> None:
    world = World()
    napping = asyncio.create_task(world.ask("a", nap("nap", seconds=100)))
    await world.clock.advance(30)
    with pytest.raises(AskTimeout):
        await napping
    await world.clock.advance(70)
    assert world.diary == ["nap"]


async def test_stopping_all_finishes_what_was_asked_and_refuses_what_comes_later() -> None:
    world = World()
    await world.ask("idle", note("idle"))
    asks = [asyncio.create_task(world.ask("a", message)) for message in (nap("nap", seconds=3), note("waiting"))]
    await rest()
    stopping = asyncio.create_task(world.directory.stop_all(timeout_s=10))
    await rest()
    for id in ["a", "idle", "new"]:
        with pytest.raises(ActorStopped):
            await world.ask(id, note("late"))
    await world.clock.advance(3)
    await stopping
    assert await asyncio.gather(*asks) == ["nap", "waiting"]
    assert world.directory.counts().resident == 0
    assert world.clock.next_due() is None
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_stopping_all_ends_in_time_and_frees_every_asker() -> None:
    world = World()
    asks = [asyncio.create_task(world.ask("a", message)) for message in (nap("nap", seconds=99), note("waiting"))]
    await rest()
    stopping = asyncio.create_task(world.directory.stop_all(timeout_s=10))
    await world.clock.advance(10)
    await stopping
    errors = await asyncio.gather(*asks, return_exceptions=True)
    assert [error.begun for error in errors if isinstance(error, ActorStopped)] == [True, False]
    assert world.diary == []
