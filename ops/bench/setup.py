"""`make bench-setup`: set-ups through the HTTP API against a bare script of the same wallet calls, alternating.

Both run on slots of their own with the same process options and one private chain. The bare script makes its wallets
in the run, as a script without a service has to; the service takes those that were made while its slots were free, and
what that costs is told beside. A round times 1, 3 and 10 escrows at once, first the bare script and then the service,
from POST until every escrow has its address. `POST /api/orders/{id}/init-escrow` is answered with it: clients that
asked every 20 ms instead took as much of the cores as the wallets. `BENCH_ROUNDS` asks for more rounds than three,
`BENCH_ESCROWS` for other numbers at once.
"""

import asyncio
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import msgspec

from actors.monero_programs import WalletProgram, launch_wallet, reserved_port
from actors.processes import ProcessKeeper
from actors.wallet_rpc import HttpWallet
from domain.ids import UserId
from domain.roles import THREE
from ops.bench.bare_setup import bare_setup
from ops.bench.processes import child_of, usage_below
from ops.bench.report import at_most, finish, spread
from service.auth import issue_token
from service.commands.serve import Running
from service.commands.stage import Person, service_process
from service.keys import issuer_key
from service.settings import Settings

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
ESCROWS = tuple(int(each) for each in os.environ.get("BENCH_ESCROWS", "1,3,10").split(","))
BOUNDS = {1: 0.20, 3: 0.22, 10: 0.15}
"""Ours over the bare script, by escrows at once."""
LIMIT_S = 600.0
SHOWN = (PRIMED, SLOTS, WAITED) = ("rpc_pool_primed_slots", "rpc_pool_total_slots", "slot_wait_seconds_sum")


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One round at one number of escrows; seconds, and of processor time for each escrow where the name says cpu."""

    bare_s: float
    ours_s: float
    ours_cpu_s: float
    """Of the service and its children; the database, which is none of them, not counted."""
    ours_wallet_cpu_s: float
    """Of these, in the wallet processes."""
    priming_cpu_s: float
    primed_within_s: float
    waited_s: float
    slot_mib: float


async def main() -> dict[int, list[Sample]]:
    """Returns the samples of all rounds, by escrows at once."""
    home, most = Path(tempfile.mkdtemp(prefix="tk-bench-")), max(ESCROWS)
    environment = {
        "THIRDKEY_HOME": str(home),
        "SERVER_PORT": "0",
        "METRICS_PORT": "0",
        "POOL_MIN": str(len(THREE) * most),
        "POOL_MAX": str(len(THREE) * most),
        "INIT_WAIT_S": "300",
        "MAX_CONCURRENT_ESCROWS": "10000",
        "MAX_BETA_VOLUME_ATOMIC": str(10**18),
    }
    samples: dict[int, list[Sample]] = {escrows: [] for escrows in ESCROWS}
    try:
        async with AsyncExitStack() as stack:
            where = await stack.enter_async_context(service_process(home, environment=environment))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            token = issue_token(issuer_key(Settings(thirdkey_home=home)), sub=UserId("alice"), ttl_s=36_000)
            buyer = Person("alice", token=token, api=where.api, session=session)
            bare = await _bare_slots(stack, home / "bare", daemon=where.daemon.removeprefix("http://"), sets=most)
            bench = Bench(buyer, where, session=session, bare=bare)
            for _ in range(ROUNDS):
                for escrows in ESCROWS:
                    samples[escrows].append(await bench.sample(escrows))
        return samples
    finally:
        shutil.rmtree(home, ignore_errors=True)


class Bench:
    """Takes one sample after another on one service and one set of bare slots."""

    def __init__(
        self, buyer: Person, where: Running, *, session: aiohttp.ClientSession, bare: Sequence[Sequence[HttpWallet]]
    ) -> None:
        self._buyer, self._where, self._session, self._bare = buyer, where, session, bare
        self._service = child_of(os.getpid(), running="service serve")

    async def sample(self, escrows: int) -> Sample:
        """Times the bare script and the service, each with nothing else to do."""
        before, begun = usage_below(self._service), time.perf_counter()
        figures = await self._all_primed()
        primed_within_s, priming = time.perf_counter() - begun, usage_below(self._service).since(before)
        begun = time.perf_counter()
        await asyncio.gather(*(bare_setup(self._bare[n]) for n in range(escrows)))
        bare_s = time.perf_counter() - begun
        working, begun = usage_below(self._service), time.perf_counter()
        await asyncio.gather(*(self._set_up() for _ in range(escrows)))
        ours_s, after = time.perf_counter() - begun, usage_below(self._service)
        waited_s = (await self._figures())[WAITED] - figures[WAITED]
        return Sample(
            bare_s=bare_s,
            ours_s=ours_s,
            ours_cpu_s=after.since(working).cpu_s / escrows,
            ours_wallet_cpu_s=after.since(working).wallet_cpu_s / escrows,
            priming_cpu_s=priming.cpu_s,
            primed_within_s=primed_within_s,
            waited_s=waited_s,
            slot_mib=after.wallet_mib / figures[SLOTS],
        )

    async def _all_primed(self) -> dict[str, float]:
        async with asyncio.timeout(LIMIT_S):
            while (figures := await self._figures())[PRIMED] < figures[SLOTS]:
                await asyncio.sleep(0.2)
        return figures

    async def _figures(self) -> dict[str, float]:
        async with self._session.get(self._where.metrics) as answer:
            lines = [line.rpartition(" ") for line in (await answer.text()).splitlines()]
        return {name: sum(float(figure) for key, _, figure in lines if key.partition("{")[0] == name) for name in SHOWN}

    async def _set_up(self) -> None:
        order = {"buyer_id": "alice", "vendor_id": "bob", "amount": 1_000_000_000_000}
        answer = await self._buyer.post(f"/api/orders/{secrets.token_hex(8)}/init-escrow", order)
        assert answer["status"] == "awaiting_funding", answer["status"]


async def _bare_slots(stack: AsyncExitStack, home: Path, *, daemon: str, sets: int) -> list[list[HttpWallet]]:
    keeper = ProcessKeeper(home)
    names = [[f"{number}-{role}" for role in THREE] for number in range(sets)]
    return [[await _bare_slot(stack, keeper, home / name, daemon=daemon) for name in three] for three in names]


async def _bare_slot(stack: AsyncExitStack, keeper: ProcessKeeper, folder: Path, *, daemon: str) -> HttpWallet:
    login, port = ("bare", secrets.token_urlsafe(16)), stack.enter_context(reserved_port())
    program = WalletProgram(name=folder.name, folder=folder, port=port, daemon_address=daemon, login=login)
    process, wallet = await launch_wallet(keeper, program)
    stack.push_async_callback(process.stop)
    stack.push_async_callback(wallet.aclose)
    return wallet


def report(samples: dict[int, list[Sample]]) -> None:
    """Prints every figure, and the ratio of medians against its bound."""
    figures: dict[str, object] = {"rounds": ROUNDS}
    ratios, reached = {}, {}
    for escrows, rounds in samples.items():
        for field in Sample.__struct_fields__:
            figures[f"{field}_at_{escrows}"] = spread([getattr(each, field) for each in rounds])
        ratio = spread([each.ours_s for each in rounds]).median / spread([each.bare_s for each in rounds]).median
        ratios[f"ours_over_bare_at_{escrows}"] = ratio
        if escrows in BOUNDS:
            reached[f"ours_over_bare_at_{escrows}"] = at_most(ratio, BOUNDS[escrows])
    finish("setup", figures=figures, ratios=ratios, reached=reached)


if __name__ == "__main__":
    report(asyncio.run(main()))
