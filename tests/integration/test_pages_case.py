"""The pages of a case: what each of the three sees and does there, by the same rules as through the API."""

import asyncio
import re
from collections.abc import AsyncIterator
from html import unescape

import msgspec
import pytest

from domain.chain import ChainView
from domain.ids import OneTimeKey
from domain.roles import Role
from service.auth import Right
from service.pages import cases
from tests.given import AMOUNT, ARBITER, BUYER, VENDOR
from tests.page_world import Site, Visit
from tests.patience import PATIENCE_S
from tests.pictures import jpeg
from tests.worlds import PAYOUT_HASH, deposit, house_world

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)"> \'"&amp; {{ 7*7 }} </textarea>'
CLAIM = "An empty box."


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with house_world() as world, Site(world) as site:
        yield site


async def disputed(site: Site, *, claim: str = CLAIM) -> tuple[str, str]:
    """Opens a case of alice's; its escrow and its id."""
    escrow_id = await site.world.funded()
    _, opened = await site.world.ask("POST", "/api/disputes/open", {"escrow_id": escrow_id, "claim": claim})
    return escrow_id, opened["case_id"]


async def decide(visit: Visit, case_id: str, **fields: str) -> str:
    """Decides on the pages: the form, the confirmation, the confirmed form."""
    path = f"/arbiter/disputes/{case_id}"
    await visit.get(path)
    await visit.post(f"{path}/confirm", fields)
    return await visit.post(f"{path}/decide", fields) if visit.status == 200 else visit.text


# -- what is shown ---------------------------------------------------------------------------------------------


async def test_an_arbiter_finds_its_cases_in_a_list_with_filters(site: Site) -> None:
    (_, one), (_, two) = await disputed(site), await disputed(site)
    visit = await site.visit(ARBITER, Right.ARBITER)
    text = await visit.get(f"/arbiter/disputes/{one}")
    await visit.post(f"/arbiter/disputes/{one}/review", {})
    text = await visit.get("/arbiter/disputes")
    assert text.index(f"/arbiter/disputes/{two}") < text.index(f"/arbiter/disputes/{one}")
    for query, there, missing in (("status=open", two, one), ("status=under_review", one, two), (f"q={one}", one, two)):
        text = await visit.get(f"/arbiter/disputes?{query}")
        assert f"/arbiter/disputes/{there}" in text and f"/arbiter/disputes/{missing}" not in text
    await visit.get("/arbiter/disputes?status=other")
    assert visit.status == 422


async def test_each_of_the_three_has_a_page_at_the_address_of_their_role(site: Site) -> None:
    _, case_id = await disputed(site)
    for user, path in ((BUYER, "/cases/"), (VENDOR, "/cases/"), (ARBITER, "/arbiter/disputes/")):
        visit = await site.visit(user)
        for asked in ("/cases/", "/arbiter/disputes/"):
            where = await visit.get(asked + case_id)
            assert (visit.status, CLAIM in where) == (200, True) if asked == path else (303, path + case_id)


@pytest.mark.parametrize("rights", [(), (Right.ADMIN,), (Right.ARBITER,)])
async def test_to_all_others_a_case_has_no_page_and_no_form(site: Site, rights: tuple[Right, ...]) -> None:
    escrow_id, case_id = await disputed(site)
    version = await site.world.version(escrow_id)
    visit = await site.visit("mallory", *rights)
    for base in ("/cases/", "/arbiter/disputes/"):
        assert CLAIM not in await visit.get(base + case_id)
        assert visit.status == 404
    fields = {"claim": "x", "message": "x", "reason": "x", "decision": "refund", "key": "k"}
    for form in ("/answer", "/messages", "/review", "/confirm", "/decide"):
        for base in ("/cases/", "/arbiter/disputes/"):
            await visit.get("/cases")
            await visit.post(base + case_id + form, fields)
            assert visit.status in (404, 405), (form, visit.text)
    await visit.post(f"/escrows/{escrow_id}/dispute", fields)
    assert visit.status == 404
    assert await site.world.version(escrow_id) == version


async def test_what_people_wrote_is_shown_as_text_wherever_it_is_shown(site: Site) -> None:
    _, case_id = await disputed(site, claim=HOSTILE)
    await site.world.ask("POST", "/api/disputes/vendor-response", {"case_id": case_id, "claim": HOSTILE}, user=VENDOR)
    await site.world.ask("POST", "/api/disputes/messages", {"case_id": case_id, "message": HOSTILE}, user=VENDOR)
    visit = await site.visit(ARBITER, Right.ARBITER)
    text = await visit.get(f"/arbiter/disputes/{case_id}")
    assert unescape(text).count(HOSTILE) == 3
    decision = {"decision": "split", "share": "x", "reason": HOSTILE}
    text += await visit.post(f"/arbiter/disputes/{case_id}/confirm", decision)  # refused, and drawn again
    assert visit.status == 422
    text += await visit.post(f"/arbiter/disputes/{case_id}/confirm", decision | {"share": "10"})
    await visit.post(f"/arbiter/disputes/{case_id}/decide", decision | {"share": "10"})
    text += await visit.get(f"/arbiter/disputes/{case_id}")
    assert HOSTILE not in text
    assert "<script>alert" not in text and "<img src=x" not in text and 'onerror="' not in text


async def test_a_page_shows_what_each_decision_would_pay_to_the_atomic_unit(site: Site) -> None:
    _, case_id = await disputed(site)
    text = await (await site.visit(BUYER)).get(f"/cases/{case_id}")
    fee = AMOUNT // 50
    rows = re.findall(r'<th scope="row">([^<]+)</th>((?:<td class="num">[^<]+</td>){3})', text)
    told = {name: re.findall(r">([^<]+)</td>", cells) for name, cells in rows}
    assert AMOUNT - fee == 1_960_000_000_000
    assert told["Release to the vendor"] == ["0", "1.9600", "0.0400"]
    assert told["Refund to the buyer"] == ["1.9600", "0", "0.0400"]
    assert told["Split, 50 % each"] == ["0.9800", "0.9800", "0.0400"]


async def test_a_page_tells_the_life_of_the_escrow_and_how_it_was_paid(site: Site) -> None:
    escrow_id, case_id = await disputed(site)
    visit = await site.visit(ARBITER, Right.ARBITER)
    assert await decide(visit, case_id, decision="refund", reason="It was empty.") == (
        f"/arbiter/disputes/{case_id}#decision"
    )
    text = await visit.get(f"/arbiter/disputes/{case_id}")
    assert "Waiting for the buyer to propose the transaction." in text
    await site.world.sign(escrow_id, proposer=Role.BUYER, cosigner=Role.ARBITER)
    await site.world.make_final(escrow_id)
    for user in (BUYER, VENDOR, ARBITER):
        text = await (await site.visit(user)).get(("/arbiter/disputes/" if user == ARBITER else "/cases/") + case_id)
        assert "Resolved" in text and PAYOUT_HASH in text and "It was empty." in text
        assert "Opened the dispute with a claim." in text and "Decided: refund." in text
        assert not re.search(r'href="https?://', text)
        assert "Send" not in re.findall(r"<button[^>]*>([^<]+)<", text)


async def test_an_assistant_reads_what_the_arbiter_reads_and_can_only_take_notes(site: Site) -> None:
    _, case_id = await disputed(site)
    path = f"/arbiter/disputes/{case_id}"
    ann = await site.visit("ann", Right.ASSISTANT)
    await ann.get(path)
    assert ann.status == 404
    named = {"assistant": "ann"}
    assert (await site.world.ask("POST", "/api/arbiters/assistants", named, user=ARBITER))[0] == 200
    assert path in await ann.get(f"/arbiter/disputes?arbiter_id={ARBITER}")
    text = await ann.get(path)
    assert CLAIM in text
    assert set(re.findall(r'<form[^>]+action="([^"]+)"', text)) == {"/logout", f"{path}/drafts"}
    assert await ann.post(f"{path}/drafts", {"draft": f"A note {HOSTILE}"}) == f"{path}#drafts-title"
    arbiter, buyer = await site.visit(ARBITER), await site.visit(BUYER)
    assert f"A note {HOSTILE}" in unescape(await arbiter.get(path))
    assert "A note" not in await buyer.get(f"/cases/{case_id}")
    await buyer.post(path + "/drafts", {"draft": "x"})
    assert buyer.status == 404
    await ann.get(path)
    await ann.post(f"{path}/messages", {"message": "x", "key": "k"})
    assert ann.status in (403, 404)
    await ann.get(f"/arbiter/disputes?arbiter_id={BUYER}")
    assert ann.status == 403


async def test_a_long_list_comes_in_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "PAGE_MAX", 2)
    ids = [(await disputed(site))[1] for _ in range(3)]
    visit = await site.visit(ARBITER, Right.ARBITER)
    first = await visit.get("/arbiter/disputes?status=open&q=case_")
    (older,) = re.findall(r'href="([^"]+after=[^"]+)"', first)
    assert "status=open" in older and "q=case_" in older
    rest = await visit.get(unescape(older))
    shown = [re.findall(r"/arbiter/disputes/(case_[0-9a-f]{32})", text) for text in (first, rest)]
    assert shown == [[ids[2], ids[1]], [ids[0]]]


# -- what is done ----------------------------------------------------------------------------------------------


async def test_both_sides_claim_and_all_three_talk_on_their_pages(site: Site) -> None:
    escrow_id = await site.world.funded()
    buyer, vendor, arbiter = [await site.visit(user) for user in (BUYER, VENDOR, ARBITER)]
    await buyer.get(f"/escrows/{escrow_id}/dispute")
    path = await buyer.post(f"/escrows/{escrow_id}/dispute", {"claim": CLAIM})
    case_id = path.rpartition("/")[2]
    assert path == f"/cases/{case_id}"
    assert await buyer.get(f"/escrows/{escrow_id}/dispute") == path
    await vendor.get(path)
    assert await vendor.post(f"{path}/answer", {"claim": "It was full.\r\nI weighed it."}) == f"{path}#claims"
    for visit, base in ((buyer, "/cases/"), (vendor, "/cases/"), (arbiter, "/arbiter/disputes/")):
        await visit.get(base + case_id)
        assert await visit.post(f"{base}{case_id}/messages", {"message": f"Hello from {base}"}) == (
            f"{base}{case_id}#talk"
        )
    _, shown = await site.world.ask("GET", f"/api/disputes/{case_id}")
    assert (shown["case"]["vendor_claim"], shown["case"]["status"]) == ("It was full.\nI weighed it.", "under_review")
    assert [each["sender_role"] for each in shown["messages"]] == ["buyer", "vendor", "arbiter"]


async def test_a_party_lays_a_picture_before_the_arbiter_and_all_three_see_it(site: Site) -> None:
    _, case_id = await disputed(site)
    visit = await site.visit(BUYER)
    await visit.get(f"/cases/{case_id}")
    assert await visit.upload(f"/cases/{case_id}/photos", jpeg(), description="<b>The box</b>") == (
        f"/cases/{case_id}#photos-title"
    )
    for user, base in ((BUYER, "/cases/"), (VENDOR, "/cases/"), (ARBITER, "/arbiter/disputes/")):
        looking = await site.visit(user)
        text = await looking.get(base + case_id)
        assert "&lt;b&gt;The box&lt;/b&gt;" in text and "<b>The box" not in text
        (picture,) = set(re.findall(r'<img src="([^"]+/photos/[^"]+)"', text))
        async with looking.session.get(site.url + picture) as answer:
            assert (answer.status, answer.content_type) == (200, "image/jpeg")
            assert "sandbox" in answer.headers["Content-Security-Policy"]
    stranger = await site.visit("mallory")
    await stranger.get(picture)
    assert stranger.status == 404
    assert (await site.browser().get(picture)).startswith("/login")


async def test_a_picture_that_is_refused_leaves_the_case_as_it_was(site: Site) -> None:
    escrow_id, case_id = await disputed(site)
    version = await site.world.version(escrow_id)
    visit = await site.visit(BUYER)
    for content, fields, status in (
        (b"no picture", {}, 415),
        (jpeg(), {"form_token": "of another page"}, 403),
        (jpeg(), {"more": "x"}, 422),
    ):
        await visit.get(f"/cases/{case_id}")
        text = await visit.upload(f"/cases/{case_id}/photos", content, description="My words", **fields)
        assert visit.status == status, text
        assert ("My words" in text) == ("more" not in fields)
    arbiter = await site.visit(ARBITER)
    await arbiter.get(f"/arbiter/disputes/{case_id}")
    await arbiter.upload(f"/cases/{case_id}/photos", jpeg(), description="")
    assert arbiter.status == 403
    assert await site.world.version(escrow_id) == version


async def test_a_form_sent_twice_is_followed_once(site: Site) -> None:
    _, case_id = await disputed(site)
    visit = await site.visit(BUYER)
    await visit.get(f"/cases/{case_id}")
    for _ in range(2):
        assert await visit.post(f"/cases/{case_id}/messages", {"message": "Hello"}) == f"/cases/{case_id}#talk"
    _, shown = await site.world.ask("GET", f"/api/disputes/{case_id}")
    assert [each["message"] for each in shown["messages"]] == ["Hello"]


async def test_a_refused_form_comes_back_with_what_was_written(site: Site) -> None:
    _, case_id = await disputed(site)
    visit = await site.visit(BUYER)
    await visit.get(f"/cases/{case_id}")
    long = "é" * 4_001
    text = await visit.post(f"/cases/{case_id}/messages", {"message": long})
    assert (visit.status, long in text) == (422, True)
    text = await visit.post(f"/cases/{case_id}/answer", {"claim": "Once more"})
    assert (visit.status, "This step has already been done." in text) == (409, True)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"decision": "refund", "reason": ""}, 422),
        ({"decision": "refund"}, 422),
        ({"decision": "burn", "reason": "x"}, 422),
        ({"decision": "split", "share": "100.01", "reason": "x"}, 422),
        ({"decision": "split", "share": "", "reason": "x"}, 422),
        ({"decision": "refund", "reason": "x", "more": "x"}, 422),
        ({"decision": "refund", "share": "nonsense", "reason": "x"}, 200),
        ({"decision": "split", "share": "33.33 %", "reason": "x"}, 200),
    ],
)
async def test_a_decision_is_repeated_before_it_is_taken(site: Site, fields: dict[str, str], status: int) -> None:
    escrow_id, case_id = await disputed(site)
    version = await site.world.version(escrow_id)
    visit = await site.visit(ARBITER)
    await visit.get(f"/arbiter/disputes/{case_id}")
    text = await visit.post(f"/arbiter/disputes/{case_id}/confirm", fields)
    assert visit.status == status, text
    if fields.get("share") == "33.33 %":
        for amount in ("0.653268", "1.306732", "0.0400"):
            assert amount in text
    assert await site.world.version(escrow_id) == version


async def test_a_decision_that_would_pay_other_amounts_than_were_confirmed_is_confirmed_anew(site: Site) -> None:
    escrow_id, case_id = await disputed(site)
    path = f"/arbiter/disputes/{case_id}"
    visit, fields = await site.visit(ARBITER), {"decision": "release", "reason": "It was full."}
    await visit.get(path)
    assert "1.9600" in await visit.post(f"{path}/confirm", fields)
    outputs = (deposit(), msgspec.structs.replace(deposit(), one_time_key=OneTimeKey("e" * 64)))
    await site.world.tell(escrow_id, await site.world.seen(escrow_id, ChainView(height=112, outputs=outputs)))
    version = await site.world.version(escrow_id)
    text = await visit.post(f"{path}/decide", fields)
    assert (visit.status, "Nothing is decided yet" in text) == (409, True)
    assert all(amount in text for amount in ("2.0000", "1.9600", "0.0400"))
    assert await site.world.version(escrow_id) == version
    assert await visit.post(f"{path}/decide", fields) == f"{path}#decision"


@pytest.mark.parametrize("amounts", ["1 2", "1.0 2 3", "-1 2 3", "٣ 2 3", "9" * 5_000])
async def test_what_was_never_shown_confirms_nothing(site: Site, amounts: str) -> None:
    escrow_id, case_id = await disputed(site)
    path, fields = f"/arbiter/disputes/{case_id}", {"decision": "refund", "reason": "It was empty."}
    version = await site.world.version(escrow_id)
    visit = await site.visit(ARBITER)
    await visit.get(path)
    text = await visit.post(f"{path}/decide", fields | {"amounts": amounts})
    assert (visit.status, "1.9600" in text) == (409, True)
    await visit.post(f"{path}/decide", fields | {"amounts": f"{2**63} 0 0"})
    assert visit.status == 422
    assert await site.world.version(escrow_id) == version


async def test_a_decision_without_a_confirmation_is_confirmed_first(site: Site) -> None:
    escrow_id, case_id = await disputed(site)
    version = await site.world.version(escrow_id)
    visit = await site.visit(ARBITER)
    await visit.get(f"/arbiter/disputes/{case_id}")
    text = await visit.post(f"/arbiter/disputes/{case_id}/decide", {"decision": "refund", "reason": "It was empty."})
    assert (visit.status, "1.9600" in text) == (409, True)
    assert await site.world.version(escrow_id) == version


async def test_a_confirmed_decision_sent_twice_is_taken_once(site: Site) -> None:
    _, case_id = await disputed(site)
    path, fields = f"/arbiter/disputes/{case_id}", {"decision": "refund", "reason": "It was empty."}
    visit = await site.visit(ARBITER)
    await visit.get(path)
    await visit.post(f"{path}/confirm", fields)
    for _ in range(2):
        assert await visit.post(f"{path}/decide", fields) == f"{path}#decision"


async def test_a_party_decides_nothing(site: Site) -> None:
    escrow_id, case_id = await disputed(site)
    version = await site.world.version(escrow_id)
    for user in (BUYER, VENDOR):
        visit = await site.visit(user)
        await visit.get(f"/cases/{case_id}")
        for form in ("confirm", "decide", "review"):
            await visit.post(f"/arbiter/disputes/{case_id}/{form}", {"decision": "refund", "reason": "x"})
            assert visit.status in (403, 422), form
    assert await site.world.version(escrow_id) == version


async def test_a_second_decision_is_refused_with_its_reason(site: Site) -> None:
    _, case_id = await disputed(site)
    visit = await site.visit(ARBITER)
    await decide(visit, case_id, decision="refund", reason="It was empty.")
    assert "already decided" in await decide(visit, case_id, decision="release", reason="No.")
    assert visit.status == 409


async def test_a_decided_case_is_under_review_until_it_is_paid_and_says_that_it_is_decided(site: Site) -> None:
    escrow_id, case_id = await disputed(site)
    visit = await site.visit(ARBITER)
    await decide(visit, case_id, decision="refund", reason="It was empty.")
    path = f"/arbiter/disputes/{case_id}"
    for page in ("/arbiter/disputes", "/arbiter/disputes?status=under_review", path):
        text = await visit.get(page)
        assert ("Under review</span>" in text, "decided, not paid yet" in text) == (True, True), page
    await site.world.sign(escrow_id, proposer=Role.BUYER, cosigner=Role.ARBITER)
    await site.world.make_final(escrow_id)
    text = await visit.get(path)
    assert ("Resolved</span>" in text, "decided, not paid yet" in text) == (True, False)


# -- live ------------------------------------------------------------------------------------------------------


async def test_a_page_is_drawn_anew_when_its_case_has_moved(site: Site) -> None:
    escrow_id, case_id = await disputed(site)
    visit = await site.visit(BUYER)
    version = await site.world.version(escrow_id)
    waiting = asyncio.get_running_loop().create_task(visit.get(f"/cases/{case_id}?moved={version}"))
    await site.world.ask("POST", "/api/disputes/messages", {"case_id": case_id, "message": "Hello"}, user=VENDOR)
    assert "Hello" in await waiting
    assert "Hello" in await visit.get(f"/cases/{case_id}?moved={version}")


@pytest.mark.parametrize("most", [0, 1])
async def test_a_page_that_did_not_move_is_answered_with_nothing(most: int) -> None:
    async with house_world(page_wait_s=0, page_waits_max=most) as world, Site(world) as site:
        escrow_id, case_id = await disputed(site)
        visit = await site.visit(BUYER)
        version = await world.version(escrow_id)
        await visit.get(f"/cases/{case_id}?moved={version}")
        assert visit.status == 204
        for wrong in ("x", "-1", "٣", "9" * 40):
            await visit.get(f"/cases/{case_id}?moved={wrong}")
            assert visit.status == 422


async def test_a_waiting_page_holds_up_nobody_who_stops_the_service(site: Site) -> None:
    async with house_world(page_wait_s=300) as world, Site(world) as other:
        escrow_id, case_id = await disputed(other)
        visit = await other.visit(BUYER)
        version = await world.version(escrow_id)
        waiting = asyncio.get_running_loop().create_task(visit.get(f"/cases/{case_id}?moved={version}"))
        async with asyncio.timeout(PATIENCE_S):
            while not other.moves().waiting:
                await asyncio.sleep(0.01)
    assert (await waiting, visit.status) == ("", 204)
