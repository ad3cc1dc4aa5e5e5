"""What the tables of read models promise, on the memory twin and on Postgres, with 1 and with 4 partitions."""

import asyncio

import msgspec
import pytest

from domain import commands as c
from domain.ids import CaseId, EscrowId, Micros
from domain.roles import Role, SeatKind
from domain.terms import Policy
from eventstore.opening import Store
from projections.api import (
    Batch,
    EscrowQuery,
    Generation,
    ModelReader,
    ModelTables,
    Place,
    RebuildUnderWay,
    RowsRefused,
)
from projections.differences import differences
from projections.feeder import Change, write_of
from projections.models import MODELS
from projections.opening import open_models
from projections.rebuild import rebuild
from projections.rows import EscrowRow, MessageRow, Row
from tests.given import ARBITER, BUYER, VENDOR, awaiting_funding
from tests.model_worlds import (
    LIVES,
    append,
    append_lives,
    batch_of,
    feed_all,
    new_events,
    recorded,
    shown,
    talked,
    through,
    unreadable,
)
from tests.patience import PATIENT
from tests.store_worlds import StoreWorld

EVERY = Micros(2**62)
# What a read answers does not depend on the number of partitions: 4 show what 1 would.
two_backends = pytest.mark.parametrize("store_world", ["memory-4", "postgres-4"], indirect=True)


class Models:
    """A store, both sides of its read models, and another node's."""

    def __init__(self, store: Store, other: Store) -> None:
        self.log = store.log
        self.tables: ModelTables
        self.rows: ModelReader
        self.tables, self.rows = open_models(store, limits=PATIENT)
        self.elsewhere, _ = open_models(other, limits=PATIENT)


@pytest.fixture
async def models(store_world: StoreWorld) -> Models:
    models = Models(await store_world.open(), await store_world.open(node_id="other"))
    await models.tables.begin(MODELS)
    return models


@pytest.fixture
async def full(models: Models) -> Models:
    await append_lives(models.log)
    await feed_all(models.log, models.tables)
    return models


# -- writing ---------------------------------------------------------------------------------------------------


async def test_every_model_reads_back_what_the_log_makes_of_it(full: Models) -> None:
    assert await differences(full.log, full.tables) == ()
    heads = {head.partition: head.position for head in await full.log.heads()}
    assert {model: dict(each.positions) for model, each in (await full.tables.progress()).items()} == {
        model: heads for model in MODELS
    }


async def test_a_batch_is_written_once_whoever_comes_second(models: Models) -> None:
    batch = batch_of(LIVES["funded"], model="escrows")
    assert await models.tables.write(batch) == {Generation("escrows", 1)}
    assert await models.elsewhere.write(batch) == frozenset()
    counted = batch_of(LIVES["funded"], model="capacity")
    await asyncio.gather(models.tables.write(counted), models.elsewhere.write(counted))
    assert (await models.rows.counts())["created"] == 1


async def test_of_a_batch_only_generations_at_its_place_are_written(models: Models) -> None:
    first, second = (batch_of(LIVES["funded"], model=model) for model in ("escrows", "turns"))
    await models.tables.write(first)
    both = msgspec.structs.replace(first, writes=(*first.writes, *second.writes))
    assert await models.tables.write(both) == {Generation("turns", 1)}


async def test_refused_rows_leave_nothing_behind(models: Models) -> None:
    good, bad = (batch_of(LIVES["funded"], model=model) for model in ("turns", "escrows"))
    (write,) = bad.writes
    (row,) = write.rows
    assert isinstance(row, EscrowRow)
    broken = msgspec.structs.replace(write, rows=(msgspec.structs.replace(row, state="\0"),))
    with pytest.raises(RowsRefused):
        await models.tables.write(msgspec.structs.replace(bad, writes=(*good.writes, broken)))
    progress = await models.tables.progress()
    assert set(progress["escrows"].positions.values()) | set(progress["turns"].positions.values()) == {0}


async def test_a_stop_is_noted_and_taken_back(models: Models) -> None:
    await models.tables.set_stopped("turns", "after position 3")
    assert (await models.elsewhere.progress())["turns"].stopped == "after position 3"
    await models.elsewhere.set_stopped("turns", None)
    assert (await models.tables.progress())["turns"].stopped is None


async def test_an_escrow_that_cannot_be_read_stands_still_and_is_listed(models: Models) -> None:
    lives = {name: LIVES[name] for name in ("funded", "disputed")}
    await append_lives(models.log, lives)
    before = len(LIVES["funded"].events)
    ill = await append(models.log, "esc_funded", [unreadable(), *new_events(LIVES["created"].events)], after=before)
    await feed_all(models.log, models.tables)
    (row,) = await models.rows.stopped(limit=10)
    assert (row.escrow_id, row.version, row.position) == ("esc_funded", before + 1, ill.events[0].position)
    assert row.says.startswith("UnknownEvent: from_the_future version 1")
    shown = await models.rows.escrow(EscrowId("esc_funded"))
    assert shown is not None and (shown.state, shown.version) == ("funded", before)
    reasons = {each.escrow_id: each.reasons for each in await models.rows.recovery(after=None, limit=10)}
    assert reasons == {"esc_funded": ("unreadable",), "esc_disputed": ()}
    assert {each.escrow_id for each in await models.rows.due(EVERY, after=None, limit=10)} == {"esc_disputed"}


async def test_an_event_too_early_stands_still_as_well(models: Models) -> None:
    await append(models.log, "esc_odd", new_events(LIVES["funded"].events[1:]))
    await feed_all(models.log, models.tables)
    (row,) = await models.rows.stopped(limit=10)
    assert (row.escrow_id, row.version) == ("esc_odd", 1)
    assert await models.rows.escrow(EscrowId("esc_odd")) is None


# -- rebuilding ------------------------------------------------------------------------------------------------


async def test_a_rebuilt_model_is_the_same_and_has_another_generation(full: Models) -> None:
    assert list(await rebuild(full.log, full.tables, tuple(MODELS))) == [2] * len(MODELS)
    assert await differences(full.log, full.tables) == ()
    assert {each.live for each in (await full.tables.progress()).values()} == {2}
    assert await full.rows.counts() == await _counted_anew(full)


async def test_what_somebody_changed_in_the_tables_is_found_and_a_rebuild_mends_it(full: Models) -> None:
    await _damage(full)
    found = await differences(full.log, full.tables)
    assert {(each.model, each.says) for each in found} == {("escrows", "state"), ("turns", "missing")}
    await rebuild(full.log, full.tables, ["escrows", "turns"])
    assert await differences(full.log, full.tables) == ()


async def test_a_checkpoint_ahead_of_the_log_is_found_and_a_rebuild_mends_it(full: Models) -> None:
    partition = full.log.partition_of("esc_funded")
    at = (await full.tables.progress())["deadlines"].positions[partition]
    (write,) = batch_of(LIVES["created"], model="deadlines").writes
    nothing = msgspec.structs.replace(write, escrows=(), rows=())
    assert await full.tables.write(Batch(partition=partition, before=at, after=at + 1, writes=(nothing,)))
    (found,) = await differences(full.log, full.tables)
    assert (found.model, found.partition, found.says) == ("deadlines", partition, "ahead of the log")
    await rebuild(full.log, full.tables, ["deadlines"])
    assert await differences(full.log, full.tables) == ()


async def test_a_model_that_was_never_begun_is_a_difference(store_world: StoreWorld) -> None:
    store = await store_world.open()
    tables, _ = open_models(store, limits=PATIENT)
    found = await differences(store.log, tables)
    assert {(each.model, each.says) for each in found} == {(model, "missing") for model in MODELS}


async def test_nobody_reads_a_half_built_model(full: Models) -> None:
    shown = await full.rows.escrow_page(EscrowQuery(user=None, limit=20))
    async with full.tables.building(["escrows"]) as building:
        (generation,) = building.generations
        half = batch_of(LIVES["created"], model="escrows", number=generation.number)
        await full.tables.write(half)
        assert await full.rows.escrow_page(EscrowQuery(user=None, limit=20)) == shown
        assert not await building.swap(), "the live one is further"
        assert await full.rows.escrow_page(EscrowQuery(user=None, limit=20)) == shown
    assert (await full.tables.progress())["escrows"].live == 1


async def test_two_rebuilds_of_one_model_refuse_each_other(full: Models) -> None:
    async with full.tables.building(["turns"]):
        with pytest.raises(RebuildUnderWay, match="turns is being rebuilt by another process"):
            async with full.elsewhere.building(["escrows", "turns"]):
                pass
        async with full.elsewhere.building(["escrows"]):
            pass
    async with full.elsewhere.building(["turns"]):
        pass


async def test_an_interrupted_rebuild_is_begun_again_and_leaves_nothing(full: Models) -> None:
    async with full.tables.building(["turns"]) as building:
        (generation,) = building.generations
        await full.tables.write(batch_of(LIVES["created"], model="turns", number=generation.number))
    assert list(await rebuild(full.log, full.elsewhere, ["turns"])) == [3]
    assert await full.tables.write(batch_of(LIVES["created"], model="turns", number=generation.number)) == frozenset()
    assert await differences(full.log, full.tables) == ()
    assert (await full.tables.progress())["turns"].building is None


async def test_after_a_swap_the_old_generation_is_not_fed_any_more(full: Models) -> None:
    progress = (await full.tables.progress())["escrows"]
    await rebuild(full.log, full.elsewhere, ["escrows"])
    late = [
        Batch(partition=partition, before=at, after=at + 1, writes=batch_of(LIVES["created"], model="escrows").writes)
        for partition, at in progress.positions.items()
    ]
    assert [await full.tables.write(each) for each in late] == [frozenset()] * len(late)


async def test_whoever_feeds_the_old_generation_learns_of_the_swap_before_its_rows_are_gone(full: Models) -> None:
    progress = (await full.tables.progress())["escrows"]
    (write,) = batch_of(LIVES["created"], model="escrows").writes
    async with full.elsewhere.building(["escrows"]) as building:
        (new,) = building.generations
        for partition, at in progress.positions.items():
            fed = msgspec.structs.replace(write, generation=new)
            await full.elsewhere.write(Batch(partition=partition, before=0, after=at, writes=(fed,)))
        assert await building.swap()
        for partition, at in progress.positions.items():
            late = Batch(partition=partition, before=at, after=at + 1, writes=(write,))
            assert await full.tables.write(late) == frozenset(), "rows that nobody reads, and a checkpoint that says so"
        assert (await full.tables.progress())["escrows"].positions == progress.positions


async def _damage(models: Models) -> None:
    """Rewrites one escrow's line and takes another's turns away, behind the checkpoints' back."""
    shown = await models.rows.escrow(EscrowId("esc_funded"))
    assert shown is not None
    lie = msgspec.structs.replace(shown, state="completed")
    await _overwrite(models, "escrows", "esc_funded", (lie,))
    await _overwrite(models, "turns", "esc_created", ())


async def _overwrite(models: Models, model: str, escrow_id: str, rows: tuple[Row, ...]) -> None:
    partition = models.log.partition_of(escrow_id)
    at = (await models.tables.progress())[model].positions[partition]
    (write,) = batch_of(LIVES["created"], model=model).writes
    changed = msgspec.structs.replace(write, escrows=(EscrowId(escrow_id),), rows=rows)
    assert await models.tables.write(Batch(partition=partition, before=at, after=at, writes=(changed,)))


async def _counted_anew(models: Models) -> dict[str, int]:
    counts = dict(await models.rows.counts())
    shown = await models.rows.escrow_page(EscrowQuery(user=None, limit=100))
    by_state = {f"status:{row.state}": 0 for row in shown}
    for row in shown:
        by_state[f"status:{row.state}"] += 1
    assert {mark: counts[mark] for mark in by_state} == by_state
    assert counts["created"] == len(shown)
    return counts


# -- reading ---------------------------------------------------------------------------------------------------


@two_backends
async def test_escrows_come_newest_first_in_pages_and_by_filter(full: Models) -> None:
    everything = await full.rows.escrow_page(EscrowQuery(user=None, limit=100))
    assert len(everything) == len(LIVES)
    keys = [(row.created_at, row.escrow_id) for row in everything]
    assert keys == sorted(keys, reverse=True)
    paged: list[EscrowRow] = []
    while page := await full.rows.escrow_page(EscrowQuery(user=VENDOR, after=_last(paged), limit=2)):
        assert len(page) <= 2
        paged += page
    assert paged == everything
    query = EscrowQuery(user=ARBITER, role=Role.ARBITER, state="disputed", order=everything[0].order_id, limit=9)
    assert [row.escrow_id for row in await full.rows.escrow_page(query)] == ["esc_disputed"]
    assert await full.rows.escrow_page(EscrowQuery(user=BUYER, role=Role.VENDOR, limit=9)) == []
    assert await full.rows.escrows_of(BUYER) == sorted(f"esc_{name}" for name in LIVES)
    assert list(await full.rows.escrows_of(ARBITER)) == list(await full.rows.escrows_of(VENDOR))


def _last(rows: list[EscrowRow]) -> Place | None:
    return Place(rows[-1].created_at, rows[-1].escrow_id) if rows else None


@two_backends
async def test_cases_are_found_by_name_and_by_arbiter(full: Models) -> None:
    row = await full.rows.case(CaseId("case-1"))
    assert row is not None and (row.escrow_id, row.buyer_claim) == ("esc_disputed", "claim")
    assert await full.rows.case(CaseId("case-2")) is None
    assert await full.rows.cases_of(ARBITER, after=None, limit=5) == [row]
    assert await full.rows.cases_of(ARBITER, after=Place(row.opened_at, row.case_id), limit=5) == []
    assert await full.rows.cases_of(BUYER, after=None, limit=5) == []
    for status, found in {"all": [row], "open": [row], "resolved": []}.items():
        assert await full.rows.cases_of(ARBITER, after=None, limit=5, status=status) == found
    for text, found in {
        "CASE-1": [row],
        "lice": [row],
        "_": [row],
        "%": [],
        "nobody": [],
        row.escrow_id: [row],
    }.items():
        assert await full.rows.cases_of(ARBITER, after=None, limit=5, status="all", text=text) == found


@two_backends
async def test_what_is_said_in_a_case_comes_in_order_and_pages(full: Models) -> None:
    events = new_events(talked().events)
    await append(full.log, "esc_talked", events[:-1])
    await feed_all(full.log, full.tables)
    await append(full.log, "esc_talked", events[-1:], after=len(events) - 1)
    await feed_all(full.log, full.tables)
    first = await full.rows.messages(EscrowId("esc_talked"), after=0, limit=2)
    rest = await full.rows.messages(EscrowId("esc_talked"), after=2, limit=2)
    assert [(row.number, row.by, row.reply_to) for row in (*first, *rest)] == [
        (1, Role.BUYER, None),
        (2, Role.ARBITER, 1),
        (3, Role.VENDOR, 2),
    ]
    assert await full.rows.messages(EscrowId("esc_disputed"), after=0, limit=2) == []
    (talked_about,) = await full.rows.cases_of(ARBITER, after=None, limit=5, text="esc_talked")
    assert talked_about.touched_at == rest[-1].at, "the last word is the last touch"
    assert await differences(full.log, full.tables) == ()


@two_backends
async def test_pictures_of_a_case_come_in_order_with_who_was_shown_them(full: Models) -> None:
    events = new_events(shown().events)
    await append(full.log, "esc_shown", events[:-1])
    await feed_all(full.log, full.tables)
    assert [row.arbiter_saw_at for row in await full.rows.photos(EscrowId("esc_shown"))] == [None, None]
    await append(full.log, "esc_shown", events[-1:], after=len(events) - 1)
    await feed_all(full.log, full.tables)
    first, second = await full.rows.photos(EscrowId("esc_shown"))
    assert [(row.number, row.uploader, row.size) for row in (first, second)] == [
        (0, Role.BUYER, 1_000),
        (1, Role.VENDOR, 1_000),
    ]
    assert (first.arbiter_saw_at, second.arbiter_saw_at) == (None, shown().events[-1].at)
    assert await full.rows.photos(EscrowId("esc_disputed")) == []
    assert await differences(full.log, full.tables) == ()


async def test_rows_that_stay_are_left_alone_when_others_come_behind_them() -> None:
    life = talked()
    before, after = (through(recorded(life)[:count]) for count in (len(life.events) - 1, len(life.events)))
    write = write_of(Generation("messages", 1), [Change(before, after)])
    assert (write.escrows, [row.number for row in write.rows if isinstance(row, MessageRow)]) == ((), [3])


@two_backends
async def test_items_come_oldest_activity_first(full: Models) -> None:
    assert await full.rows.recovery_count() == 1
    (row,) = await full.rows.recovery(after=None, limit=5)
    assert await full.rows.recovery(after=Place(row.active_at - 1, ""), limit=5) == [row]
    assert await full.rows.recovery(after=Place(row.active_at, row.escrow_id), limit=5) == []


@two_backends
async def test_open_turns_are_paged_by_escrow_and_role(full: Models) -> None:
    found = await full.rows.open_turns(SeatKind.POOL, after=None, limit=100)
    keys = [(row.escrow_id, row.role) for row in found]
    assert keys == sorted(keys) and len(keys) > 1
    assert ("esc_created", Role.BUYER) in keys and ("esc_created", Role.VENDOR) not in keys, "claimed in seat order"
    assert list(await full.rows.open_turns(SeatKind.POOL, after=keys[0], limit=1)) == [found[1]]
    assert await full.rows.open_turns(SeatKind.RELAY, after=None, limit=100) == []


@two_backends
async def test_deadlines_come_soonest_first_up_to_the_moment(full: Models) -> None:
    found = await full.rows.due(EVERY, after=None, limit=100)
    assert [row.due for row in found] == sorted(row.due for row in found)
    soonest = found[0]
    assert await full.rows.due(Micros(soonest.due - 1), after=None, limit=100) == []
    assert await full.rows.due(EVERY, after=soonest, limit=100) == list(found[1:])


@two_backends
async def test_watched_escrows_are_found_once_after_each_move(full: Models) -> None:
    heads = {head.partition: head.position for head in await full.log.heads()}
    found = [each for at in heads for each in await full.rows.watched(at, after_position=0, limit=100)]
    assert {each.escrow_id for each in found} == {f"esc_{name}" for name in LIVES} - {"esc_created"}
    again = [each for at, end in heads.items() for each in await full.rows.watched(at, after_position=end, limit=100)]
    assert again == []


@two_backends
async def test_wallets_are_one_row_an_escrow(full: Models) -> None:
    row = await full.rows.wallets(EscrowId("esc_funded"))
    assert row is not None and (row.buyer_wallet, row.arbiter_kind) == ("wallet-buyer", SeatKind.POOL)
    bare = await full.rows.wallets(EscrowId("esc_created"))
    assert bare is not None and bare.buyer_wallet is None
    assert await full.rows.wallets(EscrowId("esc_none")) is None


@two_backends
async def test_escrows_whose_arbiter_is_awaited_are_listed_by_name_until_it_is_there(models: Models) -> None:
    asks = Policy(arbiter_ready_s=60)
    waits, ready = awaiting_funding(policy=asks), awaiting_funding(policy=asks)
    ready.when(c.ReportArbiterReady(at=ready.now, seen_at=ready.now))
    await append_lives(models.log, {"b": waits, "a": waits, "ready": ready, "unasked": awaiting_funding()})
    await feed_all(models.log, models.tables)
    found = await models.rows.unready(after=None, limit=10)
    assert [(row.escrow_id, row.unready) for row in found] == [("esc_a", True), ("esc_b", True)]
    assert list(await models.rows.unready(after=EscrowId("esc_a"), limit=1)) == [found[1]]
    assert await models.rows.unready(after=EscrowId("esc_b"), limit=1) == []
