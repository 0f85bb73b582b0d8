"""What every test of this directory needs."""

from __future__ import annotations

import pytest

from tests.support.memory_balancers import SITE


@pytest.fixture(autouse=True)
def _drivers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SITE))
