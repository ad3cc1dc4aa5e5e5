"""kill -9 of the service at every append of a life, on a real Postgres and wallets that outlive it.

A kill after an announced signature rightly ends in another announcement, so a life is killed once at every *kind* of
append: the types of its events, the seat and the step. Each kill is a new process that knows nothing but the log.
"""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from actors.wallet_backup import open_backup
from domain.evolve import fold
from domain.ids import Address
from domain.payout import BP_ALL, fee_paid_by
from domain.roles import Role
from domain.states import Completed, Escrow, Refunded
from domain.terms import Policy
from eventstore.api import Recorded
from eventstore.chain import GENESIS, verify_chain
from eventstore.opening import Store
from schemas.codec import decode
from tests.backups import OFFLINE, backup_in
from tests.chaos.child import ESCROW, PARTITIONS, SPLIT_BP, Ending, Moment, Orders, open_killed_store, run
from tests.chaos.wire import WireWorld
from tests.given import AMOUNT
from tests.service_process import run_process
from tests.sim_world import payout_address

STARTS_MAX = 150
KILLED = -9
ARBITERS = AMOUNT * Policy().arbiter_fee_ppm // 1_000_000


@pytest_asyncio.fixture
async def world() -> AsyncIterator[WireWorld]:
    world = WireWorld()
    await world.start()
    yield world
    await world.stop()


@pytest.mark.parametrize("moment", ["after", "before", "during"])
async def test_a_release_survives_kills_at_every_kind_of_append(
    world: WireWorld, postgres_dsn: str, tmp_path: Path, moment: Moment
) -> None:
    orders = Orders(dsn=postgres_dsn, url=world.url, folder=tmp_path, kill=moment)
    kills = await _live_with_kills(orders)
    state = await _audited(orders)
    assert isinstance(state, Completed)
    (paid,) = world.payouts()
    assert paid.hash == state.tx_hash
    assert _balances(world) == {Role.BUYER: 0, Role.VENDOR: AMOUNT - paid.fee, Role.ARBITER: 0}
    assert world.chain.nonce_reuses == []
    assert kills > 35


async def test_a_dispute_survives_kills_and_ends_in_a_refund(
    world: WireWorld, postgres_dsn: str, tmp_path: Path
) -> None:
    orders = Orders(dsn=postgres_dsn, url=world.url, folder=tmp_path, ending=Ending.REFUND, kill="after")
    kills = await _live_with_kills(orders)
    state = await _audited(orders)
    assert isinstance(state, Refunded)
    (paid,) = world.payouts()
    assert paid.hash == state.tx_hash
    buyers = AMOUNT - paid.fee - ARBITERS
    assert _balances(world) == {Role.BUYER: buyers, Role.VENDOR: 0, Role.ARBITER: ARBITERS}
    assert world.chain.nonce_reuses == []
    assert kills > 35


@pytest.mark.parametrize("moment", ["after", "during"])
async def test_a_split_and_the_arbiters_payout_after_it_survive_kills(
    world: WireWorld, postgres_dsn: str, tmp_path: Path, moment: Moment
) -> None:
    orders = Orders(dsn=postgres_dsn, url=world.url, folder=tmp_path, ending=Ending.SWEEP, kill=moment)
    kills = await _live_with_kills(orders)
    state = await _audited(orders)
    assert isinstance(state, Completed)
    paid, fee = world.payouts()
    assert (paid.hash, fee.hash) == (state.tx_hash, fee_paid_by(state.money))
    parties = AMOUNT - paid.fee - ARBITERS
    buyers = parties * SPLIT_BP // BP_ALL
    assert _balances(world) == {
        Role.BUYER: buyers,
        Role.VENDOR: parties - buyers,
        Role.ARBITER: ARBITERS - fee.fee,
    }
    assert world.chain.nonce_reuses == []
    assert kills > 45


async def test_an_agreement_survives_kills(world: WireWorld, postgres_dsn: str, tmp_path: Path) -> None:
    orders = Orders(dsn=postgres_dsn, url=world.url, folder=tmp_path, ending=Ending.AGREEMENT, kill="after")
    kills = await _live_with_kills(orders)
    state = await _audited(orders)
    assert isinstance(state, Completed)
    (paid,) = world.payouts()
    assert paid.hash == state.tx_hash
    buyers = (AMOUNT - paid.fee) * SPLIT_BP // BP_ALL
    assert _balances(world) == {Role.BUYER: buyers, Role.VENDOR: AMOUNT - paid.fee - buyers, Role.ARBITER: 0}
    assert world.chain.nonce_reuses == []
    assert kills > 35


async def _live_with_kills(orders: Orders) -> int:
    """Starts the service until it ends by itself and returns how often it was killed."""
    for kills in range(STARTS_MAX):
        code = await run_process(run, orders, out=orders.folder / "out")
        if code == 0:
            print(f"{kills} kills {orders.kill} an append")
            return kills
        assert code == KILLED, (orders.folder / "out").read_text()[-3000:]
    raise AssertionError(f"not at its end after {STARTS_MAX} starts")


def _balances(world: WireWorld) -> dict[Role, int]:
    return {role: world.paid_to(Address(payout_address(role))) for role in Role}


async def _audited(orders: Orders) -> Escrow:
    """Checks chain and acknowledgements of the log and returns the state that the stream folds to."""
    store = await open_killed_store(orders.dsn)
    try:
        recorded = await _checked_chain(store)
        events = await store.log.read_stream(ESCROW)
    finally:
        await store.aclose()
    lines = (orders.folder / "acknowledged").read_text().splitlines()
    _backed_up_once(events)
    assert set(lines) <= {f"{each.stream_id} {each.version} {each.command_id}" for each in recorded}
    return _folded(events)


async def _checked_chain(store: Store) -> list[Recorded]:
    """Checks every partition's chain and returns all events of the log."""
    found: list[Recorded] = []
    heads = {head.partition: head for head in await store.log.heads()}
    for partition in range(PARTITIONS):
        events = await store.log.read_partition(partition, after_position=0)
        assert verify_chain(GENESIS, events) == (heads[partition].chain if events else GENESIS)
        found += events
    return found


def _backed_up_once(events: Sequence[Recorded]) -> None:
    """Finds the one backup, before the arbiter's address, and opens it."""
    made = backup_in([decode(type=each.type, schema_version=each.schema_version, body=each.body) for each in events])
    assert open_backup(made.box, private_key=bytes(OFFLINE)).file == made.wallet_id


def _folded(events: Sequence[Recorded]) -> Escrow:
    state = fold([decode(type=each.type, schema_version=each.schema_version, body=each.body) for each in events])
    assert state is not None
    return state
