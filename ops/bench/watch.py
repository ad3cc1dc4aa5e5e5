"""`make bench-watch`: what watching costs for each escrow, against a view-only wallet opened for each in turn.

The arithmetic alone is timed in this process: one transaction tried with many view keys. The rest is the scanner as the
service runs it, in its own process, on a chain in memory that answers over HTTP. A second of chain is one look: so many
strangers' transactions come into the pool, and now and then a block. What its process takes of a core for that second,
divided among the escrows, says how many fill the core; nothing is waited for, so a second of chain takes what it costs.
Each escrow has one deposit. Memory is what tracemalloc sees of the scanner, and of what the service keeps to watch, for
each escrow; the facts that the log holds (keys, address, deposit) take a part of that in either process when they are
merely kept, and the bound is for the rest of both. The resident size of the scanner's process stands beside.

The wallets are asked once a minute, the scanner looks once a second. The wallets' chain has nothing new to read, the
scanner's one transaction a second. BENCH_ROUNDS, BENCH_ESCROWS, BENCH_WALLETS ask for other numbers.
"""

import asyncio
import gc
import os
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from actors.ports import WatchTarget
from actors.scan import wire
from actors.scan.child import Child
from actors.scan.process import ScannerLimits, ScannerProcess
from actors.scan.saved import Saved, write_saved
from actors.scan.transactions import Transaction, WatchKey, read_transaction, scan
from actors.scan.watched import Sighting
from actors.watcher import Watched, facts_of
from domain.chain import SeenOutput
from domain.ids import EscrowId, TxHash
from ops.bench.processes import cpu_s_of, resident_mib
from ops.bench.report import Spread, at_least, at_most, finish, spread
from ops.bench.watch_chain import BusyChain, served, strangers_transaction, watched_escrows, with_deposits
from ops.bench.watch_wallets import wallet_cycle_cpu_s
from schemas.address import parse_address

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
ESCROWS = int(os.environ.get("BENCH_ESCROWS", "4000"))
WALLETS = int(os.environ.get("BENCH_WALLETS", "4"))
KEYS = 400
SECONDS_OF_CHAIN = 20
"""Of each round at one transaction a second; at five a fifth of the escrows are watched."""
LOOK_S, WALLET_LOOK_S, HOUR_S = 1.0, 60.0, 3_600.0
LIMIT_S = 600.0
ESCROWS_BOUND, BYTES_BOUND, WALLETS_BOUND = 4_000, 1_000, 100


async def main() -> None:
    """Measures, prints the line and ends the program."""
    targets = watched_escrows(ESCROWS)
    arithmetic = _arithmetic(targets[:KEYS])
    at_one, mib = await _watched(targets, per_second=1)
    at_five, _ = await _watched(targets[: max(1, ESCROWS // 5)], per_second=5)
    bytes_each = await _bytes_each(targets)
    beyond = sum(bytes_each[side] - bytes_each[f"{side}_facts"] for side in ("scanner", "service"))
    wallets = spread(await wallet_cycle_cpu_s(watched_escrows(WALLETS), rounds=ROUNDS))
    ours_hour_s, wallets_hour_s = HOUR_S / at_one.median, wallets.median * HOUR_S / WALLET_LOOK_S
    ratios = {"wallet_cpu_over_ours": wallets_hour_s / ours_hour_s}
    finish(
        "watch",
        figures={
            "escrows_watched": ESCROWS,
            **arithmetic,
            "escrows_a_core_at_1_tx_per_s": at_one,
            "escrows_a_core_at_5_tx_per_s": at_five,
            "bytes_each": bytes_each,
            "scanner_mib": mib,
            "cpu_s_per_escrow_and_hour": {"ours": round(ours_hour_s, 3), "wallets": round(wallets_hour_s, 1)},
            "wallet_open_refresh_close_cpu_s": wallets,
        },
        ratios=ratios,
        reached={
            "escrows_a_core_at_1_tx_per_s": at_least(at_one.median, ESCROWS_BOUND),
            "bytes_each_beyond_the_log": at_most(beyond, BYTES_BOUND),
            "wallet_cpu_over_ours": at_least(ratios["wallet_cpu_over_ours"], WALLETS_BOUND),
        },
    )


# -- arithmetic ------------------------------------------------------------------------------------------------


def _arithmetic(targets: Sequence[WatchTarget]) -> dict[str, Spread]:
    keys = [_key(target) for target in targets]
    shapes = {"2_outputs": (2, 0), "3_outputs_3_keys": (3, 3), "16_outputs_16_keys": (16, 16)}
    times = {name: [_us_per_output(keys, *shape) for _ in range(ROUNDS)] for name, shape in shapes.items()}
    return {f"us_per_output_and_view_key_{name}": spread(rounds) for name, rounds in times.items()}


def _key(target: WatchTarget) -> WatchKey:
    spend_key = parse_address(target.address, network="regtest").spend_key
    return WatchKey(bytes.fromhex(target.view_key), bytes.fromhex(spend_key))


def _us_per_output(keys: Sequence[WatchKey], outputs: int, additional: int) -> float:
    body = strangers_transaction(outputs=outputs, additional=additional)
    transaction = read_transaction(TxHash("any"), body)
    assert isinstance(transaction, Transaction)
    before = time.process_time()
    for key in keys:
        scan(transaction, key)
    return (time.process_time() - before) * 1e6 / (len(keys) * outputs)


# -- the scanner in its process --------------------------------------------------------------------------------


async def _watched(targets: Sequence[WatchTarget], *, per_second: int) -> tuple[Spread, float]:
    """Returns how many escrows fill a core, by rounds, and the resident size of the process."""
    chain = BusyChain()
    with tempfile.TemporaryDirectory(prefix="tk-bench-") as home:
        file = Path(home) / "scanned.seen"
        write_saved(file, with_deposits(targets))
        async with served(chain) as url:
            limits = ScannerLimits(patience_s=LIMIT_S, silent_s=LIMIT_S)
            scanner = ScannerProcess([url], network="regtest", file=file, limits=limits)
            try:
                views = await scanner.look(targets)
                assert all(len(view.outputs) == 1 for view in views.values())
                rounds = [await _cores(scanner, targets, chain, per_second=per_second) for _ in range(ROUNDS)]
                assert scanner.pid is not None
                return spread([len(targets) / cores for cores in rounds]), round(resident_mib(scanner.pid), 1)
            finally:
                await scanner.aclose()


async def _cores(
    scanner: ScannerProcess, targets: Sequence[WatchTarget], chain: BusyChain, *, per_second: int
) -> float:
    """Returns how much of a core the process takes; one block in 20 s is six times what a chain really has."""
    assert scanner.pid is not None
    before = cpu_s_of(scanner.pid)
    for _ in range(SECONDS_OF_CHAIN):
        chain.send(per_second)
        await scanner.look(targets)
    chain.mine()
    await scanner.look(targets)
    return (cpu_s_of(scanner.pid) - before) / SECONDS_OF_CHAIN


# -- memory ----------------------------------------------------------------------------------------------------


async def _bytes_each(targets: Sequence[WatchTarget]) -> dict[str, int]:
    """Returns what one more escrow with a deposit takes in each process, and the facts of the log alone in each."""
    async with served(BusyChain()) as url:
        one, all_of_them = await _sizes(targets[:1], url), await _sizes(targets, url)
    more = len(targets) - 1
    return {name: (size - one[name]) // more for name, size in all_of_them.items()}


async def _sizes(targets: Sequence[WatchTarget], url: str) -> dict[str, int]:
    told, saved = msgspec.msgpack.encode(list(targets)), with_deposits(targets)
    with tempfile.TemporaryDirectory(prefix="tk-bench-") as home:
        file = Path(home) / "scanned.seen"
        write_saved(file, saved)
        return {
            "scanner": await _held(_Scanner(url, file, told)),
            "scanner_facts": await _held(_Facts(_scanner_facts(targets, saved), list[_ScannerFacts])),
            "service": await _held(_Service(url, file, told)),
            "service_facts": await _held(_Facts(_service_facts(targets, saved), list[_ServiceFacts])),
        }


async def _held(side: "_Side") -> int:
    gc.collect()
    tracemalloc.start()
    try:
        await side.watch()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        await side.aclose()


class _Side(Protocol):
    """Something whose memory is measured."""

    async def watch(self) -> None: ...
    async def aclose(self) -> None: ...


_ScannerFacts = tuple[EscrowId, bytes, bytes, Sighting]
"""An escrow's id, its two keys and its deposit."""
_ServiceFacts = tuple[WatchTarget, SeenOutput]


class _Facts:
    """What the log holds, merely kept."""

    def __init__(self, facts: object, kind: Any) -> None:
        self._encoded, self._kind = msgspec.msgpack.encode(facts), kind
        self._kept: object = None

    async def watch(self) -> None:
        """Decodes everything into one list."""
        self._kept = msgspec.msgpack.decode(self._encoded, type=self._kind)

    async def aclose(self) -> None:
        """Lets go of it."""
        self._kept = None


def _scanner_facts(targets: Sequence[WatchTarget], saved: Saved) -> list[_ScannerFacts]:
    keys = ((target.escrow_id, _key(target)) for target in targets)
    return [
        (escrow_id, key.view_key, key.spend_key, each.mined[0])
        for (escrow_id, key), each in zip(keys, saved.targets, strict=True)
    ]


def _service_facts(targets: Sequence[WatchTarget], saved: Saved) -> list[_ServiceFacts]:
    return [(target, _output(each.mined[0])) for target, each in zip(targets, saved.targets, strict=True)]


def _output(seen: Sighting) -> SeenOutput:
    return SeenOutput(
        one_time_key=seen.one_time_key, tx_hash=seen.tx_hash, amount=seen.amount, height=seen.height, unlocked=True
    )


class _Scanner:
    """What runs in the scanner's process, here for once."""

    def __init__(self, url: str, file: Path, targets: bytes) -> None:
        self._begin = wire.Begin(daemon_urls=(url,), network="regtest", file=str(file), beat_s=LIMIT_S, save_s=LIMIT_S)
        self._targets = targets
        self._child: Child | None = None

    async def watch(self) -> None:
        """Takes its targets from the wire and looks."""
        self._child = Child(self._begin, writer=_Nowhere())
        told = msgspec.msgpack.decode(self._targets, type=tuple[WatchTarget, ...])
        await self._child.obey(wire.Tell(changed=told))
        await self._child.obey(wire.Look(number=1))

    async def aclose(self) -> None:
        """Closes its connection."""
        assert self._child is not None
        await self._child.aclose()


class _Service:
    """What the service keeps: its own list of what is watched, and the scanner's process as seen from here."""

    def __init__(self, url: str, file: Path, targets: bytes) -> None:
        limits = ScannerLimits(patience_s=LIMIT_S, silent_s=LIMIT_S)
        self._scanner = ScannerProcess([url], network="regtest", file=file, limits=limits)
        self._targets = targets
        self._watched: dict[EscrowId, Watched] = {}

    async def watch(self) -> None:
        """Looks, and notes what was shown, as the chain watcher does."""
        told = msgspec.msgpack.decode(self._targets, type=tuple[WatchTarget, ...])
        self._watched = {each.escrow_id: Watched(target=each, final_confirmations=10, version=1) for each in told}
        views = await self._scanner.look([each.target for each in self._watched.values()])
        for escrow_id, view in views.items():
            self._watched[escrow_id].settled = facts_of(view, 10)

    async def aclose(self) -> None:
        """Ends the process."""
        await self._scanner.aclose()


class _Nowhere:
    """A writer that keeps nothing."""

    def write(self, data: bytes) -> None:
        """Takes a frame."""

    async def drain(self) -> None:
        """Is never full."""


if __name__ == "__main__":
    asyncio.run(main())
