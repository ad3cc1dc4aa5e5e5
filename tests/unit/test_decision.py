"""What an arbiter signs, who may sign it, and that a changed decision is found by whoever checks."""

import hashlib
from typing import Any

import msgspec
import pytest

from actors.identity import Identity, verified
from actors.sealed import EscrowSecrets, WalletSecrets
from domain import commands as c
from domain import events as e
from domain.decision import reason_digest, statement, statement_bytes
from domain.event import Signed
from domain.events import Verdict
from domain.ids import CaseId, Sealed
from domain.money import Atomic
from domain.roles import Role, SeatKind
from domain.states import Case, Escrow
from domain.terms import arbiter_fee
from eventstore.api import Recorded, Vault
from eventstore.opening import memory_store
from projections.models import disputes
from service.decisions import Decision, decision_holds, new_salt, sign_decision
from service.problems import Refusal
from service.transitions import StreamCheck
from tests.given import ARBITER, Life, disputed, terms
from tests.model_worlds import recorded, standing_of

ARBITERS, OTHERS = Identity(bytes(32)), Identity(bytes([7]) * 32)
SALT = "00" * 16


def case_of(state: Escrow) -> Case:
    assert state.core.case is not None
    return state.core.case


def before() -> Life:
    """A disputed escrow whose arbiter's seat has a key that this test knows."""
    life = disputed()
    life.events[:] = [
        msgspec.structs.replace(each, identity_key=ARBITERS.public)
        if isinstance(each, e.WalletClaimed) and each.role is Role.ARBITER
        else each
        for each in life.events
    ]
    return life


def ruled(life: Life, *, by: Identity = ARBITERS, **changes: Any) -> Life:
    meant = Decision(verdict=Verdict.SPLIT, buyer_share_bp=3_000, reason="because", salt=SALT)
    said = statement_bytes(meant.statement(life.state))
    digest = reason_digest("because", salt=SALT)
    facts: dict[str, Any] = {
        "at": life.now,
        "by": ARBITER,
        "verdict": Verdict.SPLIT,
        "buyer_share_bp": 3_000,
        "reason": Sealed("because"),
        "reason_salt": Sealed(SALT),
        "signed": Signed(key=by.public, signature=by.sign(said), reason_digest=digest),
    }
    return life.when(c.ResolveDispute(**(facts | changes))).then_among(e.DisputeDecided)


# -- the statement ---------------------------------------------------------------------------------------------


def test_a_statement_is_written_one_way_for_ever() -> None:
    said = statement(
        terms(), case_id=CaseId("case_1"), verdict=Verdict.SPLIT, buyer_share_bp=3_000, reason_digest="ab" * 32
    )
    assert statement_bytes(said).decode() == (
        "thirdkey decision 1\n"
        '{"escrow_id":"esc_1","order_id":"order-1","case_id":"case_1","buyer_id":"alice","vendor_id":"bob",'
        f'"arbiter_id":"judy","terms_sha256":"{terms().digest()}","decision":"split","buyer_share_bp":3000,'
        f'"fee_atomic":{arbiter_fee(terms())},"reason_sha256":"{"ab" * 32}"}}'
    )


def test_a_reason_is_named_by_a_digest_that_only_its_salt_leads_to() -> None:
    assert reason_digest("because", salt=SALT) == hashlib.sha256(f"{SALT}because".encode()).hexdigest()
    assert len({new_salt() for _ in range(100)}) == 100
    assert {len(new_salt()) for _ in range(10)} == {32}


def test_a_party_proves_a_decision_from_what_the_case_shows_alone() -> None:
    (row,) = disputes(standing_of(ruled(before())))
    assert row.statement is not None and row.signing_key is not None and row.signature is not None
    assert verified(row.signing_key, row.statement.encode(), signature=row.signature)
    said = msgspec.json.decode(row.statement.partition("\n")[2])
    assert said["reason_sha256"] == reason_digest("because", salt=SALT)


# -- signing ---------------------------------------------------------------------------------------------------


def meant(**changes: Any) -> Decision:
    facts = {"verdict": Verdict.REFUND, "buyer_share_bp": None, "reason": "It was empty.", "salt": SALT}
    return Decision(**(facts | changes))


def held_elsewhere(life: Life) -> Escrow:
    """The same escrow with an arbiter who brought a wallet and a key."""
    core = life.state.core
    relayed = msgspec.structs.replace(core.terms, seats=core.terms.seats | {Role.ARBITER: SeatKind.RELAY})
    return msgspec.structs.replace(life.state, core=msgspec.structs.replace(core, terms=relayed))


async def hosted(vault: Vault, life: Life, *, seed: bytes = bytes(32)) -> Escrow:
    """The same escrow with the seed of the arbiter's key sealed beside it."""
    core = life.state.core
    secrets = WalletSecrets(file="w", password="p", identity_seed=seed.hex())
    sealed = await EscrowSecrets(vault, core.terms.escrow_id).seal_wallet(Role.ARBITER, secrets)
    seat = msgspec.structs.replace(core.seats[Role.ARBITER], secrets=sealed)
    core = msgspec.structs.replace(core, seats=core.seats | {Role.ARBITER: seat})
    return msgspec.structs.replace(life.state, core=core)


async def test_a_hosted_seats_decision_is_signed_with_the_key_of_its_seat() -> None:
    vault = memory_store(partitions=1).vault
    state = await hosted(vault, before())
    signed = await sign_decision(vault, state, meant(), signature=None)
    assert signed.key == ARBITERS.public
    assert verified(signed.key, statement_bytes(meant().statement(state)), signature=signed.signature)


async def test_a_seed_that_does_not_fit_its_seat_signs_nothing() -> None:
    vault = memory_store(partitions=1).vault
    state = await hosted(vault, before(), seed=bytes([9]) * 32)
    with pytest.raises(Refusal, match="signature_invalid"):
        await sign_decision(vault, state, meant(), signature=None)


async def test_an_arbiter_with_a_key_of_its_own_signs_itself() -> None:
    vault, state = memory_store(partitions=1).vault, held_elsewhere(before())
    with pytest.raises(Refusal, match="signature_required"):
        await sign_decision(vault, state, meant(), signature=None)
    said = statement_bytes(meant().statement(state))
    signed = await sign_decision(vault, state, meant(), signature=ARBITERS.sign(said))
    assert (signed.key, signed.reason_digest) == (ARBITERS.public, reason_digest("It was empty.", salt=SALT))
    with pytest.raises(Refusal, match="signature_invalid"):
        await sign_decision(vault, state, meant(), signature=OTHERS.sign(said))


@pytest.mark.parametrize(
    "other",
    [
        {"verdict": Verdict.RELEASE},
        {"verdict": Verdict.SPLIT, "buyer_share_bp": 1},
        {"reason": "It was full."},
        {"salt": "11" * 16},
    ],
)
async def test_a_signature_is_for_one_decision_alone(other: dict[str, Any]) -> None:
    vault, state = memory_store(partitions=1).vault, held_elsewhere(before())
    signature = ARBITERS.sign(statement_bytes(meant().statement(state)))
    with pytest.raises(Refusal, match="signature_invalid"):
        await sign_decision(vault, state, meant(**other), signature=signature)


# -- found by whoever checks -----------------------------------------------------------------------------------


def findings(events: list[Recorded]) -> list[str]:
    check = StreamCheck("esc_1")
    return [says for each in events for says in check.take(each) if "decision" in says]


def rewritten(life: Life, **changes: Any) -> list[Recorded]:
    """The log of a life in which somebody who can write anything changed the decision."""
    life.events[:] = [
        msgspec.structs.replace(each, **changes) if isinstance(each, e.DisputeDecided) else each for each in life.events
    ]
    return recorded(life)


def test_a_signed_decision_is_right() -> None:
    life = ruled(before())
    assert decision_holds(life.state)
    assert findings(recorded(life)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": Verdict.REFUND},
        {"buyer_share_bp": 3_001},
        {"fee_atomic": Atomic(1)},
        {"signed": Signed(key=OTHERS.public, signature="00" * 64, reason_digest="ab" * 32)},
        {"signed": Signed(key=ARBITERS.public, signature="00" * 64, reason_digest=reason_digest("because", salt=SALT))},
    ],
)
def test_a_changed_decision_is_found(changes: dict[str, Any]) -> None:
    assert findings(rewritten(ruled(before()), **changes)) == [
        "the decision is not the one that the arbiter's key signed"
    ]


def test_a_decision_that_somebody_else_signed_anew_is_found() -> None:
    assert findings(recorded(ruled(before(), by=OTHERS))) == [
        "the decision is not the one that the arbiter's key signed"
    ]


def test_a_decision_without_its_signature_is_found_unless_its_escrow_is_older_than_signatures() -> None:
    events = rewritten(ruled(before()), signed=None)
    assert findings(events) == ["the decision is not signed"]
    posing = older(events, "dispute_decided", 1, ("signed", "reason_salt"))
    assert findings(posing) == ["the decision is not signed"]
    assert findings(older(posing, "escrow_created", 2, ("draw",))) == []
    assert not decision_holds(ruled(before(), signed=None).state)


def older(events: list[Recorded], type: str, version: int, without: tuple[str, ...]) -> list[Recorded]:
    """The same log with events of a type as an earlier version wrote them."""
    return [
        msgspec.structs.replace(each, schema_version=version, body=_without(each.body, without))
        if each.type == type
        else each
        for each in events
    ]


def _without(body: bytes, names: tuple[str, ...]) -> bytes:
    fields = msgspec.json.decode(body)
    return msgspec.json.encode({name: fields[name] for name in fields if name not in names})
