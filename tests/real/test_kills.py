"""kill -9 of the service at the wallet calls that must not be repeated blind, on real wallets: the same end.

Each call is hit before it reaches the wallet, in its middle, or after its answer and before the outcome is in the
log; signing and broadcasting at all three. Wallets and chain run on, as they would; the next service finds them.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from domain.events import PayoutProposed
from domain.ids import Address
from domain.roles import Role
from domain.steps import Step
from domain.terms import Policy
from eventstore.embedded import start_embedded
from eventstore.opening import open_store
from schemas.codec import decode
from service.embedded import POSTGRES, PROGRAMS
from tests.chaos.child import Ending
from tests.given import AMOUNT
from tests.patience import PATIENT
from tests.real.child import ESCROW, PARTITIONS, Orders, Point, Seen, run
from tests.real_world import FUNDER, RichChain, balances, chain_running, funder_running, paid_by
from tests.service_process import run_process

pytestmark = [pytest.mark.timeout(1200)]

KILLED = -9
LATE_S = 300.0
ARBITERS = AMOUNT * Policy().arbiter_fee_ppm // 1_000_000

RELEASE = (
    Point(Step.MAKE, "middle"),
    Point(Step.EXCHANGE_2, "middle"),
    Point(Step.COSIGN, "before"),
    Point(Step.COSIGN, "after"),
    Point(Step.BROADCAST, "before"),
    Point(Step.BROADCAST, "after"),
)
REFUND = (
    Point(Step.EXCHANGE_1, "after"),
    Point(Step.EXPORT, "after"),
    Point(Step.COSIGN, "middle"),
    Point(Step.BROADCAST, "middle"),
)


async def test_a_release_survives_kills_at_every_once_call(home: Path, rich_chain: RichChain) -> None:
    orders = _orders(home, rich_chain, RELEASE, ending=Ending.RELEASE)
    await _live_with_kills(orders, rich_chain)
    fee = await _network_fee(home)
    await _check_money(home, rich_chain, {Role.VENDOR: AMOUNT - fee})


async def test_a_refund_after_a_dispute_survives_kills_at_its_once_calls(home: Path, rich_chain: RichChain) -> None:
    orders = _orders(home, rich_chain, REFUND, ending=Ending.REFUND)
    await _live_with_kills(orders, rich_chain)
    fee = await _network_fee(home)
    await _check_money(home, rich_chain, {Role.BUYER: AMOUNT - fee - ARBITERS, Role.ARBITER: ARBITERS})


def _orders(home: Path, rich: RichChain, points: tuple[Point, ...], *, ending: Ending) -> Orders:
    return Orders(home=home, miner=rich.miner, receivers=rich.receivers, ending=ending, points=points)


async def _live_with_kills(orders: Orders, rich: RichChain) -> None:
    paying = asyncio.get_running_loop().create_task(_pay(orders.home))
    while (code := await _until_it_ends(orders)) != 0:
        assert code == KILLED, _said_in(orders.home)
    await paying
    assert sorted((orders.home / "kills").read_text().split()) == sorted(str(point) for point in orders.points)
    assert list(_processes_of(orders.home)) == []


def _said_in(home: Path) -> str:
    """The last words of the service, and of each program that it ran."""
    says = [home / "out", *sorted((home / PROGRAMS).rglob("*.out")), *sorted((home / PROGRAMS).rglob("*.log"))]
    return "\n".join(f"{each.name}: {each.read_text(errors='replace')[-1500:]}" for each in says)


async def _until_it_ends(orders: Orders) -> int:
    try:
        return await run_process(run, orders, out=orders.home / "out", limit_s=LATE_S)
    except TimeoutError as late:
        late.add_note(f"{_seen(orders.home)} {(orders.home / 'kills').read_text().split()}")
        late.add_note((orders.home / "out").read_text()[-5000:])
        raise


async def _pay(home: Path) -> None:
    """Pays the escrow once, as soon as it shows an address; nobody is killed while it waits for that."""
    while True:
        seen = _seen(home)
        if seen is not None and seen.address is not None:
            break
        await asyncio.sleep(0.1)
    async with funder_running(home, daemon_url=seen.daemon_url) as funder:
        await funder.open(FUNDER, password="")
        await funder.refresh()
        await funder.pay(Address(seen.address), AMOUNT)
        await funder.close()


def _seen(home: Path) -> Seen | None:
    with contextlib.suppress(FileNotFoundError):
        return msgspec.json.decode((home / "seen.json").read_bytes(), type=Seen)
    return None


def _processes_of(home: Path) -> Iterator[str]:
    """Lists the processes that have something in a data folder."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and str(home).encode() in (entry / "cmdline").read_bytes():
                yield (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()


async def _network_fee(home: Path) -> int:
    """Reads the fee of the last proposal from the log that the killed processes left."""
    postgres = await start_embedded(home / POSTGRES)
    store = await open_store(
        dsn=postgres.dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id="reader", limits=PATIENT
    )
    recorded = await store.log.read_stream(ESCROW)
    await store.aclose()
    await postgres.stop()
    events = [decode(type=each.type, schema_version=each.schema_version, body=each.body) for each in recorded]
    return next(event.network_fee for event in reversed(events) if isinstance(event, PayoutProposed))


async def _check_money(home: Path, rich: RichChain, expected: dict[Role, int]) -> None:
    """Asks the receivers' own wallet: what they hold in all is what the one final transaction paid."""
    seen = _seen(home)
    assert seen is not None
    assert seen.tx_hash is not None
    async with chain_running(home) as url, funder_running(home, daemon_url=url) as funder:
        await funder.open(FUNDER, password="")
        held = await balances(funder, rich)
        paid = await paid_by(funder, seen.tx_hash, rich)
    assert paid == expected
    assert held == dict.fromkeys(Role, 0) | expected
