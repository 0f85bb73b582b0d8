"""Drivers are found by entry point; a broken one harms only itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.worker.drivers.directory import DirectoryDriver
from shared.config.regions import Region
from shared.errors import Misconfigured
from shared.usecases.driver_registry import build_driver, capabilities_of, known_drivers

pytestmark = pytest.mark.unit


def region(driver: str = "directory", **settings: Any) -> Region:
    return Region(id="cn-hangzhou", name="Hangzhou", driver=driver, settings=settings)


def install(site: Path, distribution: str, *, entry_points: dict[str, str], source: str = "") -> None:
    """What installing a distribution leaves behind: metadata with entry points, and a module of its name."""
    metadata = site / f"{distribution}-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
    lines = "".join(f"{name} = {value}\n" for name, value in entry_points.items())
    (metadata / "entry_points.txt").write_text("[certfleet.drivers]\n" + lines)
    (site / f"{distribution}.py").write_text(source)


def test_the_directory_driver_is_known() -> None:
    assert "directory" in known_drivers()


def test_a_region_gets_its_driver(tmp_path: Path) -> None:
    assert isinstance(build_driver(region(path=str(tmp_path))), DirectoryDriver)


def test_an_unknown_driver_is_refused_with_the_known_names() -> None:
    with pytest.raises(Misconfigured, match=r"region 'cn-hangzhou': there is no driver 'f5'; known: .*directory"):
        build_driver(region("f5"))


def test_refused_settings_name_the_region_and_every_problem() -> None:
    with pytest.raises(Misconfigured) as refused:
        build_driver(region(keep_generations=0, colour="red"))
    assert len(refused.value.problems) == 3
    assert all(problem.startswith("region 'cn-hangzhou': ") for problem in refused.value.problems)


def test_a_driver_that_cannot_be_imported_leaves_the_others_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "broken_lb", entry_points={"broken": "broken_lb:Driver"}, source="raise RuntimeError('no sdk')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert {"broken", "directory"} <= set(known_drivers())
    assert isinstance(build_driver(region(path="x")), DirectoryDriver)
    with pytest.raises(Misconfigured, match=r"'broken' \(broken_lb:Driver\) cannot be imported: RuntimeError: no sdk"):
        build_driver(region("broken"))


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("class Driver: pass\n", "no for_region"),
        ("class Driver:\n    for_region = staticmethod(lambda region: 7)\n", "not a driver: a int"),
        ("class Driver:\n    for_region = staticmethod(lambda region: region.settings['s'])\n", r"\(KeyError\)"),
    ],
    ids=["another class", "builds something else", "raises"],
)
def test_what_is_not_a_driver_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, problem: str
) -> None:
    module = f"odd_lb_{abs(hash(source))}"
    install(tmp_path, module, entry_points={"odd": f"{module}:Driver"}, source=source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Misconfigured, match=problem):
        build_driver(region("odd"))


def test_two_distributions_of_one_name_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "usurper", entry_points={"directory": "usurper:Driver"})
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Misconfigured, match=r"several .*services\.worker\.drivers\.directory:.*, usurper:Driver"):
        build_driver(region(path="x"))


def test_what_a_balancer_can_do_is_asked_once_a_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
import pathlib
from services.worker.drivers.directory import DirectoryDriver
from shared.config.regions import Region
class Driver:
    @staticmethod
    def for_region(region):
        with pathlib.Path(region.settings["built"]).open("a") as built:
            built.write("x")
        return DirectoryDriver.for_region(Region(id="x", name="x", driver="x", settings={"path": "x"}))
"""
    install(tmp_path, "counting_lb", entry_points={"counting": "counting_lb:Driver"}, source=source)
    monkeypatch.syspath_prepend(tmp_path)
    built = tmp_path / "built"
    answers = {capabilities_of(region("counting", built=str(built))) for _ in range(3)}
    assert len(answers) == 1
    assert built.read_text() == "x"
    capabilities_of(region("counting", built=str(built), other="settings, another region"))
    assert built.read_text() == "xx"


@pytest.mark.parametrize(
    "source",
    [
        "import a_library_that_is_not_here\n",
        (
            "from services.worker.drivers.directory import DirectoryDriver\n"
            "class Driver(DirectoryDriver):\n"
            "    for_region = classmethod(lambda cls, region: cls.__new__(cls))\n"
            "    capabilities = property(lambda self: 1 / 0)\n"
        ),
    ],
    ids=["cannot be imported", "cannot be asked"],
)
def test_a_driver_that_cannot_be_asked_is_logged_once_without_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    module = f"mute_lb_{abs(hash(source))}"
    install(tmp_path, module, entry_points={"mute": f"{module}:Driver"}, source=source)
    monkeypatch.syspath_prepend(tmp_path)
    with capture_logs() as logs:
        assert [capabilities_of(region("mute", broken=True)) for _ in range(2)] == [None, None]
    assert logs == [
        {"event": "capabilities_unknown", "log_level": "warning", "region": "cn-hangzhou", "code": "Misconfigured"}
    ]
