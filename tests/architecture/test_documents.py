"""Documents, as far as a machine can read them: links, the list of decisions, the table of tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
DECISIONS: Final = ROOT / "docs" / "adr"
PAGES: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ROOMS: Final = "shared|services|tests|deploy"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_into_the_repository_leads_somewhere(page: Path) -> None:
    linked = re.findall(r"(?:\]\(|src=\"|srcset=\")([^)\s\"#:]+)(?:#[^)\s\"]*)?[)\"]", page.read_text(encoding="utf-8"))
    assert [link for link in linked if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_document_names_is_there(page: Path) -> None:
    named = re.findall(rf"`((?:{ROOMS})/[\w./-]+)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []


def test_every_file_that_the_code_names_is_there() -> None:
    sources = [path for room in ROOMS.split("|") for path in (ROOT / room).rglob("*.py")]
    named = {
        name: path.relative_to(ROOT)
        for path in sources
        for name in re.findall(rf"\b(?:{ROOMS}|docs)/[\w/-]+\.(?:py|md)\b", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 30
    assert {name: path for name, path in named.items() if not (ROOT / name).exists()} == {}


def test_every_decision_has_a_number_of_its_own_and_its_row() -> None:
    decisions = sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))
    rows = re.findall(
        r"^\| \[(\d{4})\]\((\S+)\) \|", (DECISIONS / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [name for _, name in rows] == decisions
    assert [number for number, _ in rows] == [name[:4] for name in decisions]
    assert len({number for number, _ in rows}) == len(rows)


def test_every_folder_of_tests_is_in_the_table() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and not path.name.startswith("_")}
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `tests/(\w+)` \|", text, re.MULTILINE)) == folders
