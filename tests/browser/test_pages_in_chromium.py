"""The pages in a real browser, on a service whose wallets and chain are played by hand."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from actors.identity import Identity
from domain.roles import Role
from service.auth import Right
from tests.browser.chromium import DESKTOP, NEEDS_CHROMIUM, PHONE, Watched, chromium, kept, watched
from tests.evidence_world import lay
from tests.given import ARBITER, BUYER, VENDOR
from tests.own_key_world import disputed_with_own_key
from tests.page_world import Site
from tests.patience import PATIENCE_S
from tests.pictures import jpeg
from tests.sim_world import until_true
from tests.worlds import house_world, identity_seed

pytestmark = [NEEDS_CHROMIUM, pytest.mark.xdist_group("browser")]

HOSTILE = '<script>alert(1)</script><img src="//evil.example/x" onerror="alert(2)"><style>*{display:none}</style>'
LOOKS: tuple[tuple[Literal["light", "dark"], tuple[int, int]], ...] = (("light", DESKTOP), ("dark", PHONE))
SERIOUS = ("serious", "critical")
expect.set_options(timeout=PATIENCE_S * 1000)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with house_world(page_wait_s=2) as world, Site(world) as site:
        yield site


async def disputed(site: Site, *, text: str = "The box was empty.") -> tuple[str, str]:
    """Opens a case in which all three have spoken; its escrow and its id."""
    escrow_id = await site.world.funded()
    _, opened = await site.world.ask("POST", "/api/disputes/open", {"escrow_id": escrow_id, "claim": text})
    case_id = opened["case_id"]
    for user in (BUYER, VENDOR, ARBITER):
        await say(site, case_id, text, user=user)
    return escrow_id, case_id


async def say(site: Site, case_id: str, text: str, *, user: str) -> None:
    status, _ = await site.world.ask("POST", "/api/disputes/messages", {"case_id": case_id, "message": text}, user=user)
    assert status == 200


@asynccontextmanager
async def one(site: Site, **options: object) -> AsyncIterator[Watched]:
    """One person's browser, checked at the end."""
    async with chromium() as browser, watched(browser, site.url, **options) as person:  # type: ignore[arg-type]
        yield person
        person.check()


# -- everybody can use them ------------------------------------------------------------------------------------


async def accessible(page: Page, name: str) -> list[str]:
    """Lists what axe finds serious or critical on a page."""
    found = (await Axe().run(page)).response["violations"]
    await kept(page, name)
    return [f"{name}: {each['id']} {each['nodes'][0]['html']}" for each in found if each["impact"] in SERIOUS]


@pytest.mark.timeout(900)
async def test_axe_finds_nothing_serious_on_any_page_light_or_dark_wide_or_narrow(site: Site) -> None:
    (_, under_review), (decided, paid) = await disputed(site), await disputed(site)
    decision = {"case_id": paid, "decision": "split", "buyer_share_bp": 7_000, "reason": "Both bear a part of it."}
    assert (await site.world.ask("POST", "/api/disputes/resolve", decision, user=ARBITER))[0] == 200
    await site.world.sign(decided, proposer=Role.BUYER, cosigner=Role.ARBITER)
    await site.world.make_final(decided)
    assert (await lay(site.world, under_review))[0] == 200
    funded = await site.world.funded()
    _, own_key = await disputed_with_own_key(site.world)
    serious: list[str] = []
    async with AsyncExitStack() as stack:
        browser = await stack.enter_async_context(chromium())
        for scheme, size in LOOKS:
            mark = f"{scheme}-{size[0]}"
            arbiter, buyer = [
                await stack.enter_async_context(watched(browser, site.url, scheme=scheme, size=size)) for _ in range(2)
            ]
            page = await buyer.page()
            await page.goto(f"{site.url}/login")
            serious += await accessible(page, f"login-{mark}")
            page = await buyer.logged_in(site.code(BUYER))
            serious += await accessible(page, f"own-{mark}")
            for name, path in (
                ("party", f"/cases/{under_review}"),
                ("open", f"/escrows/{funded}/dispute"),
                ("404", "/cases/x"),
            ):
                await page.goto(site.url + path)
                serious += await accessible(page, f"{name}-{mark}")
            page = await arbiter.logged_in(site.world.token(ARBITER, Right.ARBITER))
            serious += await accessible(page, f"list-{mark}")
            await page.goto(f"{site.url}/arbiter/disputes/{paid}")
            serious += await accessible(page, f"paid-{mark}")
            await page.goto(f"{site.url}/arbiter/disputes/{under_review}")
            serious += await accessible(page, f"case-{mark}")
            await look_once_more(page)
            serious += await accessible(page, f"confirm-{mark}")
            await page.goto(f"{site.url}/arbiter/disputes/{own_key}")
            await look_once_more(page)
            serious += await accessible(page, f"sign-{mark}")
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            for person in (arbiter, buyer):
                person.check()
    assert serious == []


async def look_once_more(page: Page) -> None:
    """Fills in a decision and asks for its confirmation."""
    await page.get_by_label("Split between the two").check()
    await page.get_by_label("Buyer’s share of a split").fill("62.5")
    await page.get_by_label("Reason").fill("Both bear a part of it.")
    await page.get_by_role("button", name="Look at it once more").click()
    await page.get_by_role("heading", name="Confirm your decision").wait_for()


async def test_a_message_is_sent_with_the_keyboard_alone(site: Site) -> None:
    _, case_id = await disputed(site)
    async with one(site) as person:
        page = await person.page()
        await page.goto(f"{site.url}/login")
        await until_focused(page, "secret")
        await page.keyboard.type(site.code(BUYER))
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="My cases").wait_for()
        await until_focused(page, f"case-esc_{case_id.removeprefix('case_')}")
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Conversation").wait_for()
        await until_focused(page, "message")
        await page.keyboard.type("Typed, not clicked.")
        await until_focused(page, "send")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("log")).to_contain_text("Typed, not clicked.")


async def test_pictures_are_shown_and_larger_on_a_click(site: Site) -> None:
    _, case_id = await disputed(site)
    async with one(site, size=PHONE) as person:
        page = await person.logged_in(site.code(BUYER), onward=f"/cases/{case_id}")
        for number in range(4):
            await page.get_by_label("Add a picture").set_input_files(
                {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": jpeg(seed=number)}
            )
            await page.get_by_label("What it shows").fill(f"Side {number}")
            await page.get_by_role("button", name="Upload").click()
            await page.get_by_role("button", name=f"Side {number}").wait_for()
        for number in range(4):
            picture = page.get_by_role("img", name=f"Side {number}").first
            await picture.scroll_into_view_if_needed()
            await expect(picture).to_have_js_property("naturalWidth", 40)
        await page.get_by_role("button", name="Side 2").click()
        large = page.get_by_role("dialog", name="Side 2")
        await expect(large).to_be_visible()
        await expect(large).to_contain_text("SHA-256")
        await page.keyboard.press("Escape")
        await expect(large).not_to_be_visible()


async def until_focused(page: Page, id: str) -> None:
    """Presses the tabulator key until an element has the focus, which must be visible then."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.id") == id:
            outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid"
            return
    raise AssertionError(f"{id} is not reached")


# -- nothing gets in, nothing gets out --------------------------------------------------------------------------


async def test_what_others_wrote_runs_nothing_and_asks_nobody(site: Site) -> None:
    _, case_id = await disputed(site, text=HOSTILE)
    async with one(site) as person:
        page = await person.logged_in(site.world.token(ARBITER, Right.ARBITER), onward=f"/arbiter/disputes/{case_id}")
        assert await page.get_by_text(HOSTILE, exact=True).count() == 4
        await say(site, case_id, f"{HOSTILE} again", user=VENDOR)  # comes by script
        await page.get_by_text(f"{HOSTILE} again", exact=True).wait_for()
        await page.get_by_label("Refund to the buyer").check()
        await page.get_by_label("Reason").fill(HOSTILE)
        await page.get_by_role("button", name="Look at it once more").click()
        await page.get_by_role("heading", name="Confirm your decision").wait_for()
        assert await page.get_by_text(HOSTILE, exact=True).is_visible()
        assert await page.locator("img[src*=evil], main script, main style").count() == 0


async def test_the_policy_stops_what_is_not_ours(site: Site) -> None:
    async with chromium() as browser, watched(browser, site.url) as person:
        page = await person.page()
        await page.goto(f"{site.url}/login")
        await page.evaluate("""
            const script = document.createElement("script");
            script.textContent = "document.title = 'ran'";
            document.body.append(script);
            document.body.setAttribute("style", "display: none");
        """)
        await page.evaluate("fetch('http://127.0.0.1:9/').catch(() => {})")
        assert await page.title() == "Log in · Thirdkey"
        stopped = {"policy: script-src-elem", "policy: style-src-attr", "policy: connect-src"}
        await until_true(lambda: stopped <= set(person.complaints))  # the console comes behind


# -- live ------------------------------------------------------------------------------------------------------


async def test_a_page_shows_what_is_new_and_leaves_alone_what_is_being_typed(site: Site) -> None:
    escrow_id, case_id = await disputed(site)
    async with one(site) as person:
        page = await person.logged_in(site.code(BUYER), onward=f"/cases/{case_id}")
        message = page.get_by_label("Write to the two others")
        await message.fill("Half a senten")
        await say(site, case_id, "News", user=VENDOR)
        await page.get_by_text("News", exact=True).wait_for()
        decision = {"case_id": case_id, "decision": "refund", "reason": "It was empty."}
        assert (await site.world.ask("POST", "/api/disputes/resolve", decision, user=ARBITER))[0] == 200
        await page.get_by_text("It was empty.", exact=True).wait_for()
        await site.world.sign(escrow_id, proposer=Role.BUYER, cosigner=Role.ARBITER)
        await site.world.make_final(escrow_id)
        await expect(page.locator("#head")).to_contain_text("Resolved")
        await expect(message).to_have_value("Half a senten")


async def test_everything_works_without_script(site: Site) -> None:
    _, case_id = await disputed(site)
    async with one(site, java_script_enabled=False) as person:
        page = await person.page()
        await page.goto(f"{site.url}/cases/{case_id}")
        await page.get_by_label("Your one-time link").fill(f"{site.url}/login#{site.code(VENDOR)}")
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_label("Your claim").fill("It was full.")
        await page.get_by_role("button", name="Send the claim").click()
        await expect(page.locator("#claims")).to_contain_text("It was full.")
        await page.get_by_label("Write to the two others").fill("Without script")
        await page.get_by_role("button", name="Send", exact=True).click()
        await expect(page.get_by_role("log")).to_contain_text("Without script")
        await say(site, case_id, "News", user=BUYER)
        await page.get_by_role("link", name="Load it again").click()
        await page.get_by_text("News", exact=True).wait_for()


async def test_an_arbiter_with_a_key_of_its_own_signs_what_it_copied_without_script(site: Site) -> None:
    _, case_id = await disputed_with_own_key(site.world)
    async with one(site, java_script_enabled=False, size=PHONE) as person:
        page = await person.page()
        await page.goto(f"{site.url}/login?next=/arbiter/disputes/{case_id}")
        await page.get_by_label("Your one-time link").fill(site.world.token(ARBITER))
        await page.get_by_role("button", name="Log in").click()
        await look_once_more(page)
        statement, signature = page.get_by_label("Statement"), page.get_by_label("Signature")
        copied = await statement.input_value()
        await signature.fill("00" * 64)
        await page.get_by_role("button", name="Decide for good").click()
        await expect(page.get_by_role("alert")).to_contain_text("not over this decision")
        await expect(signature).to_have_value("00" * 64)
        assert await statement.input_value() == copied
        await signature.fill(Identity(identity_seed(Role.ARBITER)).sign(copied.encode()))
        await page.get_by_role("button", name="Decide for good").click()
        await expect(page.locator("#decision")).to_contain_text("Signed by the arbiter’s key")
