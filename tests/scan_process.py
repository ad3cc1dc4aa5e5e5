"""Scanners in processes of their own, for tests: patient with a slow machine, and asked again as the watcher asks."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from actors.ports import DaemonDown, WatchTarget
from actors.scan.process import ScannerLimits, ScannerProcess
from domain.chain import ChainView
from domain.ids import EscrowId
from tests.patience import PATIENCE_S
from tests.scan_daemon import Door

PATIENT = ScannerLimits(patience_s=PATIENCE_S, silent_s=PATIENCE_S, restart_s=0.01, save_s=0.0)
"""Waits for a slow machine; a test that wants silence noticed says so itself."""


@asynccontextmanager
async def scanner_of(
    *doors: Door, limits: ScannerLimits = PATIENT, file: Path | None = None
) -> AsyncIterator[ScannerProcess]:
    """Runs a scanner of one or two daemons for the block."""
    scanner = ScannerProcess([door.url for door in doors], network="regtest", limits=limits, file=file)
    try:
        yield scanner
    finally:
        await scanner.aclose()


async def look_until_seen(scanner: ScannerProcess, targets: Sequence[WatchTarget]) -> Mapping[EscrowId, ChainView]:
    """Looks again as long as nothing is seen."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await scanner.look(targets)
            except DaemonDown:
                await asyncio.sleep(0.05)


async def told_blind(scanner: ScannerProcess, targets: Sequence[WatchTarget]) -> DaemonDown:
    """Looks until nothing is seen, and returns what is said then."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await scanner.look(targets)
            except DaemonDown as down:
                return down
            await asyncio.sleep(0.05)
