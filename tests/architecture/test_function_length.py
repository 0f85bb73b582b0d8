"""CONTRIBUTING: about ten lines a function, never over fifty."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.unit

ROOT: Final = Path(__file__).parents[2]
ROOMS: Final = ("services", "shared", "tests")
"""Not the migrations: a revision is written once, as a list of tables, and read from top to bottom."""
LONGEST: Final = 50


def lines_of(source: str) -> dict[str, int]:
    """The lines of each function by its name and place, the decorators not counted."""
    functions = (
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return {f"{node.name}:{node.lineno}": (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}


def test_no_function_is_longer_than_fifty_lines() -> None:
    sources = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    lengths = {
        f"{path.relative_to(ROOT)} {name}": lines
        for path in sources
        for name, lines in lines_of(path.read_text(encoding="utf-8")).items()
    }
    assert len(lengths) > 3000
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}


def test_the_lines_of_a_method_within_a_class_count_as_well() -> None:
    source = "class Thing:\n    @property\n    def long(self):\n" + "        pass\n" * LONGEST
    assert lines_of(source) == {"long:3": LONGEST + 1}
