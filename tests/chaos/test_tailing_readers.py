"""Many writers whose transactions pause at random before they commit, and readers who follow the log's end."""

import asyncio
import hashlib
import random
from collections import Counter

import asyncpg
import pytest

from eventstore.api import Append, Appended, Conflict, EventLog, NewEvent
from eventstore.opening import Store, open_store
from eventstore.subscription import Subscription
from tests.patience import PATIENT
from tests.soak import done, size

WRITERS, NODES, READERS, PARTITIONS = 64, 4, 3, 4
EVENTS_EACH = 5
SHORT, FULL = 12_000, 1_000_000
PAGE_MAX, RESTART_EVERY = 100, 40
"""Events in a page; pages after which a reader begins anew from where it was."""

# Runs as the commit begins, with every lock held: what a slow disk or a stopped server process does to a transaction.
PAUSE = """
create function pause_now_and_then() returns trigger language plpgsql as $$
begin
    if random() < 0.2 then perform pg_sleep(random() * 0.004); end if;
    return null;
end $$;
create constraint trigger pause_before_commit after update on log_heads
    deferrable initially deferred for each row execute function pause_now_and_then();
"""


class Tail:
    """A reader that believes nothing: it counts for itself what it was handed."""

    def __init__(self, log: EventLog) -> None:
        self._log, self._subscription = log, Subscription(log, poll_s=0.2, page_max=PAGE_MAX)
        self.positions = Counter[int]()
        self.faults: list[str] = []
        self.restarts = 0

    async def follow(self, until: asyncio.Event) -> None:
        pages = 0
        while True:
            ended = until.is_set()
            page = await self._subscription.pull()
            for event in page:
                if event.position != self.positions[event.partition] + 1:
                    self.faults.append(f"{event.partition}: {event.position} after {self.positions[event.partition]}")
                self.positions[event.partition] = event.position
            pages += bool(page)
            if pages == RESTART_EVERY:
                pages = 0
                self._restart()
            if not page and ended:
                return
            if not page:
                await self._subscription.wait()

    def _restart(self) -> None:
        self.restarts += 1
        self._subscription.close()
        self._subscription = Subscription(self._log, after=dict(self.positions), poll_s=0.2, page_max=PAGE_MAX)


@pytest.mark.soak
async def test_readers_of_the_logs_end_skip_nothing_and_repeat_nothing(postgres_dsn: str) -> None:
    stores = [await _open(postgres_dsn, number) for number in range(NODES + READERS)]
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(PAUSE)
    await connection.close()
    tails = [Tail(store.log) for store in stores[NODES:]]
    written = asyncio.Event()
    reading = [asyncio.create_task(tail.follow(written)) for tail in tails]
    events = size(short=SHORT, full=FULL)
    draw = random.Random(events)
    writers = [_write(stores[n % NODES], n, events // WRITERS, draw) for n in range(WRITERS)]
    acknowledged = sum(await asyncio.gather(*writers))
    written.set()
    await asyncio.gather(*reading)
    heads = {head.partition: head.position for head in await stores[0].log.heads()}
    assert sum(heads.values()) == acknowledged >= events * 0.99
    assert [tail.faults for tail in tails] == [[]] * READERS
    assert [dict(tail.positions) for tail in tails] == [heads] * READERS
    assert all(tail.restarts for tail in tails)
    done("events that three readers followed", acknowledged, full=FULL)
    for store in stores:
        await store.aclose()


async def _open(dsn: str, number: int) -> Store:
    return await open_store(
        dsn=dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id=f"node-{number}", limits=PATIENT
    )


async def _write(store: Store, writer: int, events: int, draw: random.Random) -> int:
    """Appends to streams that a writer of another node appends to as well; returns how many events are durable."""
    versions, durable = Counter[str](), 0
    while durable < events:
        stream = f"stream-{writer // 2}-{draw.randrange(4)}"
        item = _item(stream, versions[stream], seed=f"{writer}/{draw.random()}")
        match await store.log.append(item):
            case Appended(version=version):
                versions[stream], durable = version, durable + EVENTS_EACH
            case Conflict(actual_version=version):
                versions[stream] = version
            case unexpected:
                raise AssertionError(unexpected)
    return durable


def _item(stream: str, version: int, *, seed: str) -> Append:
    event = NewEvent(
        type="deposit_seen", schema_version=1, occurred_at=0, meta=b"{}", body=b'{"seed":"%b"}' % seed.encode()
    )
    command_id = hashlib.sha256(seed.encode()).hexdigest()
    return Append(stream_id=stream, expected_version=version, events=(event,) * EVENTS_EACH, command_id=command_id)
