"""Somebody who uses the console in a browser: signed in, on one page or another."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.chromium import DESKTOP, WAIT_MILLISECONDS, visitor
from tests.support.fleet import Fleet
from tests.support.showcase import Showcase
from tests.support.stack import RunningStack

expect.set_options(timeout=WAIT_MILLISECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """A console at ``address``, and the cookies of somebody who is signed in there."""

    browser: Browser
    address: str
    state: Any

    def page(self, *, size: tuple[int, int] = DESKTOP, scripts: bool = True) -> AbstractContextManager[Page]:
        """A new page of that person; nothing is loaded yet."""
        return visitor(self.browser, self.address, size=size, state=self.state, scripts=scripts)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFleet:
    """A fleet whose workers run when a test says so, and a console on it. Its clock stands at ``pki.NOW``."""

    fleet: Fleet
    console: Console


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The account that looks lived in, and a console on it; ``newcomer`` is somebody of an empty account."""

    showcase: Showcase
    console: Console
    newcomer: Console


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """``certfleet up`` with its three load balancers, and a console on it."""

    stack: RunningStack
    console: Console

    @property
    def regions(self) -> Path:
        """Where the load balancers' directories are, by region."""
        return self.stack.state.root / "regions"


def signed_in(browser: Browser, address: str, link: str) -> Console:
    """Sign in by a link, as people do."""
    with visitor(browser, address) as page:
        page.goto(link)
        page.get_by_role("main").get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        return Console(browser=browser, address=address, state=page.context.storage_state())


def paste(page: Page, certificate: str, key: str | None = None) -> None:
    """Into the fields of the page to add or to replace; None where there is no field for a key."""
    page.get_by_label("Certificate (PEM)").fill(certificate)
    if key is not None:
        page.get_by_label("Private key (PEM)").fill(key)


def choose(page: Page, *regions: str) -> None:
    """Tick these regions of the page to add."""
    for region in regions:
        page.locator(f'input[name=regions][value="{region}"]').check()


def doctor(page: Page) -> Locator:
    """Where the findings appear."""
    return page.get_by_role("complementary", name="Doctor")


def row(page: Page, region: str) -> Locator:
    """The region's row of a job or a certificate."""
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=region))


def mark(page: Page) -> None:
    """Remember this very document; :func:`is_marked` tells whether it was loaded again."""
    page.evaluate("() => { window.marked = true; }")


def is_marked(page: Page) -> bool:
    return bool(page.evaluate("() => window.marked === true"))
