"""Wallet processes come and go with a running service, on real wallets; after a kill -9 none of them is left over."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest

from actors.processes import Process, ProcessKeeper
from domain.roles import THREE
from service.commands.stage import Person
from service.embedded import PROGRAMS
from service.pool_size import PoolFile
from tests.real.test_given_slots import metrics, people, slots, thirdkey
from tests.real.test_serve import LIMIT_S, Service, home, programs_of, started, until

pytestmark = [pytest.mark.timeout(1200)]
FIRST = {f"{role.value}-0" for role in THREE}
SECOND = {f"{role.value}-1" for role in THREE}
NEVER_S, AT_ONCE_S = "14400", "1"
__all__ = ["home"]


async def test_three_more_are_started_primed_used_and_ended_and_a_killed_service_leaves_none(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One test for several claims: bringing a service up is what costs.
    monkeypatch.setenv("POOL_MIN", "3")
    monkeypatch.setenv("POOL_MAX", "6")
    monkeypatch.setenv("POOL_SCALE_UP_S", NEVER_S)
    first = await started(home, 1)
    code, said = await told(home, "scale", "--slots", "6")
    assert (code, said.split(";")[0]) == (0, "6 wallet processes instead of 3")
    await until_so(lambda: set(wallets(home)) == FIRST | SECOND)
    code, said = await told(home, "scale", "--slots", "9")
    assert (code, said.strip()) == (1, "expected a multiple of three from 3 to 6")
    async with people(first) as who:
        for name in FIRST:
            await who["admin"].post("/admin/pool/drain", {"slot": name})
        await until_so(lambda: set(wallets(home)) == SECOND)
        await until_primed(first, 3)
        await set_up(who["alice"])
        assert {str(slot["name"]) for slot in await slots(who["admin"])} == SECOND
        await who["admin"].post("/admin/pool/scale", {"slots": 3})
        await until_so(lambda: set(wallets(home)) == FIRST and len(wallet_processes(home)) == 3)
        await who["admin"].post("/admin/pool/scale", {"slots": 6})
    await until_so(lambda: set(wallets(home)) == FIRST | SECOND)
    left = wallets(home)
    assert await first.ends_with(SIGKILL) == -SIGKILL
    assert any(left[name].alive for name in SECOND), "what the next start has to end"

    monkeypatch.setenv("POOL_SCALE_UP_S", AT_ONCE_S)
    second = await started(home, 2)
    assert not [name for name, process in left.items() if process.alive]
    async with people(second) as who:
        for number in range(4):
            order = {"order_id": f"more-{number}", "buyer_id": "alice", "vendor_id": "bob", "amount": 10**12}
            await who["alice"].post("/api/escrows", order)
        await until_so(lambda: bool(SECOND & set(wallets(home))))  # by itself, as all are in use
        assert await second.ends_with(SIGKILL) == -SIGKILL, "while it starts the others"
    left = wallets(home)

    monkeypatch.setenv("POOL_SCALE_UP_S", NEVER_S)
    third = await started(home, 3)
    assert not [name for name, process in left.items() if process.alive]
    assert PoolFile(home).read().slots_per_role == 1
    await until_so(lambda: set(wallets(home)) == FIRST and len(wallet_processes(home)) == 3)
    assert await third.ends_with(SIGTERM) == 0
    assert programs_of(home) == []


async def told(home: Path, *arguments: str) -> tuple[int, str]:
    """Runs a command of the pool, again while the service says "later"; returns its exit code and what it printed."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            code, said = await thirdkey(home, "pool", *arguments)
            if not any(later in said for later in ("cannot answer now", "does not answer")):
                return code, said
            await asyncio.sleep(0.5)


async def set_up(alice: Person) -> None:
    """Has an escrow set up by whatever slots there are."""
    order = {"order_id": "order-1", "buyer_id": "alice", "vendor_id": "bob", "amount": 10**12}
    path = f"/api/escrows/{(await alice.post('/api/escrows', order))['escrow_id']}"
    await until(alice, path, "awaiting_funding")


async def until_primed(service: Service, number: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while f"rpc_pool_primed_slots {float(number)}" not in await metrics(service):
            await asyncio.sleep(0.1)


async def until_so(probe: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not probe():
            await asyncio.sleep(0.05)


def wallets(home: Path) -> dict[str, Process]:
    """Finds the wallet processes that run for each slot, by the identities in their pid files."""
    keeper = ProcessKeeper(home / PROGRAMS)
    names = [each.stem for each in (home / PROGRAMS).glob("slot-*.pid")]
    return {re.split(r"slot-|\.", name)[1]: found for name in names if (found := keeper.find(name))}


def wallet_processes(home: Path) -> list[str]:
    """Names the wallet processes of a data folder whether or not anything says that they are there."""
    return [pid for pid in programs_of(home) if _is_wallet(pid)]


def _is_wallet(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(b"monero-wallet-rpc")
    except OSError:
        return False
