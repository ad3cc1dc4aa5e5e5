"""The audit compares draws with what was committed to and taken before: each way to a draw of one's choice is found."""

import itertools
import os
import sys
from asyncio import create_subprocess_exec, subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from domain.arbiters import DRAWS_STREAM, Candidates
from domain.events import EscrowCreated
from domain.ids import Micros
from eventstore.api import Recorded
from eventstore.memory import MemoryLog, MemoryTables
from eventstore.opening import Store, memory_store, open_store
from schemas.codec import decode
from service.arbiters import Arbiters
from service.audit import Verified, verify, with_draws
from service.settings import Arbiter
from tests.draw_hands import MARA, POOL, DrawHands, ground, terms_of
from tests.patience import PATIENT
from tests.store_worlds import StoreWorld
from tests.worlds import house_world

IN_POOL: dict[str, Any] = {
    "arbiter_mode": "pool",
    "arbiters": tuple(Arbiter(user_id=user) for user in POOL),
    "max_concurrent_escrows": 1_000,
    "max_beta_volume_atomic": 10**18,
}
Cheat = Callable[[DrawHands], Awaitable[object]]


def said(verified: Verified) -> list[tuple[str, str]]:
    """What was found, and of which stream."""
    return [(each.stream_id, each.says) for each in verified.findings]


# -- nothing to find -------------------------------------------------------------------------------------------


async def test_a_pool_that_drew_through_several_chains_gives_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in ("domain.draw", "domain.arbiters"):
        monkeypatch.setattr(f"{room}.LINKS_MAX", 4)
    monkeypatch.setattr("service.draw_checks.PAGE", 5)
    async with house_world(**IN_POOL) as world:
        for _ in range(11):
            await world.create()
        assert [each.taken for each in (await Arbiters(world.house).draws()).chains] == [4, 4, 3, 0]
        verified = await verify(world.house.store.log)
    assert (said(verified), verified.draws, verified.links, verified.unused) == ([], 11, 11, 0)


async def test_a_link_whose_creation_came_to_nothing_is_counted_and_no_finding() -> None:
    async with house_world(**IN_POOL) as world:
        await world.create()
        arbiters, given_up = Arbiters(world.house), terms_of("esc_given_up")
        await arbiters.draw(given_up, Candidates(eligible=POOL, excluded={}), at=Micros(world.house.clock.now()))
        await world.create()
        verified = await verify(world.house.store.log)
    assert (said(verified), verified.draws, verified.links, verified.unused) == ([], 2, 3, 1)


async def test_an_escrow_that_its_service_no_longer_remembered_may_have_taken_another_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.draw_checks.TAKEN_KEPT_MAX", 2)
    hands = DrawHands(memory_store(partitions=4).log)
    await hands.commit(1)
    await hands.take(1, "esc_slow")
    for link in (2, 3):
        await hands.honest(link, f"esc_{link}")
    await hands.honest(4, "esc_slow")
    verified = await verify(hands.log)
    assert (said(verified), verified.draws, verified.links, verified.unused) == ([], 3, 4, 1)


async def test_a_log_without_draws_has_none_to_compare() -> None:
    async with house_world() as world:
        await world.create()
        verified = await verify(world.house.store.log)
    assert (said(verified), verified.draws, verified.links, verified.unused) == ([], 0, 0, 0)


async def test_what_a_running_service_draws_meanwhile_is_no_finding() -> None:
    async with house_world(**IN_POOL) as world:
        await world.create()
        earlier = await verify(world.house.store.log)
        for _ in range(5):
            await world.create()
        verified = await with_draws(world.house.store.log, earlier)
    assert (said(verified), verified.draws, verified.links, verified.unused) == ([], 1, 6, 0)


async def test_a_draw_that_came_meanwhile_makes_up_for_none_before_it() -> None:
    hands = DrawHands(memory_store(partitions=1).log)
    await honest_with(hands, never_taken)
    earlier = await verify(hands.log)
    await hands.honest(4, "esc_4")
    verified = await with_draws(hands.log, earlier)
    assert (earlier.count, said(verified)) == (1, said(earlier) * 2)


class DrawingOn(MemoryLog):
    """A log whose service draws once more before each page of a partition is read."""

    def __init__(self, tables: MemoryTables) -> None:
        super().__init__(tables)
        self.hands, self.links = DrawHands(self), itertools.count(4)

    async def read_partition(self, partition: int, *, after_position: int, limit: int = 1000) -> Sequence[Recorded]:
        link = next(self.links)
        await self.hands.honest(link, f"esc_{link}")
        return await super().read_partition(partition, after_position=after_position, limit=limit)


async def test_what_is_drawn_while_others_are_named_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = MemoryTables(partitions=1)
    drawing_on = DrawingOn(tables)
    await honest_with(drawing_on.hands, never_taken)
    earlier = await verify(MemoryLog(tables))
    monkeypatch.setattr("service.draw_checks.PAGE", 6)
    assert said(await with_draws(drawing_on, earlier)) == said(earlier) * 2
    assert len(tables.streams[DRAWS_STREAM]) > 6


class FirstsAlone(MemoryLog):
    """A log of which nobody may read a partition."""

    async def read_partition(self, partition: int, *, after_position: int, limit: int = 1000) -> Sequence[Recorded]:
        raise AssertionError


async def test_nothing_is_read_a_second_time_where_links_led_to_all_draws() -> None:
    tables = MemoryTables(partitions=4)
    hands = DrawHands(MemoryLog(tables))
    await hands.commit(1)
    for link in range(1, 6):
        await hands.honest(link, f"esc_{link}")
    checked = await verify(hands.log)
    assert await with_draws(FirstsAlone(tables), checked) == checked
    await hands.create("esc_forged", 9)
    with pytest.raises(AssertionError):
        await with_draws(FirstsAlone(tables), await verify(hands.log))


async def test_how_many_draws_are_compared_is_told_to_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.draw_checks.PAGE", 2)
    hands = DrawHands(memory_store(partitions=4).log)
    await honest_with(hands, used_again)
    await hands.take(4, "esc_given_up")
    told: list[tuple[int, int]] = []
    await with_draws(hands.log, await verify(hands.log), progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


# -- each way to a draw of one's choice ------------------------------------------------------------------------

_OUT_OF_TURN = (DRAWS_STREAM, "cannot follow: LinkOutOfTurn")
_NOT_TAKEN = "which was not taken in turn"


async def forged_anchor(hands: DrawHands) -> None:
    await hands.take(4, "esc_forged")
    await hands.create("esc_forged", 4, seed=9)


async def used_again(hands: DrawHands) -> None:
    await hands.create("esc_forged", 2)


async def taken_again(hands: DrawHands) -> None:
    await hands.take(2, "esc_forged")
    await hands.create("esc_forged", 2)


async def of_another_escrow(hands: DrawHands) -> None:
    await hands.take(4, "esc_forged")
    await hands.take(5, "esc_other")
    await hands.create("esc_forged", 5)
    await hands.create("esc_other", 5)


async def never_taken(hands: DrawHands) -> None:
    await hands.create("esc_forged", 77)


async def never_committed(hands: DrawHands) -> None:
    await hands.create("esc_forged", 1, chain=8)


async def before_its_commitment(hands: DrawHands) -> None:
    await hands.take(1, "esc_forged", chain=3)
    await hands.commit(3)
    await hands.create("esc_forged", 1, chain=3)


async def committed_again(hands: DrawHands) -> None:
    await hands.commit(3, seed=1)


async def two_to_choose_from(hands: DrawHands) -> None:
    await hands.take(4, "esc_forged")
    await hands.take(5, "esc_forged")
    await hands.create("esc_forged", 5)


async def appointed_after_the_draw(hands: DrawHands) -> None:
    await hands.take(4, "esc_forged")
    await hands.create("esc_forged", None)


_CHEATS: dict[str, tuple[Cheat, list[tuple[str, str]]]] = {
    "a forged anchor": (
        forged_anchor,
        [("esc_forged", "its draw names another anchor than the one that chain 1 committed to")],
    ),
    "a link used again": (
        used_again,
        [("esc_forged", "its arbiter was drawn with link 2 of chain 1, which was taken for esc_2")],
    ),
    "a link taken again": (
        taken_again,
        [
            _OUT_OF_TURN,
            (DRAWS_STREAM, "link 2 of chain 1 is taken out of turn"),
            ("esc_forged", "its arbiter was drawn with link 2 of chain 1, which was taken for esc_2"),
        ],
    ),
    "a link of another escrow": (
        of_another_escrow,
        [("esc_forged", "its arbiter was drawn with link 5 of chain 1, which was taken for esc_other")],
    ),
    "a link that was never taken": (
        never_taken,
        [("esc_forged", f"its arbiter was drawn with link 77 of chain 1, {_NOT_TAKEN}")],
    ),
    "a chain that was never committed": (
        never_committed,
        [("esc_forged", f"its arbiter was drawn with link 1 of chain 8, {_NOT_TAKEN}")],
    ),
    "a link before its commitment": (
        before_its_commitment,
        [
            _OUT_OF_TURN,
            (DRAWS_STREAM, "link 1 of chain 3 is taken before its chain is committed"),
            ("esc_forged", f"its arbiter was drawn with link 1 of chain 3, {_NOT_TAKEN}"),
        ],
    ),
    "a chain committed again": (
        committed_again,
        [(DRAWS_STREAM, "chain 3 is committed to an anchor that was committed to before")],
    ),
    "two links to choose from": (
        two_to_choose_from,
        [(DRAWS_STREAM, "a second link is taken for esc_forged")],
    ),
    "no draw after all": (
        appointed_after_the_draw,
        [("esc_forged", "link 4 of chain 1 was taken for it, but it was created without a draw")],
    ),
}


async def honest_with(hands: DrawHands, cheat: Cheat) -> None:
    """Three honest draws, then the cheat."""
    await hands.commit(1)
    await hands.honest(1, "esc_1")
    await hands.commit(2)
    await hands.honest(2, "esc_2")
    await hands.honest(3, "esc_3")
    await cheat(hands)


@pytest.mark.parametrize("page", [2, 1_000])
@pytest.mark.parametrize("cheat", _CHEATS)
async def test_each_way_to_a_draw_of_ones_choice_is_found(
    cheat: str, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.draw_checks.PAGE", page)
    monkeypatch.setattr("service.draw_checks.PAGES_KEPT", 1)
    do, found = _CHEATS[cheat]
    hands = DrawHands(memory_store(partitions=4).log)
    await honest_with(hands, do)
    assert said(await verify(hands.log)) == found


async def test_every_draw_that_no_link_led_to_is_named(
    store_world: StoreWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.draw_checks.PAGE", 3)
    hands = DrawHands((await store_world.open()).log)
    await honest_with(hands, of_another_escrow)
    for number in range(6, 12):
        await hands.honest(number, f"esc_{number}")
        await hands.create(f"esc_again_{number}", number)
    await hands.take(12, "esc_away")
    verified = await verify(hands.log)
    assert {stream: says.rpartition(" ")[2] for stream, says in said(verified)} == {
        "esc_forged": "esc_other",
        **{f"esc_again_{number}": f"esc_{number}" for number in range(6, 12)},
    }
    assert (verified.count, verified.draws, verified.links, verified.unused) == (7, 17, 12, 2)


# -- the command -----------------------------------------------------------------------------------------------


async def audited(dsn: str, home: Path, *, processes: int) -> tuple[int | None, str]:
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "service", "audit", "verify", "--processes", str(processes)),
        env={**os.environ, "DATABASE_URL": dsn, "ENCRYPTION_KEY": "00" * 32, "THIRDKEY_HOME": str(home)},
        stdout=subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def first_of(store: Store, escrow_id: str) -> EscrowCreated:
    (first,) = await store.log.read_stream(escrow_id, limit=1)
    event = decode(type=first.type, schema_version=first.schema_version, body=first.body)
    assert isinstance(event, EscrowCreated)
    return event


# Each run imports the service, one of them twice: seconds of a loaded machine.
@pytest.mark.timeout(600)
async def test_the_command_finds_an_order_that_was_ground_out_of_a_secret_that_was_known(
    postgres_dsn: str, tmp_path: Path
) -> None:
    store = await open_store(dsn=postgres_dsn, encryption_key=bytes(32), partitions=4, node_id="n", limits=PATIENT)
    async with house_world(store=store, **IN_POOL) as world:
        ids = [await world.create() for _ in range(3)]
        code, out = await audited(postgres_dsn, tmp_path, processes=2)
        assert code == 0, out
        assert "draws: 3 compared with the 3 links that were taken\n" in out
        draw = (await first_of(store, ids[1])).draw
        assert draw is not None and draw.link == 2
        await DrawHands(store.log).begin(ground("esc_ground", draw, wanted=MARA), draw)
        for processes in (1, 2):
            code, out = await audited(postgres_dsn, tmp_path, processes=processes)
            assert code == 1
            assert f"esc_ground: its arbiter was drawn with link 2 of chain 1, which was taken for {ids[1]}" in out
            assert draw.secret not in out
