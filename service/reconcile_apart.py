"""Compares log and chain in a process of its own, so that no escrow waits for it; as a program, it is that process."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec

from actors.clock import SystemClock
from actors.daemon_rpc import HttpDaemon
from actors.scan.follower import ScannerWatch
from eventstore.grouped import LogLimits
from eventstore.keys import KeyRing
from eventstore.keys_postgres import PostgresKeys
from eventstore.vault import KeyVault
from schemas.address import Network
from service.keys import encryption_key, other_keys
from service.read_log import reading_at
from service.reconcile import Compared, ReconcileLimits, Reconciler
from service.settings import Settings

LINE_BYTES_MAX = 16 << 20
"""What one escrow's line may hold: it names every difference."""
NICE = "19"


class ReconcileJob(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to compare; on standard input, where no list of processes shows it."""

    dsn: str
    daemon_url: str
    network: Network
    encryption_key: str
    other_keys: tuple[str, ...] = ()
    """In hex, as above."""
    limits: ReconcileLimits = ReconcileLimits()
    ended_blocks: int | None = None
    """How many of the newest blocks are scanned for escrows that have ended, unless the limits say from where."""

    def __repr__(self) -> str:
        return "ReconcileJob(…)"


def job_of(
    settings: Settings,
    *,
    dsn: str,
    daemon_url: str,
    limits: ReconcileLimits | None = None,
    ended_blocks: int | None = None,
) -> ReconcileJob:
    """Makes the job of comparing one database with one daemon's chain; raises `KeyFileWrong`."""
    return ReconcileJob(
        dsn=dsn,
        daemon_url=daemon_url,
        network=settings.monero_network,
        encryption_key=encryption_key(settings).hex(),
        other_keys=tuple(key.hex() for key in other_keys(settings)),
        limits=limits or ReconcileLimits(),
        ended_blocks=ended_blocks,
    )


class ReconcileBroken(Exception):
    """The comparison ended early: what it had not come to is not compared."""


async def compared_apart(job: ReconcileJob) -> AsyncGenerator[Compared, None]:
    """Compares every escrow in another process, which does not outlive the iteration; raises `ReconcileBroken`."""
    process = await asyncio.create_subprocess_exec(
        *("nice", "-n", NICE, sys.executable, "-m", __name__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
        start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the other
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(job) + b"\n")
        while said := await _next_said(process.stdout):
            if said.ended is not None:
                if said.ended:
                    raise ReconcileBroken(said.ended)
                return
            if said.compared is not None:
                yield said.compared
        raise ReconcileBroken(f"the process ended with {await process.wait()}")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.stdin.close()
        await process.communicate()


@asynccontextmanager
async def reconciling_with(job: ReconcileJob) -> AsyncIterator[Reconciler]:
    """Opens log, keys and daemon for reading alone; raises `NoLog`, `LogUnavailable`, `SealBroken`."""
    async with reading_at(job.dsn) as read:
        limits, clock, daemon = LogLimits(), SystemClock(), HttpDaemon(job.daemon_url)
        try:
            bounds = job.limits
            if job.ended_blocks is not None and bounds.ended_from is None:
                begins = max(0, (await daemon.info()).height - job.ended_blocks)
                bounds = msgspec.structs.replace(bounds, ended_from=begins)
            vault = KeyVault(
                PostgresKeys(read.pool, partitions=read.log.partitions, limits=limits),
                ring=KeyRing(bytes.fromhex(job.encryption_key), others=[bytes.fromhex(key) for key in job.other_keys]),
                cache_max=limits.key_cache_max,
                cache_s=limits.key_cache_s,
            )
            await vault.check()
            yield Reconciler(
                read.log,
                vault,
                daemon,
                watch=lambda: ScannerWatch(daemon, clock=clock, network=job.network),
                clock=clock,
                limits=bounds,
            )
        finally:
            await daemon.aclose()


class _Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the other process."""

    compared: Compared | None = None
    ended: str | None = None
    """Said last: by what it was broken off, nothing if by nothing."""


async def _next_said(stdout: asyncio.StreamReader) -> _Said | None:
    try:
        line = await stdout.readline()
        return msgspec.json.decode(line, type=_Said) if line else None
    except (msgspec.MsgspecError, ValueError):  # ended in the middle of a line, or one longer than is read
        raise ReconcileBroken("what the process said cannot be read") from None


# -- in the other process ------------------------------------------------------------------------------------


async def _compare(job: ReconcileJob) -> None:
    try:
        async with reconciling_with(job) as reconciler:
            async for each in reconciler.all():
                _say(_Said(compared=each))
    except Exception as broken:  # named by its kind alone: whatever it was, its words may hold what no log may
        _say(_Said(ended=type(broken).__name__))
    else:
        _say(_Said(ended=""))


def _say(said: _Said) -> None:
    try:
        sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise SystemExit(1) from None  # nobody listens any more


def _end_with_the_other() -> None:
    """Ends this process when the one at the other end of its standard input is gone, however that one ended."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    given = msgspec.json.decode(sys.stdin.buffer.readline(), type=ReconcileJob)
    threading.Thread(target=_end_with_the_other, daemon=True).start()
    asyncio.run(_compare(given))
