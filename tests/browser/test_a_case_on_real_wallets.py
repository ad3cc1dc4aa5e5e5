"""A whole case in chromium, on real wallets and a private chain: from the list of an arbiter to the paid resolution."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import FilePayload, Page, expect

from domain.ids import Address, TxHash, UserId
from domain.roles import THREE, Role
from ops.regtest.chain import FunderWallet, RegtestChain
from service.auth import issue_login, issue_token
from service.commands.serve import Running
from service.commands.stage import Person, service_process
from service.keys import issuer_key
from service.settings import Settings
from tests.browser.chromium import NEEDS_CHROMIUM, PHONE, chromium, kept, watched
from tests.pictures import jpeg
from tests.real_world import RichChain, funder_running, paid_by

pytestmark = [NEEDS_CHROMIUM, pytest.mark.timeout(1200), pytest.mark.xdist_group("real")]

NAMES = {Role.BUYER: "alice", Role.VENDOR: "bob", Role.ARBITER: "judy"}
AMOUNT = 500_000_000_000
FEE = AMOUNT // 50
STEP_S = 300.0
ENVIRONMENT = {
    "SERVER_PORT": "0",
    "METRICS_PORT": "0",
    "ARBITER_USER_ID": NAMES[Role.ARBITER],
    "FEE_SETTLEMENT": "single",
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The service, the world outside it, and what the three do beside their pages."""

    home: Path
    where: Running
    rich: RichChain
    funder: FunderWallet
    chain: RegtestChain
    people: Mapping[Role, Person]

    async def funded(self) -> str:
        """Brings an escrow to where the buyer waits for the parcel."""
        buyer = self.people[Role.BUYER]
        order = {"order_id": "order-2026-1107", "buyer_id": NAMES[Role.BUYER], "vendor_id": NAMES[Role.VENDOR]}
        created = await buyer.post("/api/escrows", order | {"amount": AMOUNT})
        path = f"/api/escrows/{created['escrow_id']}"
        for role, person in self.people.items():
            await person.put(f"{path}/payout-address", {"address": self.rich.receivers[role]})
        facts = await self.until(path, lambda facts: facts["payin_address"] is not None)
        await self.funder.refresh()
        await self.funder.pay(Address(facts["payin_address"]), AMOUNT)
        await self.until(path, lambda facts: facts["chain"]["deposits"])
        await self.until(path, lambda facts: facts["state"] == "funded" and facts["chain"]["signable"], mining=True)
        await self.people[Role.VENDOR].post(f"{path}/ship")
        return str(created["escrow_id"])

    async def until(self, path: str, there: Any, *, mining: bool = False) -> dict[str, Any]:
        """Waits until an escrow is as it should be, mining blocks meanwhile where they are wanted."""
        async with asyncio.timeout(STEP_S):
            while not there(facts := await self.people[Role.BUYER].get(path)):
                if mining:
                    await self.chain.mine(1, to=self.rich.miner)
                await asyncio.sleep(0.2)
        return facts

    def code(self, role: Role) -> str:
        """Signs a login code, as the command does."""
        key = issuer_key(Settings(thirdkey_home=self.home))
        return issue_login(key, sub=UserId(NAMES[role]), ttl_s=600, session_s=3_600)

    async def link(self, role: Role, *more: str) -> str:
        """Has the operator make a one-time link, by the command line."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", "login-link", "--sub", NAMES[role], *more),
            env={"THIRDKEY_HOME": str(self.home), "PATH": ""},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode().strip()


@asynccontextmanager
async def staged(home: Path, rich: RichChain) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        where = await stack.enter_async_context(
            service_process(home, environment={"THIRDKEY_HOME": str(home), **ENVIRONMENT})
        )
        funder = await stack.enter_async_context(funder_running(home, daemon_url=where.daemon))
        await funder.open("funder", password="")
        chain = RegtestChain(where.daemon)
        stack.push_async_callback(chain.aclose)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        key = issuer_key(Settings(thirdkey_home=home))
        people = {
            role: Person(name, token=issue_token(key, sub=UserId(name), ttl_s=3_600), api=where.api, session=session)
            for role, name in NAMES.items()
        }
        yield Stage(home=home, where=where, rich=rich, funder=funder, chain=chain, people=people)


async def test_an_arbiter_works_a_case_to_its_paid_resolution_while_both_parties_use_their_pages(
    home: Path, rich_chain: RichChain
) -> None:
    async with staged(home, rich_chain) as stage, chromium() as browser:
        escrow_id = await stage.funded()
        async with (
            watched(browser, stage.where.api) as alice,
            watched(browser, stage.where.api, size=PHONE) as bob,
            watched(browser, stage.where.api, scheme="dark") as judy,
        ):
            buyer = await alice.logged_in(stage.code(Role.BUYER))
            await opens(buyer, escrow_id)
            vendor = await bob.logged_in(stage.code(Role.VENDOR), onward="/cases")
            await answers(vendor)
            address, _, code = (await stage.link(Role.ARBITER, "--right", "arbiter")).partition("#")
            assert address == f"{stage.where.api}/login"
            arbiter = await judy.logged_in(code)
            await decides(arbiter, buyer=buyer, vendor=vendor)
            await follows(stage, escrow_id, pages={Role.BUYER: buyer, Role.VENDOR: vendor, Role.ARBITER: arbiter})
            for person in (alice, bob, judy):
                person.check()


async def opens(page: Page, escrow_id: str) -> None:
    """The buyer opens the dispute, and lays a picture before the arbiter."""
    await page.locator(f"#dispute-{escrow_id}").click()
    await page.get_by_label("Your claim").fill("The parcel arrived, but the box was empty. I ask for my money back.")
    await page.get_by_role("button", name="Open the dispute").click()
    await page.get_by_role("heading", name="Evidence").wait_for()
    picture = FilePayload(name="box.jpg", mimeType="image/jpeg", buffer=jpeg())
    await page.get_by_label("Add a picture").set_input_files(picture)
    await page.get_by_label("What it shows").fill("The empty box")
    await page.get_by_role("button", name="Upload").click()
    await page.get_by_role("button", name="The empty box").wait_for()


async def answers(page: Page) -> None:
    """The vendor finds the case among their own, and answers it."""
    await page.get_by_role("link", name="Open the case").click()
    await page.get_by_role("button", name="The empty box").wait_for()
    await page.get_by_label("Your claim").fill("I packed it myself and weighed it at the counter: 2.4 kg.")
    await page.get_by_role("button", name="Send the claim").click()
    await expect(page.locator("#claims")).to_contain_text("2.4 kg")


async def decides(page: Page, *, buyer: Page, vendor: Page) -> None:
    """The arbiter finds the case, asks, hears both without loading the page again, and decides."""
    await expect(page.get_by_role("row")).to_have_count(2)
    await kept(page, "story-1-list")
    await page.get_by_role("link", name=re.compile(r"^Review case_")).click()
    await says(page, "Bob, did the carrier weigh it as well?")
    for other, text in ((vendor, "Yes: 2.4 kg on the receipt."), (buyer, "Then it was opened on its way.")):
        await expect(other.get_by_role("log")).to_contain_text("Bob, did the carrier weigh it as well?")
        await says(other, text)
        await expect(page.get_by_role("log")).to_contain_text(text)
    await kept(page, "story-2-case")
    await page.get_by_label("Split between the two").check()
    await page.get_by_label("Buyer’s share of a split").fill("70")
    await page.get_by_label("Reason").fill("It was opened on its way; the vendor had not insured it.")
    await page.get_by_role("button", name="Look at it once more").click()
    for amount in ("0.3430", "0.1470", "0.0100"):
        await page.get_by_role("cell", name=amount, exact=True).wait_for()
    await kept(page, "story-3-confirm")
    await page.get_by_role("button", name="Decide for good").click()
    await expect(page.locator("#decision")).to_contain_text("70 % to the buyer")


async def says(page: Page, text: str) -> None:
    await page.get_by_label("Write to the two others").fill(text)
    await page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.get_by_role("log")).to_contain_text(text)


async def follows(stage: Stage, escrow_id: str, *, pages: Mapping[Role, Page]) -> None:
    """The payout is made, confirmed and final, and all three pages say so by themselves, to the atomic unit."""
    path = f"/api/escrows/{escrow_id}"
    await stage.until(path, lambda facts: facts["state"] == "completed", mining=True)
    facts = await stage.people[Role.BUYER].get(path)
    case: Any = facts["case"]
    await stage.funder.refresh()
    paid = await paid_by(stage.funder, TxHash(case["winner_tx_hash"]), stage.rich)
    assert paid[Role.ARBITER] == FEE
    network_fee = AMOUNT - sum(paid.values())
    assert paid[Role.BUYER] == (AMOUNT - FEE - network_fee) * 7_000 // 10_000
    for role, page in pages.items():
        await expect(page.locator("#head")).to_contain_text("Resolved")
        payout = page.locator("#payout")
        await expect(payout).to_contain_text(case["winner_tx_hash"])
        shown = await payout.get_by_role("row").all_inner_texts()
        for receiver in THREE:
            amount = f"{paid[receiver] // 10**12}.{paid[receiver] % 10**12:012d}"
            assert any(re.match(rf"{receiver}\b", row) and is_written(amount, row) for row in shown), (shown, amount)
        assert await page.locator("a[href^=http]").count() == 0
        await kept(page, f"story-4-paid-{role}")


def is_written(amount: str, row: str) -> bool:
    """Says whether a row ends with an amount, which may leave zeros at its end out."""
    return row.split()[-1].ljust(len(amount), "0") == amount
