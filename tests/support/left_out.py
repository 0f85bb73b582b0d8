"""Suites that this machine cannot run: named in one line at the end, and failures in CI."""

from __future__ import annotations

import os
from typing import Final, NoReturn

import pytest

LEFT_OUT: Final = "left out: "
"""How the reason of a skipped suite begins; the summary (tests/conftest.py) gathers these in one line."""


def leave_out(suite: str, why: str) -> NoReturn:
    """Skip the calling test with one line; with ``CI=true`` fail it: a left-out suite proves nothing."""
    reason = f"{LEFT_OUT}the {suite} suite: {why}"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
