"""The doors of three nodes on one Postgres: limits that hold to the last place, and batches that survive a node."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from actors.limit_events import event_of
from domain import limits
from domain.ids import Micros
from domain.limits import LIVE_STREAM, AnyLimitEvent
from eventstore.opening import open_store
from service.auth import Right
from tests.chaos.door_child import PARTITIONS
from tests.chaos.door_nodes import LATER, Answered, Doors, doors_running
from tests.given import BUYER, VENDOR
from tests.patience import PATIENT

BATCH = "/api/orders/batch-init-escrow"
MODE = "/api/admin/maintenance-mode"
AMOUNT_MAX, VOLUME_MAX, LIVE_MAX = 1_000, 10_000, 100
RACING = 100


def order(name: str, amount: int) -> dict[str, Any]:
    return {"order_id": name, "buyer_id": BUYER, "vendor_id": VENDOR, "amount": amount}


async def create(doors: Doors, node: int, wish: dict[str, Any]) -> Answered:
    return await doors.ask(node, "POST", "/api/escrows", wish, key=wish["order_id"])


async def race(doors: Doors, wishes: list[dict[str, Any]]) -> tuple[Counter[str], list[str]]:
    """Asks for all at once, each at the next node; counts the answers and names the escrows."""
    answers = await asyncio.gather(*(create(doors, number % 3, wish) for number, wish in enumerate(wishes)))
    made = [answer["escrow_id"] for status, answer in answers if status == 201]
    return Counter("made" if status == 201 else answer["code"] for status, answer in answers), made


async def cancel(doors: Doors, escrows: list[str]) -> None:
    for escrow_id in escrows:
        status, answer = await doors.ask(0, "POST", f"/api/escrows/{escrow_id}/cancel", key="cancel")
        assert status == 200, answer


async def test_a_hundred_creations_at_once_around_each_limit_never_exceed_it(postgres_dsn: str, tmp_path: Path) -> None:
    # One test for several claims: bringing three nodes up is what costs.
    bounds = {
        "max_escrow_amount_atomic": AMOUNT_MAX,
        "max_beta_volume_atomic": VOLUME_MAX,
        "max_concurrent_escrows": LIVE_MAX,
        "init_wait_s": 0,
    }
    async with doors_running(postgres_dsn, tmp_path, **bounds) as doors:
        await _the_amount_of_one(doors)
        await _the_volume_of_the_month(doors)
        await _those_under_way(doors)
        await _maintenance_holds_on_every_node_at_once(doors)
    await _at_no_moment_was_more_held(postgres_dsn)


async def _the_amount_of_one(doors: Doors) -> None:
    wishes = [order(f"a-{number}", AMOUNT_MAX + (number % 20 > 0)) for number in range(RACING)]
    counts, made = await race(doors, wishes)
    assert counts == {"made": 5, "limit_amount": 95}
    await cancel(doors, made)


async def _the_volume_of_the_month(doors: Doors) -> None:
    # The five before were cancelled without a deposit: what they held is free again.
    counts, made = await race(doors, [order(f"v-{number}", AMOUNT_MAX) for number in range(RACING)])
    assert counts == {"made": 10, "limit_volume": 90}
    assert (await create(doors, 1, order("v-one-more", 1)))[1]["code"] == "limit_volume"
    await cancel(doors, made)


async def _those_under_way(doors: Doors) -> None:
    _, answer = await doors.ask(
        0, "POST", BATCH, {"orders": [order(f"b-{number}", 1) for number in range(90)]}, key="b"
    )
    assert answer["summary"]["failed"] == 0, answer["summary"]
    counts, made = await race(doors, [order(f"l-{number}", 1) for number in range(RACING)])
    assert counts == {"made": 10, "limit_concurrency": 90}
    await cancel(doors, made[:1])
    assert [(await create(doors, node, order(f"m-{node}", 1)))[0] for node in range(3)] == [201, 503, 503]


async def _maintenance_holds_on_every_node_at_once(doors: Doors) -> None:
    root: dict[str, Any] = {"user": "root", "rights": (Right.ADMIN,)}
    assert (await doors.ask(0, "POST", MODE, {"enabled": True, "reason": "disks"}, **root))[0] == 200
    for node in range(3):
        assert (await create(doors, node, order(f"n-{node}", 1)))[1]["code"] == "maintenance"
    assert (await doors.ask(1, "POST", MODE, {"enabled": False}, **root))[0] == 200
    assert (await create(doors, 2, order("n-2", 1)))[1]["code"] == "limit_concurrency"


async def _at_no_moment_was_more_held(dsn: str) -> None:
    store = await open_store(
        dsn=dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id="observer", limits=PATIENT
    )
    live = await _events(store.log, LIVE_STREAM)
    month = await _events(store.log, limits.month_stream(Micros(live[0].at)))
    await store.aclose()
    assert max(len(limits.live_of(live[:end]).held) for end in range(len(live) + 1)) == LIVE_MAX
    assert max(limits.volume_of(month[:end]).total for end in range(len(month) + 1)) == VOLUME_MAX


async def _events(log: Any, stream: str) -> list[AnyLimitEvent]:
    return [event_of(each) for each in await log.read_stream(stream, limit=10_000)]


async def test_a_batch_whose_node_is_killed_in_the_middle_is_finished_at_another_by_its_key(
    postgres_dsn: str, tmp_path: Path
) -> None:
    orders = {"orders": [order(f"k-{number:02}", 1) for number in range(60)]}
    async with doors_running(postgres_dsn, tmp_path, max_concurrent_escrows=1_000, init_wait_s=0) as doors:
        asking = asyncio.create_task(doors.ask(0, "POST", BATCH, orders, key="batch"))
        while not (before := await _escrows(doors)):
            pass
        doors.kill(0)
        await asyncio.gather(asking, return_exceptions=True)
        made = await _batch(doors, 1, orders)
        assert before.items() <= made.items()
        assert await _escrows(doors) == made


async def _batch(doors: Doors, node: int, orders: dict[str, Any]) -> dict[str, str]:
    """Sends a batch again with its key until every order has its escrow, and names them."""
    while True:
        status, answer = await doors.ask(node, "POST", BATCH, orders, key="batch")
        assert status == 200, answer
        assert {each["error"]["code"] for each in answer["results"] if each["error"]} <= LATER
        if not answer["summary"]["failed"]:
            return {each["order_id"]: each["escrow_id"] for each in answer["results"]}


async def _escrows(doors: Doors) -> dict[str, str]:
    status, page = await doors.ask(1, "GET", "/api/escrows")
    assert status == 200, page
    return {each["order_id"]: each["escrow_id"] for each in page["escrows"]}
