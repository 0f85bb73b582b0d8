"""Fixtures: the API around a fleet of directory regions on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.api import Api, build_api
from tests.support.fleet import build_fleet


@pytest.fixture
def api(database_url: str, tmp_path: Path) -> Iterator[Api]:
    fleet = build_fleet(database_url, tmp_path)
    with capture_logs() as logs:
        yield build_api(fleet, logs=logs)
    fleet.context.database.close()
