"""What the chain scanner is measured against: a view-only wallet for each escrow, opened in turn."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from actors.jsonrpc import JsonRpc
from actors.monero_programs import WalletProgram, launch_regtest, launch_wallet, reserved_port
from actors.ports import WatchTarget
from actors.processes import ProcessKeeper
from ops.bench.processes import cpu_s_of
from ops.regtest.chain import RegtestChain

PASSWORD: Final = "bench"
CALL_LIMIT_S: Final = 120.0
BLOCKS: Final = 20


class _Nothing(msgspec.Struct):
    """An answer that is not looked at."""


async def wallet_cycle_cpu_s(targets: Sequence[WatchTarget], *, rounds: int) -> list[float]:
    """Returns processor seconds of one open, refresh and close, by rounds over all wallets of one process.

    The chain is a private one of some blocks, so that there is next to nothing to read: what is left is the price of
    an open wallet.
    """
    with tempfile.TemporaryDirectory(prefix="tk-bench-") as home, reserved_port() as port, reserved_port() as daemon:
        keeper = ProcessKeeper(Path(home) / "run")
        monerod = await launch_regtest(keeper, folder=Path(home) / "chain", port=daemon)
        chain = RegtestChain(f"http://127.0.0.1:{daemon}")
        program = WalletProgram(
            name="wallet", folder=Path(home) / "wallet", port=port, daemon_address=f"127.0.0.1:{daemon}"
        )
        process, client = await launch_wallet(keeper, program)
        wallet = JsonRpc(program.url)
        try:
            await chain.mine(BLOCKS, to=targets[0].address)
            for target in targets:
                await _make(wallet, target)
            return [await _round(wallet, targets, pid=process.pid) for _ in range(rounds)]
        finally:
            await asyncio.gather(wallet.aclose(), client.aclose(), chain.aclose())
            await asyncio.gather(process.kill(), monerod.kill())


async def _make(wallet: JsonRpc, target: WatchTarget) -> None:
    keys = {"address": target.address, "viewkey": target.view_key, "restore_height": 1}
    await _call(wallet, "generate_from_keys", {"filename": target.escrow_id, "password": PASSWORD, **keys})
    await _call(wallet, "refresh", {})
    await _call(wallet, "close_wallet", {"autosave_current": True})


async def _round(wallet: JsonRpc, targets: Sequence[WatchTarget], *, pid: int) -> float:
    before = cpu_s_of(pid)
    for target in targets:
        await _call(wallet, "open_wallet", {"filename": target.escrow_id, "password": PASSWORD})
        await _call(wallet, "refresh", {})
        await _call(wallet, "close_wallet", {"autosave_current": True})
    return (cpu_s_of(pid) - before) / len(targets)


async def _call(wallet: JsonRpc, method: str, params: dict[str, object]) -> None:
    await wallet.call(method, params, answer=_Nothing, limit_s=CALL_LIMIT_S)
