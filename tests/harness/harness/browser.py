"""A real Chromium, and what is looked at on each page that it shows."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import ConsoleMessage, Page, Request, async_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCREENSHOTS = "PATCHWRIGHT_SCREENSHOTS"
"""A folder: every page is photographed into it, narrow and wide, light and dark."""
PHONE, DESKTOP = 390, 1280
"""Pixels."""


@dataclass
class Sight:
    """One person's browser: everything it asked for, was told, and showed."""

    page: Page
    urls: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    async def look(self, name: str) -> str:
        """The page's text, after everything that every page has to be."""
        assert await self.page.evaluate(WIDER) <= 0, f"{name} scrolls sideways"
        assert await self.page.locator("script").count() == 0
        assert await self.page.locator("main h1").count() == 1
        assert not self.complaints, self.complaints
        self.texts.append(await self.page.content())
        await _photograph(self.page, name)
        return await self.page.locator("main").inner_text()

    async def press(self, name: str) -> None:
        """A button or link by its words; both lead to a page."""
        target = self.page.get_by_role("button", name=name, exact=True)
        if not await target.count():
            target = self.page.get_by_role("link", name=name, exact=True)
        async with self.page.expect_navigation():
            await target.click()

    @property
    def path(self) -> str:
        return urlsplit(self.page.url).path

    async def tab_to(self, name: str) -> None:
        """With the Tab key alone, to the control of that name; its focus has to be seen."""
        for _ in range(80):
            await self.page.keyboard.press("Tab")
            found = await self.page.evaluate(FOCUS)
            if found["name"] == name:
                assert found["outlined"], f"nobody sees the focus on {name}"
                return
        raise AssertionError(f"Tab does not reach {name!r}")


WIDER = "() => document.documentElement.scrollWidth - window.innerWidth"
FOCUS = """() => {
  const e = document.activeElement
  const words = (e.labels?.[0] || e).innerText || e.value || e.tagName
  const outline = n => n && getComputedStyle(n).outlineStyle !== 'none'
  return {name: words.trim(), outlined: outline(e) || outline(e.closest('label'))}
}"""


@asynccontextmanager
async def browser(width: int = DESKTOP, **options: Any) -> AsyncIterator[Sight]:
    """Debian's Chromium. Fails without one: pages that were never shown are not tested."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "no chromium on this machine: apt-get install chromium"
    async with async_playwright() as driver:
        started = await driver.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            viewport: Any = {"width": width, "height": 844}
            context = await started.new_context(viewport=viewport, **options)
            context.set_default_timeout(20_000)
            sight = Sight(await context.new_page())

            def asked(request: Request) -> None:
                sight.urls.append(request.url)

            def told(message: ConsoleMessage) -> None:
                # Pages that explain a refusal have the refusal's status.
                if "the server responded with a status of" not in message.text:
                    sight.complaints.append(message.text)

            sight.page.on("request", asked)
            sight.page.on("console", told)
            yield sight
        finally:
            await started.close()


async def _photograph(page: Page, name: str) -> None:
    folder = os.environ.get(SCREENSHOTS)
    if not folder:
        return
    before = page.viewport_size
    for width in (DESKTOP, PHONE):
        await page.set_viewport_size({"width": width, "height": 844})
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            path = Path(folder) / f"{name}-{width}-{scheme}.png"
            await page.screenshot(path=path, full_page=True)
    await page.emulate_media(color_scheme="null")
    if before:
        await page.set_viewport_size(before)
