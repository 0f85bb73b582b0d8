"""Every page: nothing for axe to find in light and dark, on desk and phone; no word that needs a script; no noise."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from playwright.sync_api import Page

from tests.support.browsing import Shown
from tests.support.chromium import DESKTOP, PHONE, overflow, violations, visitor
from tests.support.console_pages import addresses, navigation

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("browser"), pytest.mark.timeout(900)]

ODD = {
    "nothing matches": "/certificates?q=nothing-like-it",
    "no such page": "/certificates/nothing-like-it",
    "a cursor of elsewhere": "/certificates?cursor=x",
}
"""What is not at an address of its own."""


@pytest.fixture(scope="module")
def pages(shown: Shown) -> Mapping[str, str]:
    return {**addresses(shown.showcase.api.app, shown.showcase.ids), **ODD}


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing_on_any_page_and_no_page_is_wider_than_its_window(
    shown: Shown, pages: Mapping[str, str], size: tuple[int, int]
) -> None:
    with shown.console.page(size=size) as page:
        noise = heard(page)
        faults = []
        for name, address in pages.items():
            page.goto(address)
            faults += [f"{name}: {one}" for one in (*looked_at(page), *noise)]
            noise.clear()
    assert not faults, "\n".join(faults)


def test_axe_finds_nothing_where_there_is_nothing_yet(shown: Shown) -> None:
    with shown.newcomer.page() as page:
        faults = []
        for address in navigation(shown.showcase.api.app):
            page.goto(address)
            faults += [f"{address}: {one}" for one in looked_at(page)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing_before_one_is_signed_in(shown: Shown, size: tuple[int, int]) -> None:
    with visitor(shown.console.browser, shown.console.address, size=size) as page:
        for address in ("/sign-in", "/sign-in/expired"):
            page.goto(address)
            assert looked_at(page) == []


def test_axe_finds_nothing_in_the_open_menu_of_a_phone(shown: Shown) -> None:
    with shown.console.page(size=PHONE) as page:
        page.goto("/certificates")
        page.get_by_role("button", name="Menu").click()
        page.get_by_role("link", name="Where I am signed in").wait_for()
        assert looked_at(page) == []


def test_every_word_of_every_page_is_there_without_javascript(shown: Shown, pages: Mapping[str, str]) -> None:
    with shown.console.page() as scripted, shown.console.page(scripts=False) as plain:
        missing = {}
        for name, address in pages.items():
            scripted.goto(address)
            plain.goto(address)
            missing[name] = words(scripted) - words(plain)
    assert {name: lines for name, lines in missing.items() if lines} == {}


def looked_at(page: Page) -> list[str]:
    """What is wrong with the page as it is, in light and in dark."""
    faults = [f"{overflow(page)} pixels too wide"] if overflow(page) > 0 else []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        faults += [f"{scheme}: {one}" for one in violations(page)]
    return faults


def heard(page: Page) -> list[str]:
    """What the page's scripts and policies complain of, from now on; an answer that is no page is none."""
    noise: list[str] = []
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.on(
        "console",
        lambda said: (
            noise.append(said.text)
            if said.type in {"error", "warning"} and "Failed to load resource" not in said.text
            else None
        ),
    )
    return noise


def words(page: Page) -> set[str]:
    """The lines that can be read, without the number that each request has for itself."""
    lines = {line.strip() for line in page.locator("main").inner_text().splitlines()}
    return {line for line in lines if line and "req_" not in line}
