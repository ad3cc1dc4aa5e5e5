"""Twenty escrows set up at once by three nodes on one Postgres: sixty different wallets."""

import asyncio
from contextlib import AsyncExitStack

from actors.limit_events import event_of
from domain.ids import EscrowId, WalletId
from domain.limits import WalletAssigned, wallet_stream
from domain.roles import Role
from eventstore.opening import Store, open_store
from service.node import NodeLimits
from tests.given import AMOUNT, BUYER, VENDOR
from tests.patience import PATIENCE_S, PATIENT
from tests.sim_world import SimWorld
from tests.worlds import World, house_world

ESCROWS = 20


async def test_twenty_escrows_at_once_get_sixty_wallets_each_for_one_seat(postgres_dsn: str) -> None:
    sim = SimWorld(slots_per_role=3, limits=NodeLimits())
    async with AsyncExitStack() as stack:
        for name in ("north", "east", "west"):
            store = await _store(postgres_dsn, name=name)
            stack.push_async_callback(store.aclose)
            await stack.enter_async_context(sim.running(store=store))
        doors = await _store(postgres_dsn, name="doors")
        house = house_world(store=doors, max_beta_volume_atomic=10**18, init_wait_s=round(PATIENCE_S))
        world = await stack.enter_async_context(house)
        escrows = await _all_set_up(world)
        seated = {(each, role): wallet for each in escrows for role, wallet in (await _wallets(world, each)).items()}
        assert len(set(seated.values())) == len(seated) == 3 * ESCROWS
        for (escrow_id, role), wallet_id in seated.items():
            (assigned,) = [event_of(each) for each in await doors.log.read_stream(wallet_stream(wallet_id))]
            assert isinstance(assigned, WalletAssigned)
            assert (assigned.escrow_id, assigned.role) == (escrow_id, role)


async def _all_set_up(world: World) -> list[EscrowId]:
    """Sends one batch until all of it is set up, and names the escrows."""
    orders = [
        {"order_id": f"o-{number}", "buyer_id": BUYER, "vendor_id": VENDOR, "amount": AMOUNT}
        for number in range(ESCROWS)
    ]
    async with asyncio.timeout(3 * PATIENCE_S):
        while True:
            status, answer = await world.ask("POST", "/api/orders/batch-init-escrow", {"orders": orders}, key="k")
            if status == 200 and answer["summary"]["successful"] == ESCROWS:
                return [EscrowId(each["escrow_id"]) for each in answer["results"]]
            assert status in (200, 503), answer


async def _wallets(world: World, escrow_id: EscrowId) -> dict[Role, WalletId]:
    seats = (await world.state(escrow_id)).core.seats
    return {role: seat.wallet_id for role, seat in seats.items()}


async def _store(dsn: str, *, name: str) -> Store:
    return await open_store(dsn=dsn, encryption_key=bytes(32), partitions=4, node_id=name, limits=PATIENT)
