"""The signer of heads: when it signs, who does, and what it never signs."""

import asyncio

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from eventstore.api import Append, NewEvent
from eventstore.heads import GrowingHead, duty_lease_name, key_id_of, signature_holds
from eventstore.memory import MemoryTables
from eventstore.merkle import Frontier
from eventstore.opening import memory_store
from schemas.heads import HeadRecord
from service.head_checks import HeadWalk, Outside
from service.head_signer import HeadLimits, HeadSigner
from service.heads import HeadBoard, HeadKeeper, HeadMetrics
from service.heads_file import HeadsFile, HeadsUnreadable, head_of, read_heads, record_of
from tests.log_hands import change, rechain

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
MINUTE = 60_000_000


class Clock:
    """The tables, the leases and the signers go by it."""

    def __init__(self):
        self.moment = 1_700_000_000_000_000

    def now(self):
        return self.moment


class OnePartition:
    """Tables of one partition, and as many nodes on them as a test likes."""

    def __init__(self):
        self.clock = Clock()
        self.tables = MemoryTables(partitions=1, clock=self.clock.now)
        self._appended = 0

    def store(self, node="a"):
        return memory_store(partitions=1, tables=self.tables, node_id=node)

    def signer(self, node="a", *, key=KEY, remembered=None, **limits):
        bounds = HeadLimits(page=3, **limits)
        return HeadSigner(self.store(node), key, clock=self.clock, limits=bounds, remembered=remembered)

    def keeper(self, path, node="a", *, announce=None, problems=None):
        return HeadKeeper(
            self.store(node),
            KEY,
            clock=self.clock,
            file=HeadsFile(path),
            problems=[] if problems is None else problems,
            limits=HeadLimits(look_s=0.01),
            announce=announce,
        )

    async def append(self, events=1):
        event = NewEvent(type="t", schema_version=1, occurred_at=1, meta=b"{}", body=b"{}")
        self._appended += 1
        command = f"{self._appended:064x}"
        item = Append(stream_id=f"s{command}", expected_version=0, events=(event,) * events, command_id=command)
        await self.store().log.append(item)

    async def signed(self, events=5):
        """Appends and signs; a minute later something new is due again."""
        await self.append(events)
        (head,) = await self.signer().sign_due()
        self.clock.moment += MINUTE
        return head

    @property
    def heads(self):
        return [each.head for each in self.tables.signed_heads[0]]

    def root(self, position):
        return Frontier().extended(event.leaf for event in self.tables.events[0][:position]).root


@pytest.fixture
def log():
    return OnePartition()


async def test_a_head_signs_position_chain_and_merkle_root_of_all_leaves(log):
    await log.append(7)
    (head,) = await log.signer().sign_due()
    assert (head.partition, head.position, head.chain) == (0, 7, log.tables.events[0][6].chain)
    assert (head.merkle_root, head.signed_at) == (log.root(7), log.clock.now())
    assert head.key_id == key_id_of(KEY.public_key())
    assert signature_holds(head)
    assert log.heads == [head]


@pytest.mark.parametrize("field", ["partition", "position", "chain", "merkle_root", "signed_at", "key_id", "signature"])
async def test_a_signature_holds_for_nothing_but_what_was_signed(log, field):
    head = await log.signed()
    other = {"key_id": key_id_of(OTHER_KEY.public_key())}.get(field)
    value = getattr(head, field)
    changed = other or (value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:])
    assert not signature_holds(msgspec.structs.replace(head, **{field: changed}))


async def test_the_next_head_needs_only_the_new_leaves_and_has_the_root_of_all(log):
    await log.signed(5)
    del log.tables.events[0][:4]  # all but the last one signed: what is read before it would be missed
    kept = log.tables.events[0]
    before = log.tables.signed_heads[0][0].frontier
    log.tables.events[0] = [*kept[:1] * 4, *kept]  # positions as they were, contents that nobody may need
    await log.append(3)
    (head,) = await log.signer().sign_due()
    leaves = [event.leaf for event in log.tables.events[0][5:]]
    assert (head.position, head.merkle_root) == (8, before.extended(leaves).root)


async def test_nothing_is_signed_without_anything_new_or_before_its_time(log):
    assert await log.signer().sign_due() == []
    await log.append()
    signer = log.signer(interval_s=60, events_max=4)
    assert len(await signer.sign_due()) == 1
    log.clock.moment += MINUTE
    assert await signer.sign_due() == []
    await log.append()
    assert len(await signer.sign_due()) == 1, "a minute is over"
    await log.append(3)
    assert await signer.sign_due() == []
    await log.append()
    assert len(await signer.sign_due()) == 1, "there are four"


async def test_a_head_from_a_wrong_future_holds_nothing_up(log):
    log.clock.moment += 60 * MINUTE
    await log.append()
    (early,) = await log.signer().sign_due()
    log.clock.moment -= 60 * MINUTE
    await log.append()
    (late,) = await log.signer().sign_due()
    assert late.signed_at == early.signed_at, "times of heads do not run backwards"


async def test_one_node_signs_at_a_time_and_another_takes_over_when_it_stops(log):
    first, second = log.signer("a"), log.signer("b")
    await log.append()
    assert len(await first.sign_due()) == 1
    log.clock.moment += MINUTE
    await log.append()
    log.clock.moment -= MINUTE - 1_000_000  # its lease still lasts
    assert await log.signer("b", events_max=1).sign_due() == []
    await first.release()
    log.clock.moment += MINUTE
    assert len(await second.sign_due()) == 1
    assert [head.position for head in log.heads] == [1, 2]


async def test_an_old_holder_that_wakes_up_with_its_head_made_signs_nothing(log):
    sleeper = log.signer("a")
    await log.append(2)
    store, end = sleeper._store, (await log.store().log.heads())[0]
    add = store.heads.add

    async def late(new, *, follows, lease):
        # It sleeps between signing and writing, for longer than its lease; the other node signs meanwhile.
        log.clock.moment += MINUTE
        await log.append()
        assert len(await log.signer("b").sign_due()) == 1
        return await add(new, follows=follows, lease=lease)

    store.heads.add = late
    assert await sleeper.sign(end) is None
    assert [head.position for head in log.heads] == [3]
    assert sleeper.alarms == {}


async def test_a_node_that_saw_the_end_before_another_signed_further_raises_no_alarm(log):
    await log.append()
    (end,) = await log.store().log.heads()
    await log.signed(4)
    signer = log.signer()
    assert await signer.sign(end) is None
    assert signer.alarms == {}


def _rewrite(log):
    change(log.tables, 0, 2, body=b"forged")
    rechain(log.tables, 0)


_LOST = {
    "the event at the head was changed": lambda log: change(log.tables, 0, 5, chain=bytes(32)),
    "the log was rewritten": _rewrite,
    "the tail was cut": lambda log: log.tables.events[0].__delitem__(slice(3, None)),
    "everything is gone": lambda log: log.tables.events[0].clear(),
    "the head itself was changed": lambda log: _change_head(log, merkle_root=bytes(32)),
    "the head was signed by nobody": lambda log: _change_head(log, signature=bytes(64)),
    "the frontier was changed": lambda log: log.tables.signed_heads[0].append(
        GrowingHead(head=log.tables.signed_heads[0].pop().head, frontier=Frontier().extended([b"x"] * 5))
    ),
}


def _change_head(log, **fields):
    last = log.tables.signed_heads[0].pop()
    head = msgspec.structs.replace(last.head, **fields)
    log.tables.signed_heads[0].append(GrowingHead(head=head, frontier=last.frontier))


@pytest.mark.parametrize("how", _LOST)
async def test_a_log_that_lost_its_signed_head_is_never_signed_again(log, how):
    await log.signed(5)
    _LOST[how](log)
    await log.append(6)
    signer = log.signer()
    assert await signer.sign_due() == []
    assert list(signer.alarms) == [0]
    log.clock.moment += MINUTE
    await log.append()
    assert await signer.sign_due() == []
    assert len(log.heads) == 1
    assert await log.signer("b").sign_due() == [], "nor by another node"


@pytest.mark.parametrize("column", ["body", "leaf", "chain", "position"])
async def test_new_events_that_do_not_follow_are_not_signed(log, column):
    await log.signed(5)
    await log.append(4)
    change(log.tables, 0, 7, **{column: {"position": 9}.get(column, bytes(32))})
    signer = log.signer()
    assert await signer.sign_due() == []
    assert list(signer.alarms) == [0]
    assert len(log.heads) == 1


async def test_a_database_put_back_to_an_earlier_day_with_its_heads_is_not_signed_on(log):
    await log.signed(5)
    events, heads = list(log.tables.events[0]), list(log.tables.signed_heads[0])
    outside = await log.signed(3)
    log.tables.events[0], log.tables.signed_heads[0] = events, heads
    assert await log.signer().sign_due() == [], "nothing is new to who remembers nothing"
    signer = log.signer(remembered={0: outside})
    assert await signer.sign_due() == []
    assert "position 8" in signer.alarms[0]
    await log.append(9)
    assert await signer.sign_due() == []


async def test_a_new_key_signs_on_and_the_old_one_stays_known(log):
    old = await log.signed()
    await log.append()
    (new,) = await log.signer(key=OTHER_KEY).sign_due()
    assert old.key_id != new.key_id
    assert set(await log.store().heads.keys()) == {old.key_id, new.key_id}
    shown = await HeadBoard(log.store().heads, clock=log.clock).shown()
    assert set(shown.keys) == {old.key_id, new.key_id}
    assert [head_of(record) for record in shown.heads] == [new]


# -- the heads file, and who is told -------------------------------------------------------------------------


async def test_every_head_is_written_to_the_file_and_told_once_whoever_signed_it(log, tmp_path):
    told: list[HeadRecord] = []
    mine = log.keeper(tmp_path / "mine.jsonl", announce=told.append)
    others = log.keeper(tmp_path / "others.jsonl", "b")
    for _ in range(3):
        await log.append(2)
        await mine.look()
        await others.look()
        log.clock.moment += MINUTE
    assert read_heads(tmp_path / "mine.jsonl") == log.heads
    assert read_heads(tmp_path / "others.jsonl") == log.heads
    assert [head_of(record) for record in told] == log.heads
    assert len(log.heads) == 3


async def test_a_keeper_started_again_writes_what_its_file_lacks(log, tmp_path):
    path = tmp_path / "heads.jsonl"
    await log.signed()
    await log.keeper(path).look()
    await log.signed()
    await log.signed()
    await log.keeper(path).look()
    assert read_heads(path) == log.heads
    assert len(log.heads) == 3


@pytest.mark.parametrize("kept", [1, 6, 13, 50, -2])
async def test_a_line_that_a_crash_cut_short_spoils_no_other(log, tmp_path, kept):
    path = tmp_path / "heads.jsonl"
    head = await log.signed()
    file = HeadsFile(path)
    file.append([head])
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:kept])
    assert file.newest() == {0: head}
    file.append([head])
    assert read_heads(path) == [head, head]


async def test_a_head_that_is_signed_behind_a_check_under_way_is_no_finding(log):
    await log.signed(3)
    walk = HeadWalk(0, stored=log.store().heads, outside=Outside())
    await log.append(2)
    (end,) = await log.store().log.heads()
    await log.append(2)
    assert await walk.take(log.tables.events[0][:7]) == []
    assert await log.signer().sign(end) is not None
    log.clock.moment += MINUTE
    await log.signed(2)
    assert await walk.take(log.tables.events[0][7:]) == []
    assert (walk.checked, walk.covered) == (2, 9)


async def test_a_file_of_something_else_is_refused(log, tmp_path):
    path = tmp_path / "heads.jsonl"
    for content in (b"hello\n", b"[]\n", b'{"partition":0}\n'):
        path.write_bytes(content)
        with pytest.raises(HeadsUnreadable, match="line 1"):
            read_heads(path)
    with pytest.raises(HeadsUnreadable):
        log.keeper(path)


async def test_published_heads_can_be_kept_and_read_like_the_file(log, tmp_path):
    await log.signed()
    shown = await HeadBoard(log.store().heads, clock=log.clock).shown()
    (tmp_path / "copy.json").write_bytes(msgspec.json.encode(shown))
    assert read_heads(tmp_path / "copy.json") == log.heads


@pytest.mark.parametrize("field", ["chain", "merkle_root", "signature"])
async def test_a_record_with_a_short_hash_is_no_head(log, field):
    record = record_of(await log.signed())
    with pytest.raises(ValueError, match="not a signed head"):
        head_of(msgspec.structs.replace(record, **{field: "00"}))


async def test_a_lost_head_is_a_problem_and_a_metric_that_stay(log, tmp_path):
    problems: list[str] = []
    keeper = log.keeper(tmp_path / "heads.jsonl", problems=problems)
    await log.append(5)
    await keeper.look()
    assert _metrics(keeper) == {"signed_head_alarms": 0, "signed_head_events": 5}
    log.tables.events[0].pop()
    log.clock.moment += MINUTE
    await log.append(2)
    for _ in range(3):
        await keeper.look()
    assert len(problems) == 1
    assert "partition 0 is not signed any more" in problems[0]
    assert _metrics(keeper)["signed_head_alarms"] == 1


async def test_a_heads_file_that_cannot_be_written_is_a_problem_until_it_can(log, tmp_path):
    problems: list[str] = []
    keeper = log.keeper(tmp_path / "folder" / "heads.jsonl", problems=problems)
    (tmp_path / "folder").write_text("in the way")
    await log.append()
    await keeper.look()
    await keeper.look()
    assert problems == ["the heads file cannot be written"]
    (tmp_path / "folder").unlink()
    await keeper.look()
    assert read_heads(tmp_path / "folder" / "heads.jsonl") == log.heads


async def test_a_keeper_that_ends_gives_its_duty_back(log, tmp_path):
    keeper = log.keeper(tmp_path / "heads.jsonl")
    await log.append()
    running = asyncio.get_running_loop().create_task(keeper.run())
    while not (tmp_path / "heads.jsonl").exists():
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (await log.store().duty_leases.held())[duty_lease_name(0)].expired


def _metrics(keeper):
    return {metric.name: metric.samples[0].value for metric in HeadMetrics(keeper).collect()}
