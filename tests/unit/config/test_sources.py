"""The sources file: every problem is said, with the source it is in, and a secret never stands in it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import load_settings
from shared.config.sources import DEFAULT_RETRY, CertificateService, load_sources, parse_sources
from shared.errors import Misconfigured

pytestmark = pytest.mark.unit


def entry(**overrides: Any) -> dict[str, Any]:
    """A good source."""
    return {"id": "cas", "kind": "local_ca", "account": "default", **overrides}


def problems(*entries: Any) -> tuple[str, ...]:
    with pytest.raises(Misconfigured) as refused:
        parse_sources({"source": list(entries)}, origin="sources.toml")
    return refused.value.problems


def service(**settings: Any) -> CertificateService:
    return parse_sources({"source": [entry(settings=settings)]}, origin="")["cas"]


def test_what_is_left_out_has_a_default() -> None:
    (found,) = parse_sources({"source": [entry()]}, origin="").values()
    assert found == CertificateService(
        id="cas", name="cas", kind="local_ca", account="default", settings={}, retry=DEFAULT_RETRY
    )


def test_a_file_without_a_source_is_fine() -> None:
    assert parse_sources({}, origin="") == {}


def test_the_example_of_the_documentation_is_a_sources_file(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/sources.md").read_text(encoding="utf-8")
    file = tmp_path / "sources.toml"
    file.write_text(page.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")
    assert load_sources(file)["cas"].retry.cap == timedelta(minutes=5)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"id": "UPPER"}, "id must be"),
        ({"id": "a" * 33}, "id must be"),
        ({"kind": ""}, "kind is missing"),
        ({"account": 7}, "account is missing"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"retry": {"cap_seconds": 601}}, "retry takes"),
        ({"settings": []}, "settings must be a table"),
        ({"settings": {"access_key_secret": "clear"}}, "access_key_secret must not stand in the file"),
        ({"settings": {"token": {"env": "A", "file": "b"}}}, "token must not stand in the file"),
    ],
)
def test_each_problem_names_its_source(overrides: dict[str, Any], problem: str) -> None:
    (found,) = problems(entry(**overrides))
    assert problem in found
    assert "clear" not in found


def test_all_problems_are_said_at_once() -> None:
    assert len(problems(entry(kind=None), entry(), entry(), "cas")) == 3


def test_a_secret_is_read_from_where_the_setting_points(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from a file\n", encoding="utf-8")
    found = service(access_key_secret={"env": "CAS_SECRET"}, other_secret={"file": str(file)})
    assert found.secret("access_key_secret", environ={"CAS_SECRET": "from the environment"}) == "from the environment"
    assert found.secret("other_secret") == "from a file"


@pytest.mark.parametrize("reference", [{"env": "ABSENT"}, {"file": "/nowhere/at/all"}, None])
def test_a_secret_that_is_not_there_is_named_without_its_value(reference: Any) -> None:
    found = service(**({"access_key_secret": reference} if reference else {}))
    with pytest.raises(Misconfigured, match="access_key_secret"):
        found.secret("access_key_secret", environ={})


def test_settings_are_in_no_repr() -> None:
    assert "LTAI" not in repr(service(access_key_id="LTAI123"))


def test_problems_of_the_file_stand_beside_those_of_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "sources.toml"
    file.write_text("[[source]]\nid = 7\n", encoding="utf-8")
    with pytest.raises(Misconfigured) as refused:
        load_settings({"CERTFLEET_SOURCES": str(file)})
    said = "\n".join(refused.value.problems)
    assert "DATABASE_URL is not set" in said
    assert "id must be" in said
