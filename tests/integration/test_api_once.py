"""The same key is the same command; limits hold however many come at once."""

import asyncio
from typing import Any

import pytest

from domain.ids import UserId
from domain.limits import LIVE_STREAM
from domain.roles import Role
from eventstore.memory import Fault, MemoryTables
from eventstore.opening import memory_store
from service.settings import Arbiter
from tests.given import AMOUNT, ARBITER, BUYER, VENDOR
from tests.worlds import address_of, house_world

ORDER: dict[str, Any] = {"order_id": "o-1", "buyer_id": BUYER, "vendor_id": VENDOR, "amount": AMOUNT}


async def test_a_key_that_comes_again_gets_the_first_answer() -> None:
    async with house_world() as world:
        first = await world.ask("POST", "/api/escrows", ORDER, key="k-1")
        assert first[0] == 201
        escrow_id = first[1]["escrow_id"]
        await world.set_addresses(escrow_id)
        version = await world.version(escrow_id)
        assert await world.ask("POST", "/api/escrows", ORDER, key="k-1") == first
        assert await world.version(escrow_id) == version


async def test_a_key_that_comes_with_another_body_is_refused_and_changes_nothing() -> None:
    async with house_world() as world:
        _, created = await world.ask("POST", "/api/escrows", ORDER, key="k-1")
        path = f"/api/escrows/{created['escrow_id']}/payout-address"
        assert (await world.ask("PUT", path, {"address": address_of(Role.BUYER)}, key="k-1"))[0] == 200
        version = await world.version(created["escrow_id"])
        for method, where, body in (
            ("POST", "/api/escrows", ORDER | {"amount": AMOUNT + 1}),
            ("PUT", path, {"address": address_of(Role.VENDOR)}),
        ):
            status, problem = await world.ask(method, where, body, key="k-1")
            assert (status, problem["code"]) == (422, "idempotency_key_reused")
        assert await world.version(created["escrow_id"]) == version


async def test_a_key_is_one_callers_own() -> None:
    async with house_world() as world:
        _, mine = await world.ask("POST", "/api/escrows", ORDER, key="k-1")
        status, theirs = await world.ask("POST", "/api/escrows", ORDER | {"order_id": "o-2"}, key="k-1", user=VENDOR)
        assert status == 201
        assert theirs["escrow_id"] != mine["escrow_id"]


async def test_a_refusal_is_kept_with_its_key() -> None:
    async with house_world() as world:
        escrow_id = await world.create()
        path = f"/api/escrows/{escrow_id}/ship"
        first = await world.ask("POST", path, user=VENDOR, key="too-early")
        assert first[1]["code"] == "wrong_state"
        await world.set_addresses(escrow_id)
        await world.set_up(escrow_id)
        await world.pay_in(escrow_id)
        assert await world.ask("POST", path, user=VENDOR, key="too-early") == first
        assert (await world.ask("POST", path, user=VENDOR, key="now"))[0] == 200


async def test_a_dispute_is_opened_once_by_key_and_a_key_names_one_escrow() -> None:
    async with house_world() as world:
        one, two = await world.funded(), await world.funded()
        first = await world.ask("POST", "/api/disputes/open", {"escrow_id": one, "claim": "c"}, key="d")
        assert first[0] == 200
        assert await world.ask("POST", "/api/disputes/open", {"escrow_id": one, "claim": "c"}, key="d") == first
        status, problem = await world.ask("POST", "/api/disputes/open", {"escrow_id": two, "claim": "c"}, key="d")
        assert (status, problem["code"]) == (422, "idempotency_key_reused")
        assert (await world.ask("GET", f"/api/escrows/{two}"))[1]["case"] is None


@pytest.mark.parametrize("key", ["", "x" * 129, "two words", "umlaut-ä"])
async def test_a_key_is_short_and_visible_ascii(key: str) -> None:
    async with house_world() as world:
        status, problem = await world.ask("POST", "/api/escrows", ORDER, key=key)
        assert (status, problem["code"]) == (422, "idempotency_key_invalid")


async def test_an_order_has_one_live_escrow_however_many_ask_at_once() -> None:
    async with house_world() as world:
        answers = await asyncio.gather(*(world.ask("POST", "/api/escrows", ORDER) for _ in range(20)))
        assert sorted(status for status, _ in answers) == [201] + [409] * 19
        assert {body["code"] for status, body in answers if status == 409} == {"order_live"}
        (made,) = [body["escrow_id"] for status, body in answers if status == 201]
        assert all("facts" not in body or "escrow_id" not in body["facts"] for status, body in answers if status == 409)
        await world.ask("POST", f"/api/escrows/{made}/cancel")
        assert (await world.ask("POST", "/api/escrows", ORDER))[0] == 201


async def test_a_hundred_creations_at_once_never_exceed_how_many_may_be_under_way() -> None:
    async with house_world(max_concurrent_escrows=20, max_beta_volume_atomic=10**18) as world:
        orders = [ORDER | {"order_id": f"o-{number}"} for number in range(100)]
        answers = await asyncio.gather(*(world.ask("POST", "/api/escrows", order) for order in orders))
        assert [status for status, _ in answers].count(201) == 20
        assert {body["code"] for status, body in answers if status == 503} == {"limit_concurrency"}
        made = [body["escrow_id"] for status, body in answers if status == 201]
        for escrow_id in made[:3]:
            await world.ask("POST", f"/api/escrows/{escrow_id}/cancel")
        again = [await world.ask("POST", "/api/escrows", ORDER | {"order_id": f"n-{number}"}) for number in range(5)]
        assert [status for status, _ in again] == [201, 201, 201, 503, 503]


async def test_a_hundred_creations_at_once_never_exceed_the_volume_of_the_month() -> None:
    async with house_world(max_concurrent_escrows=1_000, max_beta_volume_atomic=AMOUNT * 10) as world:
        orders = [ORDER | {"order_id": f"o-{number}"} for number in range(100)]
        answers = await asyncio.gather(*(world.ask("POST", "/api/escrows", order) for order in orders))
        assert [status for status, _ in answers].count(201) == 10
        assert {body["code"] for status, body in answers if status == 422} == {"limit_volume"}
        made = next(body["escrow_id"] for status, body in answers if status == 201)
        await world.ask("POST", f"/api/escrows/{made}/cancel")
        await world.ask("GET", "/api/escrows")
        assert (await world.ask("POST", "/api/escrows", ORDER | {"order_id": "n-1"}))[0] == 201


async def test_two_nodes_on_one_log_keep_one_limit() -> None:
    tables = MemoryTables(partitions=4)
    limits: dict[str, Any] = {"max_concurrent_escrows": 7, "max_beta_volume_atomic": 10**18}
    async with (
        house_world(store=memory_store(partitions=4, tables=tables), **limits) as one,
        house_world(store=memory_store(partitions=4, tables=tables), **limits) as two,
    ):
        orders = [ORDER | {"order_id": f"o-{number}"} for number in range(40)]
        asked = [(one if number % 2 else two).ask("POST", "/api/escrows", each) for number, each in enumerate(orders)]
        answers = await asyncio.gather(*asked)
        assert [status for status, _ in answers].count(201) == 7


async def test_a_creation_that_is_refused_leaves_nothing_held() -> None:
    async with house_world(max_concurrent_escrows=3, max_beta_volume_atomic=AMOUNT * 3) as world:
        await world.create(order="o-1")
        before = await world.house.store.log.heads()
        for _ in range(5):
            assert (await world.ask("POST", "/api/escrows", ORDER))[1]["code"] == "order_live"
        assert await world.house.store.log.heads() == before, "something was recorded"
        racing = [world.ask("POST", "/api/escrows", ORDER | {"order_id": "o-race"}) for _ in range(10)]
        assert [status for status, _ in await asyncio.gather(*racing)].count(201) == 1
        await world.ask("GET", "/api/escrows")
        assert (await world.ask("POST", "/api/escrows", ORDER | {"order_id": "o-2"}))[0] == 201


async def test_an_amount_above_the_limit_is_refused_with_it() -> None:
    async with house_world(max_escrow_amount_atomic=AMOUNT) as world:
        status, problem = await world.ask("POST", "/api/escrows", ORDER | {"amount": AMOUNT + 1})
        assert (status, problem["code"], problem["facts"]) == (422, "limit_amount", {"amount_max": AMOUNT})


async def test_a_creation_that_was_interrupted_is_finished_by_its_key() -> None:
    """Each append of the creation meets a lost answer in turn, before and after it was written."""
    for fault in (Fault.LOST_BEFORE_WRITE, Fault.LOST_AFTER_WRITE, Fault.UNAVAILABLE):
        async with house_world(arbiters=_arbiters()) as world:
            memory: Any = world.house.store.log
            for _ in range(4):
                memory.fail_next(fault)
            for _ in range(10):
                status, answer = await world.ask("POST", "/api/escrows", ORDER, key="k")
                if status == 201:
                    break
                assert status == 503, answer
            assert status == 201
            assert len(await memory.read_stream(LIVE_STREAM)) == 1
            assert len(await memory.read_stream("order-o-1")) == 1
            assert (await world.ask("GET", "/api/escrows"))[1]["escrows"][0]["escrow_id"] == answer["escrow_id"]


async def test_a_configured_arbiters_address_is_set_with_the_escrow() -> None:
    async with house_world(arbiters=_arbiters()) as world:
        escrow_id = await world.create()
        assert (await world.ask("GET", f"/api/escrows/{escrow_id}"))[1]["payout_addresses_set"] == ["arbiter"]


async def test_a_pool_of_arbiters_never_gives_a_party_its_own_case() -> None:
    pool = tuple(Arbiter(user_id=UserId(user)) for user in (BUYER, VENDOR, ARBITER, "mara"))
    async with house_world(arbiter_mode="pool", arbiters=pool, max_concurrent_escrows=100) as world:
        assigned = set()
        for number in range(30):
            escrow_id = await world.create(order=f"o-{number}", amount=1_000_000_000_000)
            assigned.add((await world.state(escrow_id)).core.terms.arbiter_id)
        assert assigned == {ARBITER, "mara"}


async def test_a_busy_log_asks_to_come_back_later() -> None:
    async with house_world() as world:
        escrow_id = await world.create()
        memory: Any = world.house.store.log
        memory.fail_next(Fault.UNAVAILABLE)
        headers = {"Authorization": f"Bearer {world.token(BUYER)}"}
        async with world.client.post(f"/api/escrows/{escrow_id}/cancel", headers=headers) as answer:
            problem = await answer.json(content_type=None)
            assert (answer.status, problem["code"], answer.headers["Retry-After"]) == (503, "unavailable", "1")
        assert (await world.ask("POST", f"/api/escrows/{escrow_id}/cancel"))[0] == 200


def _arbiters() -> tuple[Arbiter, ...]:
    return (Arbiter(user_id=ARBITER, address=address_of(Role.ARBITER)),)
