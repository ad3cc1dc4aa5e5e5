"""Claims on limits, taken in groups."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from actors.clock import SystemClock
from actors.desk import Desk, derived_id
from actors.directory import Directory
from actors.escrow import EscrowActor
from domain import limits
from domain.ids import EscrowId, Micros
from domain.limits import LIVE_STREAM, AnyLimitEvent
from domain.refusals import Refused
from eventstore.api import EventLog, LogUnavailable
from eventstore.memory import Fault, MemoryTables
from eventstore.opening import memory_store
from service.claims import GROUP_MAX, Claim, Claims

MANY = 1_000


def claims_on(event_log: EventLog) -> Claims:
    clock = SystemClock()
    directory: Directory[EscrowId] = Directory(
        lambda escrow_id: EscrowActor(escrow_id, event_log=event_log, clock=clock),
        clock=clock,
        on_parked=lambda _, failure: print("parked", failure),
    )
    return Claims(event_log, Desk(directory))


def place(number: int, *, most: int = MANY, dry: bool = False) -> Claim:
    """A wish for one of `most` places."""
    escrow_id = EscrowId(f"esc_{number}")

    def limit(events: Sequence[AnyLimitEvent], dead: frozenset[EscrowId]) -> limits.Decision:
        wish = limits.TakePlace(at=Micros(number), escrow_id=escrow_id, live_max=most, dead=dead)
        return limits.decide_place(limits.live_of(events), wish)

    return Claim(limit=limit, at=Micros(number), by="alice", command_id=derived_id("claim of", number), dry=dry)


def new_log() -> Any:
    return memory_store(partitions=1).log


async def test_claims_asked_at_once_share_an_append_each_with_its_own_event() -> None:
    log = new_log()
    claims = claims_on(log)
    asked = [claims.ask(LIVE_STREAM, place(number)) for number in reversed(range(GROUP_MAX))]
    assert set(await asyncio.gather(*asked)) == {None}
    recorded = await log.read_stream(LIVE_STREAM)
    assert len(recorded) == GROUP_MAX
    assert len({each.command_id for each in recorded}) == 1
    assert len({each.meta for each in recorded}) == GROUP_MAX
    moments = [each.occurred_at for each in recorded]
    assert moments == sorted(moments), "an event occurred before the event before it"


async def test_a_group_takes_no_more_than_there_is_and_the_rest_are_told_why() -> None:
    log = new_log()
    claims = claims_on(log)
    answers = await asyncio.gather(*(claims.ask(LIVE_STREAM, place(number, most=7)) for number in range(250)))
    assert answers.count(None) == 7
    assert {each.code for each in answers if each} == {"limit_concurrency"}
    assert len(await log.read_stream(LIVE_STREAM)) == 7


async def test_two_nodes_that_race_take_what_there_is_together() -> None:
    tables = MemoryTables(partitions=1)
    nodes = [claims_on(memory_store(partitions=1, tables=tables).log) for _ in range(2)]
    asked = [nodes[number % 2].ask(LIVE_STREAM, place(number, most=60)) for number in range(250)]
    assert (await asyncio.gather(*asked)).count(None) == 60


async def test_who_only_asks_adds_nothing_and_takes_nothing_from_the_others() -> None:
    log = new_log()
    claims = claims_on(log)
    asked = [claims.ask(LIVE_STREAM, place(number, most=1, dry=number < 9)) for number in range(10)]
    assert await asyncio.gather(*asked) == [None] * 10
    assert len(await log.read_stream(LIVE_STREAM)) == 1
    assert await claims.ask(LIVE_STREAM, place(10, most=1, dry=True)) == Refused("limit_concurrency", {"live_max": 1})


async def test_asked_again_a_claim_is_there_already() -> None:
    log = new_log()
    claims = claims_on(log)
    assert await asyncio.gather(*(claims.ask(LIVE_STREAM, place(1)) for _ in range(5))) == [None] * 5
    assert await claims.ask(LIVE_STREAM, place(1)) is None
    assert len(await log.read_stream(LIVE_STREAM)) == 1


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE_WRITE, Fault.LOST_AFTER_WRITE])
async def test_a_group_whose_answer_was_lost_looks_before_it_claims_again(fault: Fault) -> None:
    log = new_log()
    claims = claims_on(log)
    log.fail_next(fault)
    assert set(await asyncio.gather(*(claims.ask(LIVE_STREAM, place(number)) for number in range(9)))) == {None}
    assert len(await log.read_stream(LIVE_STREAM)) == 9


async def test_a_log_that_is_away_is_told_to_its_group_and_to_no_other() -> None:
    log = new_log()
    claims = claims_on(log)
    log.fail_next(Fault.UNAVAILABLE)
    asked = [claims.ask(LIVE_STREAM, place(number)) for number in range(5)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(answer) for answer in answers} == {LogUnavailable}
    assert await claims.ask(LIVE_STREAM, place(9)) is None


async def test_who_goes_away_while_it_waits_claims_nothing_and_holds_nobody_up() -> None:
    log = new_log()
    claims = claims_on(log)
    first = asyncio.create_task(claims.ask(LIVE_STREAM, place(1)))
    gone = asyncio.create_task(claims.ask(LIVE_STREAM, place(2)))
    last = asyncio.create_task(claims.ask(LIVE_STREAM, place(3)))
    await asyncio.sleep(0)  # all three have asked, and nothing is read yet
    gone.cancel()
    assert await first is None
    assert await last is None
    assert len(await log.read_stream(LIVE_STREAM)) == 2
