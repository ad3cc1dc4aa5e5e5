"""What `make bench-replay` times: ways to read a whole log, and how an escrow is woken from one."""

import sys
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import msgspec
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from domain.evolve import fold
from domain.states import Escrow
from eventstore.api import EventLog, Recorded
from eventstore.opening import Store
from ops.bench.life import whole_life
from ops.bench.verified import PAGE, verified_partition
from projections.models import MODELS
from projections.opening import open_models
from projections.rebuild import rebuild
from schemas.codec import decode
from service.spread import Program, spread

_BARE = """
select position, type, schema_version, body from events
where partition = $1 and position > $2 order by position limit $3
"""


async def verified_replay(log: EventLog) -> int:
    """Reads every partition, checks its chain to the head, decodes and folds every stream; returns the events."""
    return sum([await verified_partition(log, partition) for partition in range(log.partitions)])


async def verified_together(log: EventLog, *, dsn: str, processes: int) -> int:
    """Does the same with several processes, as `thirdkey audit verify` does; the time it takes to start them counts."""
    done: list[int] = []

    async def here(partition: int) -> None:
        done.append(await verified_partition(log, partition))

    program = Program(command=(sys.executable, "-m", "ops.bench.replay_process"), job=dsn.encode())
    await spread(here, program, partitions=log.partitions, processes=processes, told=done.append)
    return sum(done)


async def bare_replay(pool: Any, *, partitions: int) -> int:
    """Reads the bodies of every partition and decodes them, nothing else; returns the events."""
    total = 0
    for partition in range(partitions):
        position = 0
        while rows := await pool.fetch(_BARE, partition, position, PAGE):
            for row in rows:
                decode(type=row["type"], schema_version=row["schema_version"], body=row["body"])
            position = rows[-1]["position"]
        total += position
    return total


async def wake(log: EventLog, stream_id: str) -> Escrow | None:
    """Reads one stream and folds it: what an escrow's actor does when it is woken."""
    return fold([_decoded(each) for each in await log.read_stream(stream_id)])


async def rebuilt(store: Store) -> float:
    """Rebuilds all read models beside the live ones; returns the seconds it took."""
    tables, _ = open_models(store)
    begun = time.perf_counter()
    await rebuild(store.log, tables, tuple(MODELS))
    return time.perf_counter() - begun


class PackageLog:
    """The package eventsourcing with as many events of the same contents, written and read its own way."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._application: Application[UUID] = Application(environment)

    def fill(self, *, events: int) -> None:
        """Saves whole lives until there are that many events."""
        bodies = [msgspec.json.decode(each.body) for each in whole_life()]
        for _ in range(-(-events // (len(bodies) + 1))):
            escrow = _Escrow(id=uuid4())
            for body in bodies:
                escrow.happened(body=body)
            self._application.save(escrow)

    def read(self) -> int:
        """Reads and decodes all events in their order, a page at a time; folds and verifies nothing."""
        start = total = 0
        while page := self._application.recorder.select_notifications(start + 1, PAGE):
            for each in page:
                self._application.mapper.to_domain_event(each)
            start, total = page[-1].id, total + len(page)
        return total

    def close(self) -> None:
        """Ends its connections."""
        self._application.close()


class _Escrow(Aggregate):
    def __init__(self, id: UUID) -> None:
        self._id = id

    @event("Happened")
    def happened(self, body: dict[str, object]) -> None:
        """Takes what happened; the package stores it."""


def _decoded(each: Recorded) -> Any:
    return decode(type=each.type, schema_version=each.schema_version, body=each.body)


def median_ms(seconds: Sequence[float]) -> float:
    """Returns the middle one, in milliseconds."""
    return round(sorted(seconds)[len(seconds) // 2] * 1000, 4)
