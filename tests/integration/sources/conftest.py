"""Fixtures: a fleet of balancers in memory, and one certificate service of its account."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api import Api, build_api
from tests.support.fleet import REGIONS, Fleet, build_fleet
from tests.support.memory_balancers import SITE, forget_balancers, memory_region
from tests.support.memory_sources import MemoryService, MemorySource, certificate_service


@pytest.fixture
def fleet(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setattr(sys, "path", [str(SITE), *sys.path])
    forget_balancers()
    regions = [memory_region(name) for name in REGIONS]
    built = build_fleet(database_url, tmp_path, regions=regions, services=[certificate_service()])
    yield built
    built.context.database.close()
    forget_balancers()


@pytest.fixture
def service(fleet: Fleet) -> MemoryService:
    """What the fleet's one service holds; nothing at first."""
    service = MemoryService(clock=lambda: fleet.now)
    fleet.sources["memory"] = MemorySource(service)
    return service


@pytest.fixture
def api(fleet: Fleet) -> Api:
    return build_api(fleet)
