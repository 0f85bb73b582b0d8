"""docs/drivers.md has every error, verb and setting of the code, and no others."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

import pytest

from services.worker.drivers import directory, envoy_settings, haproxy_settings
from shared.config.regions import Region
from shared.errors import DriverError, Misconfigured
from shared.usecases.driver import ENTRY_POINT_GROUP, Driver

pytestmark = pytest.mark.unit

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "drivers.md").read_text(encoding="utf-8")
_ROW: Final = re.compile(r"^\| \[?`(\w+)", re.MULTILINE)
_KNOWN: Final = re.compile(r"known: ([\w, ]+)")


def section(title: str) -> str:
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title}"
    return found.group(1)


PARSERS: Final[dict[str, Callable[[dict[str, Any]], object]]] = {
    "directory": directory.parse_settings,
    "envoy": lambda settings: envoy_settings.parse_settings(
        Region(id="here", name="here", driver="envoy", settings=settings)
    ),
    "haproxy": haproxy_settings.parse_settings,
}


@pytest.mark.parametrize("driver", PARSERS)
def test_every_setting_is_on_the_page(driver: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        PARSERS[driver]({"colour": "red"})
    known = _KNOWN.search(str(refused.value))
    assert known
    assert sorted(_ROW.findall(section(f"`{driver}`"))) == known.group(1).split(", ")


def test_every_driver_of_this_distribution_is_on_the_page() -> None:
    ours = {point.name for point in entry_points(group=ENTRY_POINT_GROUP) if point.module.startswith("services.")}
    introduction = PAGE.partition("## Write a driver")[0]
    assert set(_ROW.findall(introduction)) == ours
    assert all(section(f"`{name}`") for name in ours)


def test_every_error_is_on_the_page_with_what_it_promises() -> None:
    rows = {line.split("`")[1]: line for line in section("What each error means").splitlines() if line[:3] == "| `"}
    assert set(rows) == {kind.__name__ for kind in DriverError.__subclasses__()}
    for kind in DriverError.__subclasses__():
        assert ("perhaps not" in rows[kind.__name__]) is kind.may_have_happened


def test_every_verb_is_on_the_page() -> None:
    verbs = {name for name in vars(Driver) if not name.startswith("_")}
    assert set(_ROW.findall(section("The contract in words"))) == verbs
