"""A chromium that is watched: what it asks of whom, what its console says, what its policies stop."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

from tests.patience import PATIENCE_S

CHROMIUM = shutil.which("chromium")
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (ops/install.sh --dev brings it)"
)
ARTEFACTS = Path(os.environ.get("BROWSER_ARTEFACTS", Path(__file__).parents[2] / ".browser"))
"""Where the pictures of the last run lie; ignored by git."""
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--disable-sync"),
)
DESKTOP, PHONE = (1280, 900), (390, 844)
VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.effectiveDirective}`));
"""
STATUS_LINE = "Failed to load resource: the server responded with a status of 4"
"""What the console says of every answer that is a refusal."""


class Watched:
    """One browser of one person, and all that it did."""

    def __init__(self, context: BrowserContext, site: str) -> None:
        self.context, self.site = context, site
        self.asked: set[str] = set()
        self.complaints: list[str] = []

    async def page(self) -> Page:
        """Opens a tab."""
        page = await self.context.new_page()
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        return page

    async def logged_in(self, secret: str, *, onward: str = "") -> Page:
        """Opens a tab and logs in with a link, as its bearer would: the code fills the field by itself."""
        page = await self.page()
        await page.goto(f"{self.site}/login{f'?next={onward}' if onward else ''}#{secret}")
        assert secret not in page.url
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("button", name="Log out").wait_for()
        return page

    def check(self) -> None:
        """Nobody else was asked for anything, and nothing was complained of."""
        assert self.asked == {urlsplit(self.site).netloc}
        assert self.complaints == []

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(STATUS_LINE):
            self.complaints.append(message.text)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Runs a chromium for as long as the block lasts."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def watched(
    browser: Browser,
    site: str,
    *,
    scheme: Literal["light", "dark"] = "light",
    size: tuple[int, int] = DESKTOP,
    **options: Any,
) -> AsyncIterator[Watched]:
    """Opens a person's own browser: cookies of their own, every request noted."""
    width, height = size
    context = await browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(PATIENCE_S * 1000)
    await context.add_init_script(VIOLATIONS)
    person = Watched(context, site)
    context.on("request", lambda request: person.asked.add(urlsplit(request.url).netloc or request.url[:40]))
    try:
        yield person
    finally:
        await context.close()


async def kept(page: Page, name: str) -> None:
    """Keeps a picture of a page among the artefacts."""
    ARTEFACTS.mkdir(exist_ok=True)
    await page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)
