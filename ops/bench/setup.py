"""`make bench-setup`: a set-up through the HTTP API against a bare script of the same wallet calls, alternating.

Both run on slots of their own with the same process options and one private chain. A round times the bare script and
then the service, from POST until the escrow has its address. Most of the time is the wallets' RSA key generation, whose
seconds differ from call to call, so more rounds than three can be asked for with BENCH_ROUNDS.
"""

import asyncio
import os
import secrets
import shutil
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from actors.monero_programs import WalletProgram, launch_wallet, reserved_port
from actors.processes import ProcessKeeper
from actors.wallet_rpc import HttpWallet
from domain.ids import UserId
from domain.roles import THREE
from ops.bench.bare_setup import bare_setup
from ops.bench.report import at_most, finish, spread
from service.auth import issue_token
from service.commands.stage import Person, service_process
from service.keys import issuer_key
from service.settings import Settings

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
BOUND = 1.15
POLL_S = 0.02
LIMIT_S = 300.0


async def main() -> tuple[list[float], list[float]]:
    """Returns the seconds of the bare script and of the service, round by round."""
    home = Path(tempfile.mkdtemp(prefix="tk-bench-"))
    try:
        async with AsyncExitStack() as stack:
            environment = {"THIRDKEY_HOME": str(home), "SERVER_PORT": "0", "METRICS_PORT": "0"}
            where = await stack.enter_async_context(service_process(home, environment=environment))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            token = issue_token(issuer_key(Settings(thirdkey_home=home)), sub=UserId("alice"), ttl_s=3_600)
            buyer = Person("alice", token=token, api=where.api, session=session)
            wallets = await _slots(stack, home / "bare", daemon=where.daemon.removeprefix("http://"))
            return await _rounds(buyer, wallets)
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _rounds(buyer: Person, wallets: list[HttpWallet]) -> tuple[list[float], list[float]]:
    bare, ours = [], []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        await bare_setup(wallets)
        bare.append(time.perf_counter() - begun)
        ours.append(await _through_the_service(buyer))
    return bare, ours


async def _through_the_service(buyer: Person) -> float:
    begun = time.perf_counter()
    order = {"order_id": secrets.token_hex(4), "buyer_id": "alice", "vendor_id": "bob", "amount": 1_000_000_000_000}
    created = await buyer.post("/api/escrows", order)
    while time.perf_counter() - begun < LIMIT_S:
        state = (await buyer.get(f"/api/escrows/{created['escrow_id']}"))["state"]
        if state == "awaiting_funding":
            return time.perf_counter() - begun
        assert state == "setting_up", state
        await asyncio.sleep(POLL_S)
    raise TimeoutError(f"no address after {LIMIT_S:g} s")


async def _slots(stack: AsyncExitStack, home: Path, *, daemon: str) -> list[HttpWallet]:
    keeper, wallets = ProcessKeeper(home), []
    for role in THREE:
        login = ("bare", secrets.token_urlsafe(16))
        port = stack.enter_context(reserved_port())
        program = WalletProgram(
            name=role.value, folder=home / role.value, port=port, daemon_address=daemon, login=login
        )
        process, wallet = await launch_wallet(keeper, program)
        stack.push_async_callback(process.stop)
        stack.push_async_callback(wallet.aclose)
        wallets.append(wallet)
    return wallets


if __name__ == "__main__":
    bare_s, ours_s = asyncio.run(main())
    ratio = spread(ours_s).median / spread(bare_s).median
    finish(
        "setup",
        figures={"rounds": ROUNDS, "bare_s": spread(bare_s), "service_s": spread(ours_s)},
        ratios={"service_over_bare": ratio},
        reached={"service_over_bare": at_most(ratio, BOUND)},
    )
