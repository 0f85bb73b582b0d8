"""The regions file: every problem is said, with the region it is in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.config.regions import (
    DEFAULT_KEY_POLICY,
    DEFAULT_QUOTA,
    DEFAULT_RETRY_LIMITS,
    Quota,
    Region,
    load_regions,
    parse_regions,
)
from shared.errors import Misconfigured

pytestmark = pytest.mark.unit


def entry(**overrides: Any) -> dict[str, Any]:
    """A good region."""
    return {"id": "here", "driver": "directory", **overrides}


def problems(*entries: Any) -> tuple[str, ...]:
    with pytest.raises(Misconfigured) as refused:
        parse_regions({"region": list(entries)}, origin="regions.toml")
    return refused.value.problems


def test_what_is_left_out_has_a_default() -> None:
    (region,) = parse_regions({"region": [entry()]}, origin="").values()

    assert region == Region(
        id="here",
        name="here",
        driver="directory",
        settings={},
        key_policy=DEFAULT_KEY_POLICY,
        quota=Quota(server=DEFAULT_QUOTA, ca=DEFAULT_QUOTA),
        retry=DEFAULT_RETRY_LIMITS,
        listener_address=None,
        repair=False,
    )


def test_the_example_of_the_documentation_is_a_regions_file(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/configuration.md").read_text(encoding="utf-8")
    file = tmp_path / "regions.toml"
    file.write_text(page.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")

    assert load_regions(file)["cn-hangzhou"].name == "China (Hangzhou)"


def test_regions_keep_the_order_of_the_file() -> None:
    entries = [entry(id="b"), entry(id="a"), entry(id="c")]

    assert list(parse_regions({"region": entries}, origin="")) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"id": "Not an id"}, "id must be"),
        ({"id": None}, "id must be"),
        ({"driver": None}, "driver is missing"),
        ({"settings": "x"}, "settings must be a table"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"key_policy": ["rsa-1"]}, "key_policy takes"),
        ({"key_policy": "rsa-2048"}, "key_policy takes"),
        ({"quota": {"server": -1}}, "quota takes"),
        ({"quota": {"other": 1}}, "quota takes"),
        ({"max_attempts": 0}, "max_attempts takes"),
        ({"retry": {"base_seconds": 0}}, "retry takes base_seconds, cap_seconds, deadline_seconds"),
        ({"retry": {"base": 1}}, "retry takes"),
        ({"retry": {"deadline_seconds": True}}, "retry takes"),
        ({"retry": 5}, "retry takes"),
        ({"listener_address": 443}, "listener_address takes"),
        ({"listener_address": "192.0.2.1"}, "listener_address takes"),
        ({"listener_address": "192.0.2.1:0"}, "listener_address takes"),
        ({"listener_address": "::1:443"}, "listener_address takes"),
        ({"repair": "yes"}, "repair takes"),
    ],
)
def test_a_fault_is_said_with_its_region(wrong: dict[str, Any], said: str) -> None:
    (problem,) = problems(entry(**wrong))

    assert problem.startswith("regions.toml: region ")
    assert said in problem


def test_all_faults_are_said_at_once() -> None:
    said = problems(entry(driver=None, max_attempts=0), entry(id="there"), entry(id="there"), "no table")

    assert len(said) == 4
    assert "used twice" in said[2]


@pytest.mark.parametrize("text", ["", "region = 1", "[region]\nid = 'here'", "region = ["])
def test_a_file_without_regions_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "regions.toml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(Misconfigured, match=r"regions\.toml"):
        load_regions(file)
