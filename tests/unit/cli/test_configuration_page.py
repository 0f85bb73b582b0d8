"""docs/configuration.md names every setting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
VARIABLE = re.compile(r'"(CERTFLEET_[A-Z_]+|DATABASE_URL|REDIS_URL|SMTP_URL)"')


def test_every_variable_that_is_read_is_explained_and_no_other() -> None:
    read = set(VARIABLE.findall((ROOT / "shared/config/settings.py").read_text(encoding="utf-8")))
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `([A-Z_]+)` \|", page, flags=re.MULTILINE))

    assert read == explained
