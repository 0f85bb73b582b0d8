"""Fixtures: a fleet of balancers in memory on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.memory_balancers import forget_balancers
from tests.support.patrols import build_patrolled_fleet


@pytest.fixture
def fleet(database_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """Regions ``tokyo`` (told only) and ``osaka`` (repaired)."""
    forget_balancers()
    built = build_patrolled_fleet(database_url, tmp_path)
    yield built
    built.context.database.close()
    forget_balancers()
