"""Fixtures: a fleet of balancers in memory, and the API in front of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api import Api, build_api
from tests.support.fleet import REGIONS, Fleet, build_fleet
from tests.support.memory_balancers import SITE, forget_balancers, memory_region


@pytest.fixture
def fleet(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setattr(sys, "path", [str(SITE), *sys.path])
    forget_balancers()
    built = build_fleet(database_url, tmp_path, regions=[memory_region(name) for name in REGIONS])
    yield built
    built.context.database.close()
    forget_balancers()


@pytest.fixture
def api(fleet: Fleet) -> Api:
    return build_api(fleet)
