"""Fixtures: the API around a fleet on a real database: of directory regions, or of balancers that clients can reach."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.api import Api, build_api
from tests.support.fleet import REGIONS, build_fleet
from tests.support.memory_balancers import SITE, forget_balancers, memory_region
from tests.support.memory_sources import certificate_service


@pytest.fixture
def api(database_url: str, tmp_path: Path) -> Iterator[Api]:
    fleet = build_fleet(database_url, tmp_path)
    with capture_logs() as logs:
        yield build_api(fleet, logs=logs)
    fleet.context.database.close()


@pytest.fixture
def reachable(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """The same with balancers in memory (listeners, handshakes, drift), and a certificate service."""
    monkeypatch.setattr(sys, "path", [str(SITE), *sys.path])
    forget_balancers()
    regions = [memory_region(name) for name in REGIONS]
    fleet = build_fleet(database_url, tmp_path, regions=regions, services=[certificate_service()])
    yield build_api(fleet)
    fleet.context.database.close()
    forget_balancers()
