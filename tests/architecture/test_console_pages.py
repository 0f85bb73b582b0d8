"""Every page of the console is looked at by a browser (tests/browser/test_pages.py) and has its pictures."""

from __future__ import annotations

import pytest
from apiflask import APIFlask

from services.api.console.registration import is_console, register
from tests.support.console_pages import NO_PAGES, navigation, places, rules
from tests.support.showcase import IDS


@pytest.fixture(scope="module")
def app() -> APIFlask:
    """The console alone; nobody asks it anything."""
    built = APIFlask("console")
    register(built)
    return built


def test_the_showcase_has_an_id_for_every_place_in_an_address(app: APIFlask) -> None:
    assert places(app) <= set(IDS), "name it in IDS, and have tests/support/showcase.py make one"


def test_what_is_no_page_is_there(app: APIFlask) -> None:
    served = {rule.rule for rule in app.url_map.iter_rules() if is_console(rule.endpoint)}
    assert set(NO_PAGES) <= served


def test_the_menu_leads_to_pages(app: APIFlask) -> None:
    assert set(navigation(app)) <= rules(app)
