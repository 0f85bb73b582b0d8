"""Debian's Chromium, driven by Playwright: found, or installed when we may; otherwise its suite is left out aloud."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.support.debian import require

_SWITCHES: Final = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Nothing but what a test asks for goes out. Playwright itself runs it without a sandbox, as root needs."""

DESKTOP: Final = (1280, 800)
PHONE: Final = (390, 844)
"""Width and height in CSS pixels."""

RULES: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
"""Of axe-core: everything of WCAG 2.2 AA that a program can check, and what its authors advise."""

WAIT_MILLISECONDS: Final = 30_000
"""For what a page must show: nobody waits so long, unless the machine is busy or the page is wrong."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """One browser with an empty profile of its own; it ends with the block."""
    program = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_SWITCHES))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visitor(
    browser: Browser, address: str, *, size: tuple[int, int] = DESKTOP, state: Any = None, scripts: bool = True
) -> Iterator[Page]:
    """A page of somebody new to ``address``, or of whom ``state`` (cookies) signs in. In English."""
    context = browser.new_context(
        base_url=address,
        viewport={"width": size[0], "height": size[1]},
        storage_state=state,
        java_script_enabled=scripts,
        locale="en-GB",
    )
    context.set_default_timeout(WAIT_MILLISECONDS)
    try:
        yield context.new_page()
    finally:
        context.close()


def cookies(context: BrowserContext) -> Any:
    """What signs in somebody else's page as the same person."""
    return context.storage_state()


def violations(page: Page) -> list[str]:
    """What axe-core finds on the page as it is: rule, impact and place of each."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(AXE_SCRIPT)
    options = json.dumps({"resultTypes": ["violations"], "runOnly": {"type": "tag", "values": list(RULES)}})
    found = cast("list[dict[str, Any]]", page.evaluate(f"async () => (await axe.run({options})).violations"))
    return [
        f"{one['id']} ({one['impact']}) {node['target']}: {node['html'][:200]}"
        for one in found
        for node in one["nodes"]
    ]


def overflow(page: Page) -> int:
    """By how many CSS pixels the page is wider than its window; more than none makes a phone scroll sideways."""
    return int(page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth"))
