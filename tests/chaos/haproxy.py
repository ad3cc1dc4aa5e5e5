"""HAProxy with our configuration in front of three nodes, on a port of its own."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from actors.monero_programs import reserved_port
from tests.patience import PATIENCE_S

HAPROXY = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
CONFIG = Path(__file__).parents[2] / "ops" / "haproxy" / "haproxy.cfg"
NODES = 3


@contextmanager
def haproxy(ports: Mapping[str, int]) -> Iterator[str]:
    """Runs HAProxy with our configuration in front of three nodes."""
    where = {f"THIRDKEY_NODE_{n}": f"127.0.0.1:{port}" for n, port in enumerate(ports.values(), start=1)}
    with reserved_port() as own:
        environment = {**os.environ, "THIRDKEY_BIND": f"127.0.0.1:{own}", **where}
        program = subprocess.Popen([str(HAPROXY), "-f", CONFIG, "-q"], env=environment, stdout=subprocess.DEVNULL)
        try:
            yield f"http://127.0.0.1:{own}"
        finally:
            program.kill()
            program.wait()


async def all_answer(session: aiohttp.ClientSession, url: str) -> None:
    """Waits until HAProxy lets all three nodes be asked."""
    async with asyncio.timeout(PATIENCE_S):
        seen: set[str] = set()
        while len(seen) < NODES:
            try:
                async with session.get(f"{url}/health") as answer:
                    seen.add(answer.headers.get("X-Thirdkey-Node", ""))
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.05)
