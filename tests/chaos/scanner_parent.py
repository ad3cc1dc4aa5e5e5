"""A process that has a scanner, shows its pid in a file and waits to be killed."""

import asyncio
from pathlib import Path

from actors.scan.process import ScannerProcess
from tests.scan_process import PATIENT
from tests.scan_world import Receiver


def have_a_scanner(url: str, pid_file: Path) -> None:
    asyncio.run(_have(url, pid_file))


async def _have(url: str, pid_file: Path) -> None:
    scanner = ScannerProcess([url], network="regtest", limits=PATIENT)
    await scanner.look([Receiver("alice").target()])
    fresh = pid_file.with_suffix(".new")
    fresh.write_text(str(scanner.pid))
    fresh.rename(pid_file)
    await asyncio.Event().wait()
