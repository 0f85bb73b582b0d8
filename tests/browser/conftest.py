"""Fixtures: one Chromium a module, and what it looks at; each is started once and shared by all that look.

Not once a session: while Playwright runs, its event loop is the thread's, and no other test can run one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.api import build_api
from tests.support.browsing import LiveFleet, Shown, Up, signed_in
from tests.support.chromium import chromium
from tests.support.console import person
from tests.support.fleet import build_fleet, region
from tests.support.live_api import live_api
from tests.support.places import private_directory
from tests.support.servers import Servers
from tests.support.showcase import showcase
from tests.support.stack import running_stack


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def live(browser: Browser, servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    place = tmp_path_factory.mktemp("fleet")
    regions = [region(place, "roomy"), region(place, "full", quota=1)]
    fleet = build_fleet(servers.create_database(f"browser_{os.getpid()}"), place, regions=regions)
    api = build_api(fleet)
    with live_api(api.app) as address:
        yield LiveFleet(fleet=fleet, console=signed_in(browser, address, f"/sign-in/{person(api, password=None)}"))
    fleet.context.database.close()


@pytest.fixture(scope="module")
def shown(browser: Browser, servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    database_url = servers.create_database(f"showcase_{os.getpid()}")
    with showcase(database_url, tmp_path_factory.mktemp("showcase")) as built, live_api(built.api.app) as address:
        yield Shown(
            showcase=built,
            console=signed_in(browser, address, f"/sign-in/{built.sign_in_token}"),
            newcomer=signed_in(browser, address, f"/sign-in/{built.newcomer_token}"),
        )


@pytest.fixture(scope="module")
def up(browser: Browser) -> Iterator[Up]:
    with private_directory() as place, running_stack(place / "state") as stack:
        link = re.search(r"sign in to the console[^:]*: (\S+)", stack.text())
        assert link, stack.text()
        yield Up(stack=stack, console=signed_in(browser, stack.connection.url, link[1]))
