"""Sources are found by entry point; a broken one harms only itself, and tells nothing of its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.worker.sources.local_ca import LocalCa
from shared.config.sources import CertificateService
from shared.errors import Misconfigured
from shared.usecases.source_registry import build_source, known_sources
from tests.support.memory_sources import certificate_service

pytestmark = pytest.mark.unit


def local(**settings: object) -> CertificateService:
    return certificate_service("local-ca", kind="local_ca", settings=settings)


def install(site: Path, distribution: str, *, source: str) -> None:
    """What installing a distribution leaves behind: metadata with an entry point, and a module of its name."""
    metadata = site / f"{distribution}-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[certfleet.sources]\n{distribution} = {distribution}:Source\n")
    (site / f"{distribution}.py").write_text(source)


def test_a_service_gets_its_source(tmp_path: Path) -> None:
    assert "local_ca" in known_sources()
    assert isinstance(build_source(local(path=str(tmp_path))), LocalCa)


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Misconfigured, match=r"source 'acme': there is no kind 'acme'; known: .*local_ca"):
        build_source(certificate_service("acme", kind="acme"))


def test_refused_settings_name_the_source_and_every_problem() -> None:
    with pytest.raises(Misconfigured) as refused:
        build_source(local(days=0, colour="red"))
    assert len(refused.value.problems) == 3
    assert all(problem.startswith("source 'local-ca': ") for problem in refused.value.problems)


@pytest.mark.parametrize(
    ("name", "source", "problem"),
    [
        ("no_module", "raise RuntimeError('no sdk')", "cannot be imported: RuntimeError"),
        ("no_class", "Source = object()", "has no for_service"),
        (
            "no_source",
            "class Source:\n    for_service = classmethod(lambda cls, service: cls())",
            "is not a source: a Source",
        ),
        (
            "no_manners",
            "class Source:\n    def for_service(service):\n        raise ValueError(service.settings)",
            r"failed on its settings \(ValueError\)",
        ),
    ],
)
def test_a_broken_source_is_named_without_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str, problem: str
) -> None:
    install(tmp_path, name, source=source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Misconfigured, match=problem) as refused:
        build_source(certificate_service("broken", kind=name, settings={"hint": "confidential"}))
    assert "confidential" not in str(refused.value)
