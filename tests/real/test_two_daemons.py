"""Two real daemons followed as one: blocks pass from one to the other when the test says so, and not before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from actors.jsonrpc import JsonRpc
from actors.monero_programs import launch_regtest, reserved_port
from actors.ports import Blindness
from actors.processes import Process, ProcessKeeper
from actors.scan.process import ScannerProcess
from actors.scan.witnessed import BEHIND_MAX_BLOCKS
from domain.ids import EscrowId
from ops.regtest.chain import RegtestChain
from tests.patience import PATIENCE_S
from tests.scan_process import PATIENT, look_until_seen, told_blind
from tests.scan_world import Receiver

pytestmark = [pytest.mark.xdist_group("real"), pytest.mark.timeout(1200)]

ALICE, MINER = Receiver("alice"), Receiver("the miner")
TARGETS = [ALICE.target(since=1)]


class _Block(msgspec.Struct):
    blob: str


class _Info(msgspec.Struct):
    height: int


class Daemon:
    """One real daemon without peers."""

    def __init__(self, process: Process, url: str) -> None:
        self.process, self.url = process, url
        self.chain, self._rpc = RegtestChain(url), JsonRpc(url)

    async def height(self) -> int:
        return (await self._rpc.call("get_info", {}, answer=_Info, limit_s=PATIENCE_S)).height

    async def take_from(self, other: "Daemon") -> None:
        """Takes over every block of another daemon's chain, as a peer does."""
        for height in range(1, await other.height()):
            block = await other._rpc.call("get_block", {"height": height}, answer=_Block, limit_s=PATIENCE_S)
            submit = {"jsonrpc": "2.0", "id": "0", "method": "submit_block", "params": [block.blob]}
            await self._rpc.post("/json_rpc", submit, answer=msgspec.Raw, limit_s=PATIENCE_S)

    async def aclose(self) -> None:
        await asyncio.gather(self.chain.aclose(), self._rpc.aclose())


@asynccontextmanager
async def two_daemons(folder: Path) -> AsyncIterator[tuple[Daemon, Daemon]]:
    async with AsyncExitStack() as stack:
        started = []
        for name in ("first", "second"):
            port = stack.enter_context(reserved_port())
            process = await launch_regtest(ProcessKeeper(folder / name), folder=folder / f"{name}-chain", port=port)
            stack.push_async_callback(process.kill)
            daemon = Daemon(process, f"http://127.0.0.1:{port}")
            stack.push_async_callback(daemon.aclose)
            started.append(daemon)
        yield started[0], started[1]


async def rewards(scanner: ScannerProcess) -> list[int | None]:
    """Heights of what was mined for the watched address."""
    view = (await look_until_seen(scanner, TARGETS))[EscrowId("alice")]
    return [output.height for output in view.outputs]


async def test_what_both_daemons_have_is_seen_and_nothing_while_they_are_apart_forked_or_one_is_gone(tmp_path):
    async with two_daemons(tmp_path) as (first, second):
        scanner = ScannerProcess([first.url, second.url], network="regtest", limits=PATIENT)
        try:
            await first.chain.mine(3, to=ALICE.address)
            assert await rewards(scanner) == []
            await second.take_from(first)
            assert await rewards(scanner) == [1, 2, 3]

            await first.chain.mine(BEHIND_MAX_BLOCKS + 1, to=MINER.address)
            said = await told_blind(scanner, TARGETS)
            assert said.why is Blindness.BEHIND and "second" in str(said)
            await second.take_from(first)
            assert await rewards(scanner) == [1, 2, 3]

            mine = await first.chain.mine(1, to=MINER.address)
            await second.chain.mine(1, to=ALICE.address)
            assert (await told_blind(scanner, TARGETS)).why is Blindness.FORKED
            await second.chain.mine(1, to=ALICE.address)
            assert (await told_blind(scanner, TARGETS)).why is Blindness.FORKED
            await first.take_from(second)
            assert await rewards(scanner) == [1, 2, 3, mine, mine + 1]

            await second.process.kill()
            said = await told_blind(scanner, TARGETS)
            assert said.why is Blindness.DOWN and "second" in str(said)
            assert scanner.counts().restarts == 0
        finally:
            await scanner.aclose()
