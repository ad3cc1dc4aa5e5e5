"""`thirdkey audit reconcile`: every escrow's log compared with a fresh scan of the chain."""

import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import msgspec

from actors.ports import DaemonDown
from domain.difference import Difference
from domain.ids import EscrowId
from eventstore.api import LogUnavailable, SealBroken
from eventstore.embedded_os import EmbeddedFailed
from service.embedded import NoWorld, joined_world
from service.keys import KeyFileWrong, has_encryption_key
from service.read_log import NoLog
from service.reading import database
from service.reconcile import Compared, ReconcileLimits, Reconciler, Unchecked
from service.reconcile_apart import job_of, reconciling_with
from service.settings import Settings

DIFFERENT, NOT_ASKED = 1, 2
"""Exit codes: something differs; log, chain or an escrow could not be asked."""
NOTHING_TO_COMPARE = frozenset({Unchecked.SHREDDED, Unchecked.NO_ADDRESS})
"""Named, and no fault."""


class NoKey(Exception):
    """There is no key to open the view keys with."""


CANNOT = (
    *(NoLog, NoKey, NoWorld, LogUnavailable, EmbeddedFailed, SealBroken, KeyFileWrong, DaemonDown),
    *(asyncpg.PostgresError, asyncpg.InterfaceError, OSError),
)


class Summary(msgspec.Struct, kw_only=True):
    """What a run came to, as far as it came."""

    compared: int = 0
    differing: int = 0
    """Escrows with differences."""
    height: int = 0
    """Number of blocks at the last look."""
    differences: Counter[str] = msgspec.field(default_factory=Counter)
    """By code."""
    unchecked: Counter[str] = msgspec.field(default_factory=Counter)
    """Escrows that could not be compared, by reason."""

    def take(self, each: Compared) -> None:
        """Counts one escrow."""
        if each.unchecked is not None:
            self.unchecked[each.unchecked] += 1
            return
        self.compared += 1
        self.differing += bool(each.differences)
        self.height = max(self.height, each.height)
        self.differences.update(found.code for found in each.differences)

    @property
    def exit_code(self) -> int:
        """0 where log and chain agree, 1 where they differ, 2 where an escrow could not be asked."""
        if self.differing:
            return DIFFERENT
        return NOT_ASKED if self.unchecked.keys() - NOTHING_TO_COMPARE else 0

    def __str__(self) -> str:
        agree = f"{self.compared} escrows compared with the chain at height {self.height}: "
        if not self.differing:
            agree += "log and chain agree"
        else:
            agree += (
                f"{self.differences.total()} differences in {self.differing} of them ({_counted(self.differences)})"
            )
        return f"{agree}; not compared: {_counted(self.unchecked)}" if self.unchecked else agree


async def reconcile(
    settings: Settings, escrow_ids: Sequence[str] = (), *, as_json: bool, limits: ReconcileLimits | None = None
) -> int:
    """Prints each difference and a summary; returns 0, 1 where anything differs, or 2 where it could not be asked."""
    summary = Summary()
    try:
        async with reconciler(settings, limits=limits) as work:
            chosen = [EscrowId(each) for each in escrow_ids]
            async for each in work.some(chosen) if chosen else work.all():
                summary.take(each)
                for line in _json_lines(each) if as_json else _lines(each):
                    print(line, flush=True)
    except CANNOT as wrong:
        print(f"{type(wrong).__name__}: {wrong}", file=sys.stderr)
        return NOT_ASKED
    print(msgspec.json.encode(summary).decode() if as_json else summary)
    return summary.exit_code


@asynccontextmanager
async def reconciler(settings: Settings, *, limits: ReconcileLimits | None = None) -> AsyncIterator[Reconciler]:
    """Opens log, keys and daemon for reading, whether the service runs or not; raises what stands in `CANNOT`."""
    url = daemon_url(settings)
    if not has_encryption_key(settings):
        raise NoKey("there is no ENCRYPTION_KEY here: the view keys stay sealed")
    async with AsyncExitStack() as stack:
        dsn = await database(stack, settings)
        job = job_of(settings, dsn=dsn, daemon_url=url, limits=limits)
        yield await stack.enter_async_context(reconciling_with(job))


def daemon_url(settings: Settings) -> str:
    """Names the configured daemon, or that of the world that runs in the data folder; raises `NoWorld`."""
    if settings.monero_daemon_urls:
        return settings.monero_daemon_urls[0]
    return joined_world(settings.thirdkey_home).daemon_url


# -- lines ---------------------------------------------------------------------------------------------------


def _lines(each: Compared) -> Iterator[str]:
    if each.unchecked is not None:
        yield f"{each.escrow_id}: not compared, {each.unchecked}"
    for found in each.differences:
        yield f"{each.escrow_id}: {found.code} {found.about}{_numbers(found)}"


def _numbers(found: Difference) -> str:
    if found.logged is None and found.shown is None:
        return ""
    logged, shown = ("nothing" if each is None else str(each) for each in (found.logged, found.shown))
    return f", log {logged}, chain {shown}"


def _json_lines(each: Compared) -> Iterator[str]:
    if each.unchecked is not None:
        yield _json({"escrow_id": each.escrow_id, "unchecked": each.unchecked})
    for found in each.differences:
        yield _json({"escrow_id": each.escrow_id, **msgspec.to_builtins(found)})


def _json(line: dict[str, object]) -> str:
    return msgspec.json.encode(line).decode()


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{word} {number}" for word, number in sorted(counts.items()))
