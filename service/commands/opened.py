"""A store opened for one command of an operator, beside a running service or without one."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from actors.clock import SystemClock
from actors.desk import Desk
from actors.directory import Directory
from actors.escrow import EscrowActor
from domain.evolve import ImpossibleHistory
from domain.ids import EscrowId, UserId
from eventstore.api import LogUnavailable, SealBroken
from eventstore.embedded_os import EmbeddedFailed
from eventstore.migrations import DatabaseNewer, MigrationChanged, PartitionsFixed, RolesMissing
from eventstore.opening import Store, StoreUnsafe, open_store
from schemas.codec import UnknownEvent
from service.keys import KeyFileWrong, encryption_key, other_keys
from service.read_log import NoLog
from service.reading import database
from service.settings import Settings

OPERATOR = UserId("operator")
"""Who acts from the command line: whoever may read the `ENCRYPTION_KEY`."""
STOP_S = 10.0
CANNOT = (
    *(NoLog, EmbeddedFailed, LogUnavailable, SealBroken, KeyFileWrong, StoreUnsafe, UnknownEvent, ImpossibleHistory),
    *(DatabaseNewer, MigrationChanged, PartitionsFixed, RolesMissing, asyncpg.PostgresError, OSError),
)


async def with_store(settings: Settings, work: Callable[[Store], Awaitable[int]]) -> int:
    """Does some work on the store that the settings name; prints what keeps it from that, and returns 1 then."""
    try:
        async with AsyncExitStack() as stack:
            store = await open_store(
                dsn=await database(stack, settings),
                encryption_key=encryption_key(settings),
                other_keys=other_keys(settings),
                partitions=settings.log_partitions,
                node_id="command line",
            )
            stack.push_async_callback(store.aclose)
            return await work(store)
    except CANNOT as wrong:
        print(f"{type(wrong).__name__}: {wrong}", file=sys.stderr)
        return 1


@asynccontextmanager
async def desk_on(store: Store) -> AsyncIterator[Desk]:
    """A desk of this process alone: versions in the log keep it apart from the service's."""
    clock = SystemClock()
    directory: Directory[EscrowId] = Directory(
        lambda escrow_id: EscrowActor(escrow_id, event_log=store.log, clock=clock),
        clock=clock,
        on_parked=lambda _, failure: None,
    )
    try:
        yield Desk(directory)
    finally:
        await directory.stop_all(timeout_s=STOP_S)
