"""`thirdkey secrets rotate` and `thirdkey escrow shred`: what operators do with the keys of sealed fields."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from actors.clock import SystemClock
from actors.desk import Desk, derived_id
from actors.directory import Directory
from actors.escrow import Accepted, EscrowActor, Rejected
from domain import commands as c
from domain.evolve import ImpossibleHistory
from domain.ids import EscrowId, Micros, UserId
from domain.refusals import SENTENCES
from eventstore.api import LogUnavailable, SealBroken
from eventstore.embedded_os import EmbeddedFailed
from eventstore.migrations import DatabaseNewer, MigrationChanged, PartitionsFixed, RolesMissing
from eventstore.opening import Store, StoreUnsafe, open_store
from eventstore.rotation import Rotated
from eventstore.rotation import rotate as rotate_keys
from schemas.codec import UnknownEvent
from service.keys import KeyFileWrong, encryption_key, other_keys
from service.read_log import NoLog
from service.reading import database
from service.settings import Settings

OPERATOR = UserId("operator")
"""Who shreds from the command line: whoever may read the `ENCRYPTION_KEY`."""
STOP_S = 10.0
CANNOT = (
    *(NoLog, EmbeddedFailed, LogUnavailable, SealBroken, KeyFileWrong, StoreUnsafe, UnknownEvent, ImpossibleHistory),
    *(DatabaseNewer, MigrationChanged, PartitionsFixed, RolesMissing, asyncpg.PostgresError, OSError),
)


async def rotate(settings: Settings) -> int:
    """Wraps every key anew under `ENCRYPTION_KEY`; returns 1 while another one still wraps any."""

    async def work(store: Store) -> int:
        rotated = await rotate_keys(store.keys, store.ring, progress=_progress if sys.stderr.isatty() else None)
        if sys.stderr.isatty():
            print(file=sys.stderr)
        print(told(rotated))
        return 1 if rotated.left else 0

    return await _with_store(settings, work)


async def shred(settings: Settings, escrow_id: str) -> int:
    """Shreds an escrow's secrets and returns 0, or says why not and returns 1."""

    async def work(store: Store) -> int:
        """Brings the command to the escrow and says what it answered."""
        async with _desk(store) as desk:
            command = c.ShredKey(
                at=Micros(SystemClock().now()), by=OPERATOR, retention_days=settings.secrets_retention_days
            )
            command_id = derived_id(escrow_id, "shred", command.at)
            answer = await desk.handle(EscrowId(escrow_id), command, command_id=command_id, actor="command line")
        if isinstance(answer, Rejected):
            facts = ", ".join(f"{fact} {value}" for fact, value in answer.facts.items())
            print(f"{answer.code}: {SENTENCES[answer.code]} {facts}".rstrip(), file=sys.stderr)
            return 1
        assert isinstance(answer, Accepted)
        await store.vault.shred()
        print(f"the secrets of {escrow_id} are shredded, at version {answer.version}")
        return 0

    return await _with_store(settings, work)


def told(rotated: Rotated) -> str:
    """Says in a sentence what a rotation came to."""
    done = f"{rotated.rewrapped} keys were wrapped anew"
    if not rotated.left:
        return f"{done}; none is left under another key: ENCRYPTION_KEY_OLD is no longer needed"
    left = ", ".join(f"{count} under the key with fingerprint {key_id}" for key_id, count in rotated.left.items())
    return f"{done}; left are {left}: give that key as ENCRYPTION_KEY_OLD, and rotate again"


async def _with_store(settings: Settings, work: Callable[[Store], Awaitable[int]]) -> int:
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
async def _desk(store: Store) -> AsyncIterator[Desk]:
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


def _progress(done: int, total: int) -> None:
    print(f"\r{done} of {total} keys", end="", file=sys.stderr, flush=True)
