"""Signed decisions through the doors, and what anybody can prove with them far from the service."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.clock import SystemClock
from actors.identity import Identity, verified
from domain.chain import ChainView
from domain.events import DisputeDecided
from domain.ids import OneTimeKey
from domain.roles import Role
from eventstore.memory import MemoryTables
from eventstore.opening import memory_store
from schemas.codec import decode
from service.bundle import BundleMaker
from service.bundle_check import check_bundle
from service.commands import audit
from tests.bundle_world import KEY_ID, encoded, sign, taken
from tests.given import AMOUNT, ARBITER, BUYER, VENDOR
from tests.worlds import World, deposit, house_world, identity_seed

REASON = "The parcel weighed 40 g when it was posted."
ARBITERS = Identity(identity_seed(Role.ARBITER))


async def opened(world: World) -> tuple[str, str]:
    escrow_id = await world.funded()
    _, answer = await world.ask("POST", "/api/disputes/open", {"escrow_id": escrow_id, "claim": "An empty box."})
    return escrow_id, answer["case_id"]


async def resolve(
    world: World, case_id: str, *, user: str = ARBITER, key: str | None = None, **more: Any
) -> tuple[int, Any]:
    body = {"case_id": case_id, "decision": "split", "buyer_share_bp": 7_000, "reason": REASON}
    return await world.ask("POST", "/api/disputes/resolve", body | more, user=user, key=key)


async def test_each_of_the_three_can_prove_a_decision_by_itself() -> None:
    async with house_world() as world:
        escrow_id, case_id = await opened(world)
        assert (await resolve(world, case_id))[0] == 200
        for user in (BUYER, VENDOR, ARBITER):
            _, shown = await world.ask("GET", f"/api/disputes/{case_id}", user=user)
            signed = shown["case"]["signed"]
            assert signed["key"] == ARBITERS.public
            assert verified(signed["key"], signed["statement"].encode(), signature=signed["signature"])
            said = msgspec.json.decode(signed["statement"].partition("\n")[2])
            digest = hashlib.sha256((signed["reason_salt"] + shown["case"]["reason"]).encode()).hexdigest()
            assert said["reason_sha256"] == digest
            assert (said["escrow_id"], said["case_id"]) == (escrow_id, case_id)
            assert (said["decision"], said["buyer_share_bp"]) == ("split", 7_000)
            assert said["fee_atomic"] == shown["case"]["fee_atomic"]


async def test_an_undecided_case_shows_no_signature() -> None:
    async with house_world() as world:
        _, case_id = await opened(world)
        _, shown = await world.ask("GET", f"/api/disputes/{case_id}")
        assert shown["case"]["signed"] is None


async def test_an_arbiter_signs_what_it_was_told_it_would_sign() -> None:
    async with house_world() as world:
        _, case_id = await opened(world)
        meant = {"case_id": case_id, "decision": "refund", "reason": REASON}
        status, told = await world.ask("POST", "/api/disputes/statement", meant, user=ARBITER)
        assert status == 200
        version = await world.version(f"esc_{case_id[5:]}")
        signature = ARBITERS.sign(told["statement"].encode())
        given = meant | {"reason_salt": told["reason_salt"], "signature": signature}
        assert (await world.ask("POST", "/api/disputes/resolve", given, user=ARBITER))[0] == 200
        assert version < await world.version(f"esc_{case_id[5:]}")
        _, shown = await world.ask("GET", f"/api/disputes/{case_id}")
        signed = shown["case"]["signed"]
        assert (signed["statement"], signed["signature"]) == (told["statement"], signature)


async def test_a_decision_binds_the_amounts_that_its_arbiter_was_told() -> None:
    async with house_world() as world:
        escrow_id, case_id = await opened(world)
        meant = {"case_id": case_id, "decision": "split", "buyer_share_bp": 7_000, "reason": REASON}
        _, told = await world.ask("POST", "/api/disputes/statement", meant, user=ARBITER)
        fee = AMOUNT // 50
        assert told["amounts"] == {
            "buyer": (AMOUNT - fee) * 7 // 10,
            "vendor": (AMOUNT - fee) * 3 // 10,
            "arbiter": fee,
        }
        assert told["fee_atomic"] == fee
        outputs = (deposit(), msgspec.structs.replace(deposit(), one_time_key=OneTimeKey("e" * 64)))
        await world.tell(escrow_id, await world.seen(escrow_id, ChainView(height=112, outputs=outputs)))
        version = await world.version(escrow_id)
        for _ in range(2):
            status, problem = await resolve(world, case_id, amounts=told["amounts"], key="first")
            assert (status, problem["code"]) == (409, "amounts_changed")
        assert await world.version(escrow_id) == version
        _, told = await world.ask("POST", "/api/disputes/statement", meant, user=ARBITER)
        assert sum(told["amounts"].values()) == 2 * AMOUNT
        first = await resolve(world, case_id, amounts=told["amounts"], key="second")
        assert first[0] == 200
        await world.tell(escrow_id, await world.seen(escrow_id, ChainView(height=113, outputs=(deposit(),))))
        assert await resolve(world, case_id, amounts=told["amounts"], key="second") == first
        status, problem = await resolve(world, case_id, key="second")
        assert (status, problem["code"]) == (422, "idempotency_key_reused")
        _, told = await world.ask("POST", "/api/disputes/statement", meant, user=ARBITER)
        assert told["amounts"] is None


@pytest.mark.parametrize(
    "odd", [{}, {"buyer": 1, "vendor": 1}, [0, 0, 0], 7, {"buyer": 1.0}, {"arbiter": "0"}, {"vendor": -1}, {"x": 1}]
)
async def test_what_are_no_amounts_decides_nothing(odd: object) -> None:
    async with house_world() as world:
        escrow_id, case_id = await opened(world)
        version = await world.version(escrow_id)
        amounts = {"buyer": 0, "vendor": 0, "arbiter": 0} | odd if isinstance(odd, dict) and len(odd) == 1 else odd
        status, problem = await resolve(world, case_id, amounts=amounts)
        assert (status, problem["code"]) == (422, "validation")
        assert problem["facts"]["path"].startswith("amounts")
        assert await world.version(escrow_id) == version


@pytest.mark.parametrize("user", [BUYER, VENDOR])
async def test_nobody_else_has_anything_signed(user: str) -> None:
    async with house_world() as world:
        _, case_id = await opened(world)
        meant = {"case_id": case_id, "decision": "refund", "reason": REASON}
        for path in ("statement", "resolve"):
            status, problem = await world.ask("POST", f"/api/disputes/{path}", meant, user=user)
            assert (status, problem["code"]) == (403, "not_the_arbiter")


async def test_blanks_are_no_reason() -> None:
    async with house_world() as world:
        escrow_id, case_id = await opened(world)
        version = await world.version(escrow_id)
        for reason in (" ", "\n\t\u3000"):
            decision = {"case_id": case_id, "decision": "refund", "reason": reason}
            for path in ("statement", "resolve"):
                status, problem = await world.ask("POST", f"/api/disputes/{path}", decision, user=ARBITER)
                assert (status, problem["code"], problem["facts"]) == (422, "validation", {"path": "reason"})
        assert await world.version(escrow_id) == version


async def test_a_wrong_signature_changes_nothing() -> None:
    async with house_world() as world:
        escrow_id, case_id = await opened(world)
        version = await world.version(escrow_id)
        for wrong in ("00" * 64, Identity(bytes(32)).sign(b"something else")):
            status, problem = await resolve(world, case_id, signature=wrong, reason_salt="00" * 16)
            assert (status, problem["code"]) == (422, "signature_invalid")
        for odd in ("00" * 63, "AB" * 64, "", 1):
            assert (await resolve(world, case_id, signature=odd))[1]["code"] == "validation"
        assert await world.version(escrow_id) == version


async def test_shredding_takes_the_salt_and_leaves_the_signature() -> None:
    tables = MemoryTables(partitions=4)
    async with house_world(store=memory_store(partitions=4, tables=tables)) as world:
        escrow_id, case_id = await opened(world)
        assert (await resolve(world, case_id))[0] == 200
    del tables.keys[escrow_id]
    async with house_world(store=memory_store(partitions=4, tables=tables)) as world:
        _, shown = await world.ask("GET", f"/api/disputes/{case_id}")
        signed = shown["case"]["signed"]
        assert (shown["case"]["reason"], signed["reason_salt"]) == (None, None)
        assert verified(signed["key"], signed["statement"].encode(), signature=signed["signature"])


async def test_a_bundle_proves_the_decision_and_a_changed_one_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = memory_store(partitions=1)
    async with house_world(store=store) as world:
        escrow_id, case_id = await opened(world)
        assert (await resolve(world, case_id))[0] == 200
        await sign(store)
        bundle = await taken(BundleMaker(store.log, store.heads, clock=SystemClock()), escrow_id)
    assert check_bundle(encoded(bundle), trusted=frozenset({KEY_ID})).findings == ()
    file = tmp_path / "bundle.json"
    file.write_bytes(encoded(bundle))
    assert audit.check(file, keys=[KEY_ID]) == 0
    assert f"decision: split, signed with the arbiter's key {ARBITERS.public}" in capsys.readouterr().out
    changed = msgspec.structs.replace(
        bundle,
        events=tuple(
            msgspec.structs.replace(each, body=each.body.replace('"buyer_share_bp":7000', '"buyer_share_bp":0'))
            if each.type == "dispute_decided"
            else each
            for each in bundle.events
        ),
    )
    found = check_bundle(encoded(changed), trusted=frozenset({KEY_ID})).findings
    assert any("the arbiter's key signed" in says for says in found), found
    (event,) = [each for each in bundle.events if each.type == "dispute_decided"]
    decided = decode(type=event.type, schema_version=event.schema_version, body=event.body.encode())
    assert isinstance(decided, DisputeDecided) and REASON not in event.body


def without_signature(body: str) -> str:
    """Writes a decision as the first version did."""
    fields = msgspec.json.decode(body)
    return msgspec.json.encode({key: fields[key] for key in fields if key not in ("signed", "reason_salt")}).decode()


async def test_neither_an_unsigned_decision_nor_a_payout_of_another_one_passes_for_what_was_decided() -> None:
    store = memory_store(partitions=1)
    async with house_world(store=store) as world:
        escrow_id, case_id = await opened(world)
        assert (await resolve(world, case_id))[0] == 200
        await sign(store)
        bundle = await taken(BundleMaker(store.log, store.heads, clock=SystemClock()), escrow_id)

    def findings(type: str, **changes: Any) -> str:
        events = tuple(
            msgspec.structs.replace(each, **{name: change(getattr(each, name)) for name, change in changes.items()})
            if each.type == type
            else each
            for each in bundle.events
        )
        changed = msgspec.structs.replace(bundle, events=events)
        return "\n".join(check_bundle(encoded(changed), trusted=frozenset({KEY_ID})).findings)

    unsigned = findings("dispute_decided", body=without_signature, schema_version=lambda _: 1)
    assert "the decision is not signed" in unsigned
    for old, new in (('"buyer_share_bp":7000', '"buyer_share_bp":0'), ('"fee_atomic":4', '"fee_atomic":5')):
        assert "the payout is not what was decided" in findings(
            "payout_opened", body=lambda body, old=old, new=new: body.replace(old, new)
        )
