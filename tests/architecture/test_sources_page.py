"""docs/sources.md has every kind, setting and verb of the code, and no others."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import pytest

from shared.errors import Misconfigured
from shared.usecases.source import ENTRY_POINT_GROUP, Source
from shared.usecases.source_registry import build_source
from tests.support.memory_sources import certificate_service

pytestmark = pytest.mark.unit

PAGE: Final = (Path(__file__).parents[2] / "docs" / "sources.md").read_text(encoding="utf-8")
OURS: Final = sorted(
    point.name for point in entry_points(group=ENTRY_POINT_GROUP) if point.module.startswith("services.")
)
_ROW: Final = re.compile(r"^\| \[?`(\w+)", re.MULTILINE)


def section(title: str) -> str:
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title}"
    return found.group(1)


def test_every_kind_of_this_distribution_is_on_the_page() -> None:
    assert sorted(_ROW.findall(PAGE.partition("## The sources file")[0])) == OURS


@pytest.mark.parametrize("kind", OURS)
def test_every_setting_is_on_the_page(kind: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        build_source(certificate_service("any", kind=kind, settings={"colour": "red"}))
    known = re.search(r"known: ([\w, ]+)", str(refused.value))
    assert known
    assert sorted(_ROW.findall(section(f"`{kind}`"))) == known.group(1).split(", ")


def test_every_verb_is_on_the_page() -> None:
    verbs = {name for name in vars(Source) if not name.startswith("_")}
    assert set(_ROW.findall(section("Write a source"))) == verbs
