"""Fixtures: the API around a fleet of balancers in memory, and one region that only takes files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api import Api, build_api
from tests.support.fleet import REGIONS, build_fleet, region
from tests.support.memory_balancers import SITE, forget_balancers, memory_region

FILES_ONLY = "files-only"


@pytest.fixture
def api(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(sys, "path", [str(SITE), *sys.path])
    forget_balancers()
    declared = [*(memory_region(name) for name in REGIONS), region(tmp_path, FILES_ONLY)]
    fleet = build_fleet(database_url, tmp_path, regions=declared)
    yield build_api(fleet)
    fleet.context.database.close()
    forget_balancers()
