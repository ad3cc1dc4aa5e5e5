"""`thirdkey serve` and `thirdkey demo` as an operator starts them: command line and HTTP, on real wallets."""

import asyncio
import os
import re
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

from actors.daemon_rpc import HttpDaemon
from domain.ids import UserId
from domain.roles import Role
from ops.regtest.chain import RegtestChain
from service.auth import issue_token
from service.commands.serve import RUN_FILE, Running
from service.commands.stage import Person
from service.keys import issuer_key
from service.settings import Settings
from tests.sim_world import payout_address

pytestmark = [pytest.mark.timeout(1200)]
LIMIT_S = 300


@pytest.fixture
def home():
    """A data folder; whatever a failed test left running in it is ended, by process id."""
    with tempfile.TemporaryDirectory(prefix="tk-serve-") as folder:
        try:
            yield Path(folder)
        finally:
            for pid in programs_of(Path(folder)):
                os.kill(int(pid), signal.SIGKILL)


class Service:
    """One life of `thirdkey serve`."""

    def __init__(self, home: Path, process: asyncio.subprocess.Process, where: Running, log: Path) -> None:
        self.home, self.where, self._process, self._log = home, where, process, log

    async def ends_with(self, number: signal.Signals) -> int:
        """Sends a signal and returns the exit code."""
        self._process.send_signal(number)
        async with asyncio.timeout(LIMIT_S):
            return await self._process.wait()

    @property
    def said(self) -> str:
        """What it printed."""
        return self._log.read_text()


async def started(home: Path, number: int, **settings: str) -> Service:
    """Starts the service of a data folder and waits until it says where it answers."""
    (home / RUN_FILE).unlink(missing_ok=True)
    log = home / f"serve-{number}.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", "serve"),
            env={**os.environ, "THIRDKEY_HOME": str(home), "SERVER_PORT": "0", "METRICS_PORT": "0", **settings},
            stdout=out,
            stderr=out,
        )
    async with asyncio.timeout(LIMIT_S):
        while not (home / RUN_FILE).exists():
            assert process.returncode is None, log.read_text()
            await asyncio.sleep(0.1)
    where = msgspec.json.decode((home / RUN_FILE).read_bytes(), type=Running)
    return Service(home, process, where, log)


@asynccontextmanager
async def person(service: Service, name: str) -> AsyncIterator[Person]:
    """Somebody with a token of this service's issuer."""
    token = issue_token(issuer_key(Settings(thirdkey_home=service.home)), sub=UserId(name), ttl_s=600)
    async with aiohttp.ClientSession() as session:
        yield Person(name, token=token, api=service.where.api, session=session)


async def until(buyer: Person, path: str, *states: str) -> dict[str, object]:
    """Waits until an escrow is in one of these states."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            facts = await buyer.get(path)
            if facts["state"] in states:
                return facts
            await asyncio.sleep(0.1)


async def reconciled(home: Path) -> tuple[int, str]:
    """Has the served log compared with its chain by the command line; its exit code, and how the summary begins."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "audit", "reconcile"),
        env={**os.environ, "THIRDKEY_HOME": str(home)},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode().splitlines()[-1].partition(" with ")[0]


async def metrics_with(service: Service, name: str) -> str:
    """Reads the metrics until one of this name is among them."""
    async with asyncio.timeout(LIMIT_S), aiohttp.ClientSession() as session:
        while True:
            async with session.get(service.where.metrics) as answer:
                shown = await answer.text()
            if name in shown:
                return shown
            await asyncio.sleep(0.1)


async def shown(service: Service, *metrics: str) -> None:
    """Waits until the metrics say all of this."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(LIMIT_S):
        while True:
            async with session.get(service.where.metrics) as answer:
                if set(metrics) <= set((await answer.text()).splitlines()):
                    return
            await asyncio.sleep(0.1)


def programs_of(home: Path) -> list[str]:
    """Names what still runs in or for a data folder: by command line (wallets, chain) or working folder (Postgres)."""
    mark = str(home)
    return [each.name for each in Path("/proc").iterdir() if each.name.isdigit() and mark in _known_by(each)]


def _known_by(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace") + os.readlink(process / "cwd")
    except OSError:
        return ""


def open_to_others(home: Path) -> list[Path]:
    """Names what in a data folder others than its owner may list, read or change."""
    return [path for path in home.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o066]


def _token_of(service: Service) -> str:
    return next(line for line in service.said.splitlines() if line.startswith("ey"))


def assert_nothing_secret_in(*logs: str) -> None:
    """Every log line is JSON or one of the plain announcements, with no address, key, message or token in it."""
    secret = re.compile(r"[48][1-9A-HJ-NP-Za-km-z]{94}|[0-9a-f]{64}|Multisigx|\bey[A-Za-z0-9_-]{20,}")
    for log in logs:
        assert '"event"' in log, "the service wrote no log"
        assert not secret.search(log), secret.search(log)


async def test_a_served_escrow_and_its_chain_survive_kill_9_and_ctrl_c(home):
    first = await started(home, 1)
    assert "admin token" in first.said
    assert [path for path in open_to_others(home) if path.name != "serve-1.log"] == []
    chain, daemon = RegtestChain(first.where.daemon), HttpDaemon(first.where.daemon)
    await chain.mine(3, to=payout_address(Role.BUYER))
    height = (await daemon.info()).height
    async with person(first, "alice") as buyer:
        order = {"order_id": secrets.token_hex(4), "buyer_id": "alice", "vendor_id": "bob", "amount": 10**12}
        created = await buyer.post("/api/escrows", order)
        path = f"/api/escrows/{created['escrow_id']}"
        await until(buyer, path, "setting_up", "awaiting_funding")
    await chain.aclose()
    await daemon.aclose()
    assert await first.ends_with(signal.SIGKILL) == -signal.SIGKILL

    second = await started(home, 2)
    assert "admin token" not in second.said
    daemon = HttpDaemon(second.where.daemon)
    assert (await daemon.info()).height == height
    await daemon.aclose()
    async with person(second, "alice") as buyer:
        facts = await until(buyer, path, "awaiting_funding", "setup_failed")
        assert facts["state"] == "awaiting_funding"
        await shown(second, "chain_scanner_up 1.0", "monero_daemon_up 1.0", "chain_watched_addresses 1.0")
    assert await reconciled(home) == (0, "1 escrows compared")
    assert await second.ends_with(signal.SIGINT) == 0
    assert programs_of(home) == []

    third = await started(home, 3, RECONCILE_EVERY_S="1")
    async with person(third, "alice") as buyer:
        assert await buyer.get(path) == facts | {"cursor": (await buyer.get(path))["cursor"]}
    assert 'reconcile_escrows{result="compared"} 1.0' in await metrics_with(third, "reconcile_last_run")
    assert await third.ends_with(signal.SIGTERM) == 0
    assert programs_of(home) == []
    assert_nothing_secret_in(*(service.said.replace(_token_of(first), "") for service in (first, second, third)))


async def test_the_demonstration_runs_twice_in_one_folder_with_both_endings(home):
    for ending, outcome in (("release", "bob 0.498191600000"), ("refund", "judy 0.010000000000")):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", "demo", "--ending", ending),
            env={**os.environ, "THIRDKEY_HOME": str(home)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(500):
            said, _ = await process.communicate()
        told = said.decode()
        assert process.returncode == 0, told[-3000:]
        assert outcome in " ".join(told.split()), told[-3000:]
        assert programs_of(home) == []
