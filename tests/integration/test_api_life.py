"""Lives of escrows through the doors, as three people with three tokens see them."""

from collections.abc import AsyncIterator

import pytest

from domain import commands as c
from domain.roles import Role
from domain.steps import Step
from eventstore.opening import open_store
from service.auth import Right
from tests.given import ADDRESS, AMOUNT, ARBITER, BUYER, NETWORK_FEE, USERS, VENDOR
from tests.patience import PATIENT
from tests.worlds import PAYOUT_HASH, World, address_of, house_world


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """The API on the memory log and on Postgres."""
    if request.param == "memory":
        store = None
    else:
        dsn = request.getfixturevalue("postgres_dsn")
        store = await open_store(dsn=dsn, encryption_key=bytes(32), partitions=4, node_id="n", limits=PATIENT)
    async with house_world(store=store) as world:
        yield world


async def test_an_order_lives_from_creation_to_release(world: World) -> None:
    escrow_id = await world.released()
    status, shown = await world.ask("GET", f"/api/escrows/{escrow_id}", user=VENDOR)
    assert status == 200
    assert (shown["state"], shown["outcome"], shown["amount"]) == ("completed", "released", AMOUNT)
    (payout,) = shown["payouts"]
    (epoch,) = payout["epochs"]
    assert epoch["tx_hash"] == PAYOUT_HASH
    assert epoch["shares"] == [{"roles": ["vendor"], "amount": AMOUNT - NETWORK_FEE}]
    assert [entry["version"] for entry in shown["history"]] == list(range(1, shown["version"] + 1))
    assert shown["awaited"] == []


async def test_a_dispute_is_decided_and_its_fee_paid_with_the_refund(world: World) -> None:
    escrow_id = await world.funded()
    status, opened = await world.ask("POST", "/api/disputes/open", {"escrow_id": escrow_id, "claim": "It is broken."})
    assert (status, opened["arbiter_id"], opened["state"]) == (200, ARBITER, "disputed")
    decision = {"case_id": opened["case_id"], "decision": "refund", "reason": "The pictures show it."}
    status, decided = await world.ask("POST", "/api/disputes/resolve", decision, user=ARBITER)
    assert (status, decided["status"], decided["state"]) == (200, "decided", "refunding")
    assert (decided["winner_tx_hash"], decided["arbiter_fee_tx_hash"]) == (None, None)
    await world.sign(escrow_id, proposer=Role.BUYER, cosigner=Role.ARBITER)
    await world.make_final(escrow_id)
    _, shown = await world.ask("GET", f"/api/escrows/{escrow_id}", user=ARBITER)
    case = shown["case"]
    assert (shown["state"], case["status"], case["buyer_claim"]) == ("refunded", "resolved", "It is broken.")
    assert case["reason"] == "The pictures show it."
    assert case["winner_tx_hash"] == case["arbiter_fee_tx_hash"] == PAYOUT_HASH
    fee = AMOUNT // 50
    assert case["fee_atomic"] == fee
    shares = {tuple(share["roles"]): share["amount"] for share in shown["payouts"][-1]["epochs"][-1]["shares"]}
    assert shares == {("buyer",): AMOUNT - fee - NETWORK_FEE, ("arbiter",): fee}


async def test_both_parties_settle_without_the_arbiter(world: World) -> None:
    escrow_id = await world.funded()
    path = f"/api/escrows/{escrow_id}/agreements"
    status, offered = await world.ask("POST", path, {"buyer_share_bp": 2_500}, user=VENDOR, key="offer")
    assert (status, offered["number"]) == (200, 1)
    assert await world.ask("POST", path, {"buyer_share_bp": 2_500}, user=VENDOR, key="offer") == (200, offered)
    assert (await world.ask("POST", f"{path}/1/accept", user=VENDOR))[1]["code"] == "agreement_own"
    status, accepted = await world.ask("POST", f"{path}/1/accept", user=BUYER)
    assert (status, accepted["state"]) == (200, "releasing")


async def test_an_offer_can_be_withdrawn_and_a_deadline_moved(world: World) -> None:
    escrow_id = await world.funded()
    path = f"/api/escrows/{escrow_id}/agreements"
    until = "2099-01-01T00:00:00+00:00"
    assert (await world.ask("POST", path, {"ship_until": until}))[1]["code"] == "deadline_invalid"
    await world.ask("POST", path, {"buyer_share_bp": 1})
    assert (await world.ask("DELETE", f"{path}/1", user=VENDOR))[1]["code"] == "agreement_none"
    assert (await world.ask("DELETE", f"{path}/1"))[0] == 200
    assert (await world.ask("POST", f"{path}/1/accept", user=VENDOR))[0] == 404


async def test_the_address_to_pay_to_is_shown_only_when_all_three_agree_and_both_can_be_paid_out() -> None:
    async with house_world() as world:
        escrow_id = await world.create()

        async def shown() -> str | None:
            _, facts = await world.ask("GET", f"/api/escrows/{escrow_id}")
            assert facts["payin_address"] is not None or ADDRESS not in str(facts)
            address: str | None = facts["payin_address"]
            return address

        assert await shown() is None
        await world.set_addresses(escrow_id, Role.BUYER, Role.ARBITER)
        await world.set_up(escrow_id, confirming=(Role.BUYER, Role.VENDOR))
        assert await shown() is None
        await world.confirm(escrow_id, Role.ARBITER)
        assert (await world.ask("GET", f"/api/escrows/{escrow_id}"))[1]["state"] == "awaiting_funding"
        assert await shown() is None
        await world.set_addresses(escrow_id, Role.VENDOR)
        assert await shown() == ADDRESS


async def test_a_list_shows_what_its_caller_wrote_just_before() -> None:
    async with house_world() as world:
        created = [await world.create() for _ in range(5)]
        status, page = await world.ask("GET", "/api/escrows?limit=3")
        assert status == 200
        _, rest = await world.ask("GET", f"/api/escrows?limit=3&after={page['next']}")
        listed = [each["escrow_id"] for each in page["escrows"] + rest["escrows"]]
        assert listed == created[::-1]
        assert rest["next"] is None
        await world.ask("POST", f"/api/escrows/{created[0]}/cancel")
        _, found = await world.ask("GET", "/api/escrows?state=cancelled&role=buyer&order=order-1")
        assert [each["escrow_id"] for each in found["escrows"]] == [created[0]]
        assert (await world.ask("GET", "/api/escrows?role=vendor"))[1]["escrows"] == []


async def test_turns_name_every_awaited_wallet() -> None:
    async with house_world() as world:
        escrow_id = await world.create()
        status, asked = await world.ask("GET", f"/api/escrows/{escrow_id}/turns", user=ARBITER)
        assert status == 200
        assert {(turn["role"], turn["step"]) for turn in asked["turns"]} == {(role, "claim_wallet") for role in Role}


async def test_a_turn_says_which_wallet_call_failed_last_and_why() -> None:
    async with house_world() as world:
        path = f"/api/escrows/{await world.create()}/turns"
        asked = (await world.ask("GET", path))[1]
        turn_id = next(turn["turn_id"] for turn in asked["turns"] if turn["role"] == "buyer")
        failed = c.FailTurn(
            at=world.now(),
            role=Role.BUYER,
            step=Step.CLAIM_WALLET,
            turn_id=turn_id,
            call="open_wallet",
            reason="open_failed",
        )
        await world.tell(asked["escrow_id"], failed)
        asked = (await world.ask("GET", path))[1]
        told = {turn["role"]: (turn["failed_call"], turn["failed_reason"]) for turn in asked["turns"]}
        assert told == {"buyer": ("open_wallet", "open_failed"), "vendor": (None, None), "arbiter": (None, None)}


async def test_a_new_payout_address_after_the_pay_in_address_needs_consent() -> None:
    async with house_world() as world:
        escrow_id = await world.funded()
        path = f"/api/escrows/{escrow_id}/payout-address"
        assert (await world.ask("PUT", path, {"address": address_of(Role.ARBITER)}))[0] == 200
        assert (await world.ask("GET", f"/api/escrows/{escrow_id}"))[1]["address_changes"] == ["buyer"]
        assert (await world.ask("POST", f"{path}/consent", {"role": "buyer"}))[1]["code"] == "not_awaited"
        assert (await world.ask("POST", f"{path}/consent", {"role": "buyer"}, user=VENDOR))[0] == 200
        assert (await world.ask("GET", f"/api/escrows/{escrow_id}"))[1]["address_changes"] == []


async def test_only_the_three_and_administrators_see_an_escrow(world: World) -> None:
    escrow_id = await world.create()
    for user in USERS.values():
        assert (await world.ask("GET", f"/api/escrows/{escrow_id}", user=user))[0] == 200
    assert (await world.ask("GET", f"/api/escrows/{escrow_id}", user="root", rights=(Right.ADMIN,)))[0] == 200
    for path in ("", "/turns"):
        status, problem = await world.ask("GET", f"/api/escrows/{escrow_id}{path}", user="mallory")
        assert (status, problem["code"]) == (404, "no_such_escrow")
    assert (await world.ask("GET", "/api/escrows", user="mallory"))[1]["escrows"] == []
    assert (await world.ask("GET", "/health", user=None)) == (200, {"status": "ok"})
