"""Shredding an escrow's secrets: through the door and from the command line, over crashes and restores."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from actors.sealed import EscrowSecrets
from domain import commands as c
from domain.ids import EscrowId, UserId
from domain.roles import THREE, Role
from domain.states import money_of
from eventstore.api import Shredded
from eventstore.opening import Store, open_store
from schemas.sealing import SealedKind
from service.audit import verify
from service.auth import Right
from service.commands.replay import read_all
from service.commands.secrets import shred
from service.node import Node
from service.replay import story
from service.settings import Settings
from tests.given import ARBITER, BUYER, VENDOR
from tests.patience import PATIENCE_S, PATIENT
from tests.sim_world import SimWorld, create, moment, pay_in, play_release, set_addresses, tell, until, until_true
from tests.worlds import World, address_of, house_world

CLAIM, REASON = "The parcel held a brick.", "A brick is no watch."
ROOT = "root"


async def _pg(dsn: str) -> Store:
    return await open_store(dsn=dsn, encryption_key=bytes(32), partitions=4, node_id="n", limits=PATIENT)


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """The API of an operator who keeps secrets no longer than the order, on the memory log and on Postgres."""
    store = None if request.param == "memory" else await _pg(request.getfixturevalue("postgres_dsn"))
    async with house_world(store=store, secrets_retention_days=0) as world:
        yield world


async def _ruled(world: World) -> tuple[str, str]:
    """Plays a dispute to a refund that is final; returns escrow and case."""
    escrow_id = await world.funded()
    _, opened = await world.ask("POST", "/api/disputes/open", {"escrow_id": escrow_id, "claim": CLAIM})
    decision = {"case_id": opened["case_id"], "decision": "refund", "reason": REASON}
    assert (await world.ask("POST", "/api/disputes/resolve", decision, user=ARBITER))[0] == 200
    await world.sign(escrow_id, proposer=Role.BUYER, cosigner=Role.ARBITER)
    await world.make_final(escrow_id)
    return escrow_id, opened["case_id"]


async def _shred(world: World, escrow_id: str, *, key: str | None = None) -> tuple[int, dict[str, Any]]:
    path = f"/api/admin/escrows/{escrow_id}/shred"
    return await world.ask("POST", path, user=ROOT, rights=(Right.ADMIN,), key=key)


async def test_after_it_claims_reasons_and_addresses_are_gone_and_the_rest_is_told_as_before(world: World) -> None:
    escrow_id, _ = await _ruled(world)
    _, before = await world.ask("GET", f"/api/escrows/{escrow_id}")
    assert (before["case"]["buyer_claim"], before["case"]["reason"]) == (CLAIM, REASON)
    assert (await _shred(world, escrow_id, key="k-1"))[0] == 200
    _, shown = await world.ask("GET", f"/api/escrows/{escrow_id}")
    assert (shown["case"]["buyer_claim"], shown["case"]["reason"]) == (None, None)
    assert shown["secrets_shredded_at"] == shown["history"][-1]["at"]
    told = set(before) - {"case", "secrets_shredded_at", "version", "cursor", "history"}
    assert {fact: shown[fact] for fact in told} == {fact: before[fact] for fact in told}
    sealing = EscrowSecrets(world.house.store.vault, EscrowId(escrow_id))
    with pytest.raises(Shredded):
        await sealing.payout_addresses(await world.state(escrow_id))


async def test_tables_made_of_its_events_are_blanked(postgres_dsn: str) -> None:
    async with house_world(store=await _pg(postgres_dsn), secrets_retention_days=0) as world:
        _, case_id = await _ruled(world)
        escrow_id = (await world.ask("GET", f"/api/disputes/{case_id}"))[1]["case"]["escrow_id"]
        await world.ask("GET", "/api/escrows")  # waits for the caller's own writes
        assert await _case_row(postgres_dsn, case_id, sealed=True)
        await _shred(world, escrow_id)
        assert await _case_row(postgres_dsn, case_id, sealed=False)
        shown = (await world.ask("GET", f"/api/disputes/{case_id}"))[1]["case"]
        assert (shown["buyer_claim"], shown["reason"], shown["opened_by"]) == (None, None, "buyer")


async def _case_row(dsn: str, case_id: str, *, sealed: bool) -> bool:
    """Waits until the row of a case has its sealed columns, or has them blanked."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                row = await connection.fetchrow("select * from model_disputes where case_id = $1", case_id)
                if row is not None and {row["buyer_claim"] is not None, row["reason"] is not None} == {sealed}:
                    return True
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


async def test_the_log_still_verifies_and_tells_who_asked(world: World) -> None:
    escrow_id, _ = await _ruled(world)
    await _shred(world, escrow_id)
    assert (await verify(world.house.store.log)).count == 0
    lines = list(story(await read_all(world.house.store.log, escrow_id)))
    assert any("key_shredded" in line and f"by {ROOT}" in line for line in lines)
    assert lines[-1].startswith("state refunded at version")


async def test_it_happens_once_and_nothing_is_possible_afterwards(world: World) -> None:
    escrow_id, _ = await _ruled(world)
    first, again = await _shred(world, escrow_id, key="k-1"), await _shred(world, escrow_id, key="k-1")
    assert first == again and first[0] == 200
    assert (await _shred(world, escrow_id))[1]["version"] == first[1]["version"]
    address = {"address": address_of(Role.BUYER)}
    claim = {"escrow_id": escrow_id, "claim": CLAIM}
    for method, path, body in (
        ("PUT", f"/api/escrows/{escrow_id}/payout-address", address),
        ("POST", "/api/disputes/open", claim),
        ("POST", f"/api/escrows/{escrow_id}/agreements", {"buyer_share_bp": 5_000}),
    ):
        status, problem = await world.ask(method, path, body)
        assert (status, problem["code"]) == (410, "secrets_shredded")


async def test_only_administrators_may_ask_for_it_and_not_before_the_end(world: World) -> None:
    escrow_id = await world.funded()
    for user, status, code in ((BUYER, 403, "right_missing"), ("mallory", 404, "no_such_escrow")):
        refused = await world.ask("POST", f"/api/admin/escrows/{escrow_id}/shred", user=user)
        assert (refused[0], refused[1]["code"]) == (status, code)
    status, problem = await _shred(world, escrow_id)
    assert (status, problem["code"]) == (409, "not_closed")


async def test_before_the_retention_is_over_the_days_left_are_told() -> None:
    async with house_world() as world:
        status, problem = await _shred(world, await world.released())
        assert (status, problem["code"]) == (409, "retention_runs")
        assert problem["facts"] == {"days_left": Settings().secrets_retention_days}


# -- crashes and restores ------------------------------------------------------------------------------------


async def _key(dsn: str, stream_id: str) -> dict[str, object]:
    connection = await asyncpg.connect(dsn)
    try:
        row = await connection.fetchrow("select wrapped, shredded_at from sealed_keys where stream_id = $1", stream_id)
        assert row is not None
        return dict(row)
    finally:
        await connection.close()


async def test_a_crash_between_event_and_key_is_made_up_for_before_anything_is_served(
    postgres_dsn: str,
) -> None:
    async with house_world(store=await _pg(postgres_dsn)) as world:
        escrow_id = await world.released()
        await world.tell(escrow_id, c.ShredKey(at=world.now(), by=UserId(ROOT), retention_days=0))
        assert (await _key(postgres_dsn, escrow_id))["wrapped"] is not None
    store = await _pg(postgres_dsn)
    try:
        async with SimWorld(store=lambda: store).running():
            assert (await _key(postgres_dsn, escrow_id))["wrapped"] is None
    finally:
        await store.aclose()


async def test_a_key_that_a_restore_brought_back_goes_again(postgres_dsn: str) -> None:
    async with house_world(store=await _pg(postgres_dsn), secrets_retention_days=0) as world:
        escrow_id = await world.released()
        backup = await _key(postgres_dsn, escrow_id)
        assert (await _shred(world, escrow_id))[0] == 200
        connection = await asyncpg.connect(postgres_dsn)
        try:
            await connection.execute("alter table sealed_keys disable trigger all")
            restored = "update sealed_keys set wrapped = $2, shredded_at = null where stream_id = $1"
            await connection.execute(restored, escrow_id, backup["wrapped"])
            await connection.execute("alter table sealed_keys enable trigger all")
        finally:
            await connection.close()
        store = await _pg(postgres_dsn)
        try:
            async with SimWorld(store=lambda: store).running():
                assert (await _key(postgres_dsn, escrow_id))["wrapped"] is None
        finally:
            await store.aclose()


# -- a whole life --------------------------------------------------------------------------------------------


async def test_a_shredded_escrow_is_watched_no_more_and_its_wallets_still_open() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await create(node)
        await set_addresses(node, escrow_id)
        await until(node, escrow_id, "awaiting_funding")
        await pay_in(world, node, escrow_id)
        await until(node, escrow_id, "funded")
        state = await play_release(world, node, escrow_id)
        other = await _watched_other(world, node)
        await tell(node, escrow_id, c.ShredKey(at=moment(node), by=UserId(ROOT), retention_days=0))
        assert list(await node.store.vault.shred()) == [escrow_id]
        await until_true(lambda: set(node.watcher.watched) == {other})
        sealing, money = EscrowSecrets(node.store.vault, escrow_id), money_of(state)
        assert money is not None
        with pytest.raises(Shredded):
            await sealing.open(SealedKind.VIEW_KEY, money.view_key_role, money.view_key)
        for role in THREE:
            own = await sealing.wallet(state, role)
            await world.wallets[role][0].open_wallet(own.file, password=own.password)
            assert await world.wallets[role][0].get_address() == money.address


async def _watched_other(world: SimWorld, node: Node) -> EscrowId:
    other = await create(node, escrow_id="esc_other")
    await until(node, other, "awaiting_funding")
    await until_true(lambda: other in node.watcher.watched)
    await until_true(lambda: all(not counts.busy for counts in node.slot_counts().values()))
    return other


# -- the command ---------------------------------------------------------------------------------------------


def _settings(dsn: str, home: Path, *, days: int) -> Settings:
    return Settings(thirdkey_home=home, database_url=dsn, encryption_key=bytes(32), secrets_retention_days=days)


async def test_the_command_shreds_beside_a_running_service_or_says_why_not(
    postgres_dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with house_world(store=await _pg(postgres_dsn)) as world:
        escrow_id, live = await world.released(), await world.create()
        assert await shred(_settings(postgres_dsn, tmp_path, days=30), escrow_id) == 1
        assert "retention_runs" in (err := capsys.readouterr().err) and "days_left 30" in err
        assert await shred(_settings(postgres_dsn, tmp_path, days=0), live) == 1
        assert "not_closed" in capsys.readouterr().err
        assert await shred(_settings(postgres_dsn, tmp_path, days=0), "esc_nobody") == 1
        assert "no_such_escrow" in capsys.readouterr().err
        assert (await _key(postgres_dsn, escrow_id))["wrapped"] is not None
        assert await shred(_settings(postgres_dsn, tmp_path, days=0), escrow_id) == 0
        assert f"the secrets of {escrow_id} are shredded" in capsys.readouterr().out
        assert (await _key(postgres_dsn, escrow_id))["wrapped"] is None
        assert await shred(_settings(postgres_dsn, tmp_path, days=0), escrow_id) == 0
        # The node learns of it by the conflict of its next command, or by reading.
        status, problem = await world.ask("POST", f"/api/escrows/{escrow_id}/ship", user=VENDOR)
        assert (status, problem["code"]) in ((410, "secrets_shredded"), (409, "wrong_state"))
