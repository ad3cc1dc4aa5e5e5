"""Who a node is: a name that one process holds at a time, on whichever machine it runs."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from eventstore.api import Lease, Leases, LogUnavailable

log = structlog.get_logger(__name__)

TOKEN_FILE = "node_token"
RENEWALS = 4
"""In one lease."""


class NameTaken(Exception):
    """Another node of this name lives on the same database: two would take each other's leases for their own."""


@asynccontextmanager
async def present(
    leases: Leases, *, name: str, home: Path, seconds: float, on_lost: Callable[[], None]
) -> AsyncIterator[None]:
    """Holds a node's name for the block; `on_lost` is called when another process has it. Raises `NameTaken`.

    The holder is the node's folder, which one process locks at a time: restarted in it, a node has its name at once.
    """
    lease = await leases.acquire(f"node/{name}", holder=_token(home), seconds=seconds)
    if lease is None:
        raise NameTaken(f"a node called {name} runs on this database from another folder")
    keeping = asyncio.get_running_loop().create_task(_kept(leases, lease, on_lost))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        with contextlib.suppress(LogUnavailable):  # then it runs out
            await leases.release(lease)


async def _kept(leases: Leases, lease: Lease, on_lost: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(lease.seconds / RENEWALS)
        try:
            if not await leases.renew(lease):
                log.error("node_name_lost", node=lease.name)
                on_lost()
                return
        except LogUnavailable:
            continue  # nothing is appended meanwhile; whoever else has the name is found out with the next answer


def _token(home: Path) -> str:
    path = home / TOKEN_FILE
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(16))
    return path.read_text()
