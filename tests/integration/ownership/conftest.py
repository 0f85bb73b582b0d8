"""Fixtures: a fleet of directory regions on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fleet import Fleet, build_fleet


@pytest.fixture
def fleet(database_url: str, tmp_path: Path) -> Iterator[Fleet]:
    built = build_fleet(database_url, tmp_path)
    yield built
    built.context.database.close()
