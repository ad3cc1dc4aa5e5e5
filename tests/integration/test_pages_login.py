"""Logging in to the pages: links that are good once, sessions that every node reads, forms that are ours."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from aiohttp import CookieJar

from eventstore.memory import MemoryTables
from eventstore.opening import memory_store, open_store
from service.auth import Right, issue_login, issue_token
from tests.given import ARBITER, BUYER
from tests.page_world import Site
from tests.patience import PATIENT
from tests.worlds import World, house_world

OLD, NEW = b"\1" * 32, b"\2" * 32


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with house_world() as world, Site(world) as site:
        yield site


async def test_a_token_logs_in_and_leads_to_the_pages_of_its_bearer(site: Site) -> None:
    visit = site.browser()
    assert await visit.log_in(site.world.token(ARBITER, Right.ARBITER)) == "/arbiter/disputes"
    assert await visit.get("/login") == "/arbiter/disputes"
    other = site.browser()
    assert await other.log_in(site.world.token(BUYER)) == "/cases"
    assert BUYER in await other.get("/cases")


async def test_whoever_is_not_logged_in_comes_back_to_where_they_wanted_to_be(site: Site) -> None:
    visit = site.browser()
    assert await visit.get("/cases") == "/login?next=%2Fcases"
    assert await visit.log_in(site.code(ARBITER), onward="%2Fcases") == "/cases"
    assert (await visit.get("/login?next=%2Fcases"), visit.status) == ("/cases", 303)


@pytest.mark.parametrize("onward", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/%0d%0aX: y"])
async def test_a_login_leads_nowhere_else(site: Site, onward: str) -> None:
    visit = site.browser()
    await visit.get("/login")
    assert (
        await visit.post("/login", {"secret": site.world.token(BUYER), "next": onward.replace("%0d%0a", "\r\n")})
        == "/cases"
    )


@pytest.fixture(params=["memory", "postgres"])
async def worlds(request: pytest.FixtureRequest) -> AsyncIterator[tuple[World, World]]:
    """Two nodes of one service."""
    tables = MemoryTables(partitions=4)
    stores = [memory_store(partitions=4, tables=tables) for _ in range(2)]
    if request.param == "postgres":
        dsn = request.getfixturevalue("postgres_dsn")
        stores = [
            await open_store(dsn=dsn, encryption_key=bytes(32), partitions=4, node_id=f"n{n}", limits=PATIENT)
            for n in range(2)
        ]
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(house_world(store=stores[0]))
        issuer = one.house.settings.issuer_public_key
        yield one, await stack.enter_async_context(house_world(store=stores[1], issuer_public_key=issuer))


async def test_a_link_is_good_for_one_login_on_all_nodes_together(worlds: tuple[World, World]) -> None:
    async with Site(worlds[0]) as one, Site(worlds[1]) as two:
        code = one.code(BUYER)
        first = one.browser()
        assert await first.log_in(f"{one.url}/login#{code}") == "/cases"
        for site in (one, two):
            visit = site.browser()
            assert "used before" in await visit.log_in(code)
            assert visit.status == 401
        assert BUYER in await first.get("/cases")


async def test_a_login_whose_answer_was_lost_may_be_sent_again_from_the_same_browser(site: Site) -> None:
    visit, code = site.browser(), site.code(BUYER)
    await visit.get("/login")
    before = CookieJar(unsafe=True)
    before.update_cookies({each.key: each.value for each in visit.session.cookie_jar})
    assert await visit.post("/login", {"secret": code}) == "/cases"
    visit.session.cookie_jar.clear()
    visit.session.cookie_jar.update_cookies({each.key: each.value for each in before})
    assert await visit.post("/login", {"secret": code}) == "/cases"


async def test_a_session_made_on_one_node_is_read_by_all(worlds: tuple[World, World]) -> None:
    async with Site(worlds[0]) as one, Site(worlds[1]) as two:
        visit = await one.visit(BUYER)
        visit.site = two.url
        assert BUYER in await visit.get("/cases")


async def test_a_session_outlives_a_new_encryption_key(site: Site) -> None:
    async with house_world(store=memory_store(partitions=4, encryption_key=OLD)) as world, Site(world) as old:
        visit = await old.visit(BUYER)
        renewed = memory_store(partitions=4, encryption_key=NEW, other_keys=(OLD,))
        async with house_world(store=renewed) as other, Site(other) as new:
            visit.site = new.url
            assert BUYER in await visit.get("/cases")
        without = memory_store(partitions=4, encryption_key=NEW)
        async with house_world(store=without) as other, Site(other) as new:
            visit.site = new.url
            assert (await visit.get("/cases")).startswith("/login")


async def test_a_session_ends_with_the_token_it_was_made_with() -> None:
    async with house_world(session_s=3_600) as world, Site(world) as site:
        visit = site.browser()
        await visit.log_in(world.token(BUYER, ttl_s=120))
        (cookie,) = visit.headers.getall("Set-Cookie")
        age = re.search(r"Max-Age=(\d+)", cookie)
        assert age is not None and 0 < int(age[1]) <= 120
        for part in ("HttpOnly", "SameSite=Strict", "Path=/"):
            assert part in cookie
        assert "Secure" not in cookie  # http:// on this machine alone
        longer = site.browser()
        await longer.log_in(site.code(BUYER, session_s=100_000))
        assert "Max-Age=3600" in longer.headers["Set-Cookie"]


async def test_a_session_that_has_ended_is_none(site: Site) -> None:
    visit = site.browser()
    now = int(time.time())
    await visit.log_in(issue_token(site.world.issuer, sub=BUYER, ttl_s=2, now_s=now))
    until = now + 2
    while time.time() <= until:
        await asyncio.sleep(0.1)
    assert (await visit.get("/cases")).startswith("/login")


async def test_behind_https_the_cookie_is_secure_and_bound_to_its_host() -> None:
    async with house_world(public_url="https://escrow.example") as world, Site(world) as site:
        visit = site.browser()
        await visit.get("/login")
        cookie = visit.headers["Set-Cookie"]
        assert cookie.startswith("__Host-thirdkey=")
        assert "Secure" in cookie


async def test_logging_out_ends_the_session_of_this_browser(site: Site) -> None:
    visit = await site.visit(BUYER)
    await visit.get("/cases")
    assert await visit.post("/logout", {}) == "/login"
    assert (await visit.get("/cases")).startswith("/login")


@pytest.mark.parametrize("secret", ["", "x", "a.b.c", "#", "é", "x" * 9_000])
async def test_what_proves_nothing_is_refused_and_never_repeated(site: Site, secret: str) -> None:
    visit = site.browser()
    text = await visit.log_in(secret)
    assert visit.status == 401
    assert "x" * 9_000 not in text
    assert "a.b.c" not in text


async def test_a_login_code_is_no_bearer_token_and_lives_for_a_short_time(site: Site) -> None:
    headers = {"Authorization": f"Bearer {site.code(BUYER)}"}
    status, problem = await site.world.ask("GET", "/api/escrows", user=None, headers=headers)
    assert (status, problem["code"]) == (401, "token_invalid")
    now = int(time.time())
    old = issue_login(site.world.issuer, sub=BUYER, ttl_s=10, session_s=60, now_s=now - 11)
    assert "expired" in await site.browser().log_in(old)


async def test_too_many_failures_are_told_to_wait_and_a_right_token_is_let_in_all_the_same() -> None:
    async with house_world(login_failures_max=2) as world, Site(world) as site:
        visit = site.browser()
        # Three in one minute are certain among so many, wherever the minute ends.
        statuses = set()
        for _ in range(6):
            await visit.log_in("wrong")
            statuses.add(visit.status)
        assert statuses == {401, 429}
        assert int(visit.headers["Retry-After"]) == 60
        assert await visit.log_in(world.token(BUYER)) == "/cases"


# -- forms -----------------------------------------------------------------------------------------------------


async def test_a_form_without_the_token_of_its_session_does_nothing(site: Site) -> None:
    visit, other = await site.visit(BUYER), await site.visit(ARBITER)
    await other.get("/cases")
    for fields in ({}, {"form_token": ""}, {"form_token": "é"}, {"form_token": other.hidden()["form_token"]}):
        await visit.post("/logout", fields, hidden=False)
        assert visit.status == 403
    assert BUYER in await visit.get("/cases")


async def test_a_form_sent_by_another_site_does_nothing(site: Site) -> None:
    visit = await site.visit(BUYER)
    await visit.get("/cases")
    for sender in ("cross-site", "same-site"):
        await visit.post("/logout", {}, Sec_Fetch_Site=sender)
        assert visit.status == 403
    assert await visit.post("/logout", {}, Sec_Fetch_Site="same-origin") == "/login"


async def test_a_login_gives_a_new_form_token(site: Site) -> None:
    visit = site.browser()
    await visit.get("/login")
    before = visit.hidden()["form_token"]
    await visit.post("/login", {"secret": site.world.token(BUYER)})
    await visit.get("/cases")
    assert visit.hidden()["form_token"] != before


async def test_a_link_followed_from_elsewhere_is_asked_for_again_from_here(site: Site) -> None:
    visit = site.browser()
    text = await visit.get("/cases?a=%22%3E", Sec_Fetch_Site="cross-site")
    assert (visit.status, 'url=/cases?a=%22%3E"' in text) == (200, True)


async def test_a_form_that_is_none_is_refused(site: Site) -> None:
    visit = await site.visit(BUYER)
    await visit.get("/cases")
    async with visit.session.post(site.url + "/logout", json={}) as answer:
        assert (answer.status, answer.content_type) == (415, "text/html")
    twice = b"form_token=a&form_token=b"
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    async with visit.session.post(site.url + "/logout", data=twice, headers=kind) as answer:
        assert answer.status == 400
    async with visit.session.post(site.url + "/logout", data=b"a=" + b"x" * 70_000, headers=kind) as answer:
        assert answer.status == 413


PART = b'--B\r\nContent-Disposition: form-data; name="form_token"\r\n'
URLENCODED = "application/x-www-form-urlencoded; charset="


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data; boundary=B", b"--B\r\n:::\r\n\r\na\r\n--B--\r\n"),
        ("multipart/form-data; boundary=B", PART + b"Content-Type: text/plain; charset=none\r\n\r\na\r\n--B--\r\n"),
        ("multipart/form-data; boundary=B", PART + b"Content-Transfer-Encoding: none\r\n\r\na\r\n--B--\r\n"),
        (URLENCODED + "none", b"form_token=a"),
        (URLENCODED + "base64", b"form_token=a"),
        (URLENCODED + "utf-7", b"form_token=+2AA-"),
    ],
)
async def test_a_form_that_nobody_can_read_is_its_senders_fault(site: Site, kind: str, body: bytes) -> None:
    visit = site.browser()
    async with visit.session.post(site.url + "/login", data=body, headers={"Content-Type": kind}) as answer:
        assert (answer.status, answer.content_type) == (400, "text/html")


async def test_a_cookie_of_bytes_that_are_no_text_is_none_of_ours(site: Site) -> None:
    host, port = site.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /login HTTP/1.1\r\nHost: a\r\nCookie: thirdkey=\xff\xfe\r\nConnection: close\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()


async def test_every_page_forbids_what_it_does_not_need(site: Site) -> None:
    visit = await site.visit(BUYER)
    for path in ("/login", "/cases", "/cases/case_" + "0" * 32, "/arbiter/disputes", "/static/thirdkey.css"):
        await visit.get(path)
        policy = visit.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy and "http" not in policy and "*" not in policy
        assert "frame-ancestors 'none'" in policy and "form-action 'self'" in policy
        assert (visit.headers["X-Frame-Options"], visit.headers["Referrer-Policy"]) == ("DENY", "no-referrer")
        assert visit.headers["X-Content-Type-Options"] == "nosniff"
        assert path.startswith("/static") or visit.headers["Cache-Control"] == "no-store"
