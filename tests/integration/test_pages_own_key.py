"""The pages of an arbiter that holds the key of its seat: it decides there, and signs where its key is."""

import hashlib
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import msgspec
import pytest

from actors.clock import SystemClock
from actors.identity import Identity
from domain.chain import ChainView
from domain.ids import OneTimeKey
from domain.roles import Role
from eventstore.opening import memory_store
from service.bundle import BundleMaker
from service.commands import audit, decision
from tests.bundle_world import KEY_ID, encoded, sign, taken
from tests.given import ARBITER, BUYER
from tests.own_key_world import disputed_with_own_key, key_file, statement_on
from tests.page_world import Site, Visit
from tests.worlds import deposit, house_world, identity_seed

ARBITERS = Identity(identity_seed(Role.ARBITER))
REASON = 'It weighed 40 g.\n"Ünlike" <b>a</b> box & that\'s it.'
SPLIT = {"decision": "split", "share": "62.5", "reason": REASON}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with house_world() as world, Site(world) as site:
        yield site


async def confirming(site: Site, case_id: str, fields: dict[str, str]) -> Visit:
    """An arbiter before the confirmation of its decision."""
    visit = await site.visit(ARBITER)
    path = f"/arbiter/disputes/{case_id}"
    await visit.get(path)
    await visit.post(f"{path}/confirm", fields)
    assert visit.status == 200, visit.text
    return visit


def typed_in(page: str) -> str:
    """What stands in the field of the signature."""
    (text,) = re.findall(r'<textarea id="given-signature"[^>]*>([^<]*)</textarea>', page)
    return unescape(text)


async def decide(visit: Visit, case_id: str, **fields: str) -> str:
    """Sends the confirmation with what stands in its hidden fields, unless it is given."""
    return await visit.post(f"/arbiter/disputes/{case_id}/decide", fields)


async def test_an_arbiter_with_a_key_of_its_own_decides_on_the_pages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = memory_store(partitions=1)
    async with house_world(store=store) as world, Site(world) as site:
        escrow_id, case_id = await disputed_with_own_key(world)
        visit = await confirming(site, case_id, SPLIT)
        copied = tmp_path / "statement.txt"
        copied.write_text(statement_on(visit.text) + "\n")
        capsys.readouterr()  # what the service said meanwhile
        assert decision.sign(key_file(tmp_path), statement=copied) == 0
        said = capsys.readouterr()
        (digest,) = re.findall(r'id="statement-sha256">([0-9a-f]{64})<', visit.text)
        assert f"SHA-256 {digest}" in said.err
        assert ARBITERS.public in said.err and ARBITERS.public in visit.text
        assert await decide(visit, case_id, signature=f" {said.out}\n") == f"/arbiter/disputes/{case_id}#decision"
        _, shown = await world.ask("GET", f"/api/disputes/{case_id}")
        assert shown["case"]["signed"]["statement"] == statement_on(visit.text)
        assert (shown["case"]["buyer_share_bp"], shown["case"]["reason"]) == (6_250, REASON)
        await sign(store)
        bundle = tmp_path / "bundle.json"
        bundle.write_bytes(encoded(await taken(BundleMaker(store.log, store.heads, clock=SystemClock()), escrow_id)))
    assert audit.check(bundle, keys=[KEY_ID]) == 0
    assert f"decision: split, signed with the arbiter's key {ARBITERS.public}" in capsys.readouterr().out


async def test_what_is_signed_stands_on_the_page_and_binds_the_reason(site: Site) -> None:
    _, case_id = await disputed_with_own_key(site.world)
    visit = await confirming(site, case_id, SPLIT)
    said = msgspec.json.decode(statement_on(visit.text).partition("\n")[2])
    salt = visit.hidden()["reason_salt"]
    assert said["reason_sha256"] == hashlib.sha256(f"{salt}{REASON}".encode()).hexdigest()
    assert hashlib.sha256(statement_on(visit.text).encode()).hexdigest() in visit.text
    assert (said["decision"], said["buyer_share_bp"], said["case_id"]) == ("split", 6_250, case_id)


@pytest.mark.parametrize(
    ("signature", "says"),
    [
        ("", "its own key signs the decision"),
        (" \r\n", "its own key signs the decision"),
        ("what the command said", "Expected its 128 hex digits"),
        ("00" * 63, "Expected its 128 hex digits"),
        ("٣" * 128, "Expected its 128 hex digits"),
        ("00" * 64, "not over this decision"),
        (Identity(bytes(32)).sign(b"something else"), "not over this decision"),
        ('"><script>alert(1)</script>', "Expected its 128 hex digits"),
    ],
)
async def test_without_the_right_signature_nothing_is_decided_and_nothing_typed_is_lost(
    site: Site, signature: str, says: str
) -> None:
    escrow_id, case_id = await disputed_with_own_key(site.world)
    version = await site.world.version(escrow_id)
    visit = await confirming(site, case_id, SPLIT)
    before, statement = visit.hidden(), statement_on(visit.text)
    text = await decide(visit, case_id, signature=signature)
    assert (visit.status, says in unescape(text)) == (422, True), text
    assert "<script>alert" not in text
    assert typed_in(text) == signature.replace("\r\n", "\n")
    kept = visit.hidden()
    assert {name: kept[name] for name in kept if name != "key"} == {
        name: before[name] for name in before if name != "key"
    }
    assert statement_on(text) == statement
    assert await site.world.version(escrow_id) == version
    right = ARBITERS.sign(statement.encode())
    assert await decide(visit, case_id, signature=right) == f"/arbiter/disputes/{case_id}#decision"


@pytest.mark.parametrize(
    "changed",
    [
        {"decision": "refund"},
        {"share": "62.51"},
        {"reason": "Another one."},
        {"reason_salt": "00" * 16},
    ],
)
async def test_what_was_changed_by_hand_is_not_what_was_signed(site: Site, changed: dict[str, str]) -> None:
    escrow_id, case_id = await disputed_with_own_key(site.world)
    version = await site.world.version(escrow_id)
    visit = await confirming(site, case_id, SPLIT)
    signature = ARBITERS.sign(statement_on(visit.text).encode())
    await decide(visit, case_id, signature=signature, **changed)
    if visit.status == 409:  # first of all other amounts than were shown: they are shown, and sent once more
        await decide(visit, case_id, signature=signature)
    assert (visit.status, "not over this decision" in visit.text) == (422, True), visit.text
    assert await site.world.version(escrow_id) == version


async def test_a_salt_that_is_none_is_refused(site: Site) -> None:
    escrow_id, case_id = await disputed_with_own_key(site.world)
    version = await site.world.version(escrow_id)
    visit = await confirming(site, case_id, SPLIT)
    signature = ARBITERS.sign(statement_on(visit.text).encode())
    text = await decide(visit, case_id, signature=signature, reason_salt="x")
    assert (visit.status, REASON in unescape(text)) == (422, True)
    assert await site.world.version(escrow_id) == version


async def test_a_signature_outlasts_amounts_that_became_others(site: Site) -> None:
    escrow_id, case_id = await disputed_with_own_key(site.world)
    visit = await confirming(site, case_id, SPLIT)
    statement = statement_on(visit.text)
    signature = ARBITERS.sign(statement.encode())
    outputs = (deposit(), msgspec.structs.replace(deposit(), one_time_key=OneTimeKey("e" * 64)))
    await site.world.tell(escrow_id, await site.world.seen(escrow_id, ChainView(height=112, outputs=outputs)))
    text = await decide(visit, case_id, signature=signature)
    assert (visit.status, "Nothing is decided yet" in text) == (409, True)
    assert (statement_on(text), typed_in(text)) == (statement, signature)
    assert await decide(visit, case_id, signature=signature) == f"/arbiter/disputes/{case_id}#decision"


async def test_a_signed_decision_sent_twice_is_taken_once(site: Site) -> None:
    _, case_id = await disputed_with_own_key(site.world)
    visit = await confirming(site, case_id, SPLIT)
    signature = ARBITERS.sign(statement_on(visit.text).encode())
    for _ in range(2):
        assert await decide(visit, case_id, signature=signature) == f"/arbiter/disputes/{case_id}#decision"


async def test_a_wrong_signature_uses_up_no_form(site: Site) -> None:
    _, case_id = await disputed_with_own_key(site.world)
    visit = await confirming(site, case_id, SPLIT)
    shown, hidden = statement_on(visit.text), visit.hidden()
    await decide(visit, case_id, signature="00" * 64)
    assert visit.status == 422
    signature = ARBITERS.sign(shown.encode())  # of the page before, to which its reader went back
    assert await decide(visit, case_id, **hidden, signature=signature) == f"/arbiter/disputes/{case_id}#decision"


async def test_only_the_arbiter_is_shown_what_to_sign(site: Site) -> None:
    _, case_id = await disputed_with_own_key(site.world)
    visit = await site.visit(BUYER)
    await visit.get(f"/cases/{case_id}")
    text = await visit.post(f"/arbiter/disputes/{case_id}/confirm", SPLIT)
    assert (visit.status, "thirdkey decision 1" in text) == (403, False)


async def test_where_the_service_signs_nobody_is_asked_for_a_signature(site: Site) -> None:
    escrow_id = await site.world.funded()
    _, opened = await site.world.ask("POST", "/api/disputes/open", {"escrow_id": escrow_id, "claim": "Empty."})
    visit = await confirming(site, opened["case_id"], SPLIT)
    assert "ignature" not in visit.text and "thirdkey decision" not in visit.text
    assert "reason_salt" not in visit.hidden()
