"""The test drivers are found by the real entry-point mechanism and fail exactly as told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from shared.config.regions import Region
from shared.errors import AuthRefused, Busy, Misconfigured, OutcomeUnknown, Replan
from shared.usecases.driver import Driver
from shared.usecases.driver_registry import build_driver, known_drivers
from tests.contract.driver_kit import owner, server_material
from tests.support.drivers.certfleet_test_drivers import Fault, read_faults, write_faults

pytestmark = pytest.mark.unit

SITE = Path(__file__).parents[2] / "support" / "drivers"


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SITE)


def build(driver: str, path: Path, **settings: Any) -> Driver:
    settings = {"path": str(path / "region"), **settings}
    return build_driver(Region(id="sick", name="Sick", driver=driver, settings=settings))


def faulty(path: Path, *faults: Fault) -> Driver:
    write_faults(path / "faults.json", *faults)
    return build("faulty", path, fault_file=str(path / "faults.json"))


def test_they_are_known_beside_the_built_in_ones() -> None:
    assert {"directory", "faulty", "memory", "slow"} <= set(known_drivers())


def test_another_process_finds_them_on_its_path() -> None:
    code = "from shared.usecases.driver_registry import known_drivers; print(*known_drivers())"
    root = SITE.parents[2]
    environment = {**os.environ, "PYTHONPATH": str(SITE)}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, check=True)
    assert {"faulty", "slow"} <= set(answer.stdout.decode().split())


def test_the_slow_driver_takes_its_time_and_then_works(tmp_path: Path) -> None:
    driver = build("slow", tmp_path, delay_seconds=0.05)
    begun = time.monotonic()
    assert driver.stage(server_material(), owner=owner()).created
    assert time.monotonic() - begun >= 0.05


def test_the_faulty_driver_works_without_faults(tmp_path: Path) -> None:
    driver = build("faulty", tmp_path, fault_file=str(tmp_path / "absent.json"))
    assert driver.stage(server_material(), owner=owner()).created


def test_a_fault_is_raised_as_often_as_told_and_then_no_more(tmp_path: Path) -> None:
    driver = faulty(tmp_path, Fault(error="Busy", times=2), Fault(error="AuthRefused", verb="retire"))
    for _ in range(2):
        with pytest.raises(Busy):
            driver.stage(server_material(), owner=owner())
    staged = driver.stage(server_material(), owner=owner())
    with pytest.raises(AuthRefused):
        driver.retire(staged.ref)
    assert driver.retire(staged.ref)
    assert read_faults(tmp_path / "faults.json") == []


def test_a_fault_afterwards_loses_only_the_answer(tmp_path: Path) -> None:
    driver = faulty(tmp_path, Fault(error="OutcomeUnknown", after=True))
    with pytest.raises(OutcomeUnknown):
        driver.stage(server_material(), owner=owner())
    assert driver.stage(server_material(), owner=owner()).created is False


def test_a_fenced_slow_driver_is_as_slow_and_fenced(tmp_path: Path) -> None:
    driver = build("slow", tmp_path, delay_seconds=0.05)
    driver.fenced(7).stage(server_material(), owner=owner())
    begun = time.monotonic()
    with pytest.raises(Replan):
        driver.fenced(6).stage(server_material(serial=2), owner=owner())
    assert time.monotonic() - begun >= 0.05


def test_a_fenced_faulty_driver_fails_as_told_and_is_fenced(tmp_path: Path) -> None:
    driver = faulty(tmp_path, Fault(error="Busy"))
    with pytest.raises(Busy):
        driver.fenced(7).stage(server_material(), owner=owner())
    driver.fenced(7).stage(server_material(), owner=owner())
    with pytest.raises(Replan):
        driver.fenced(6).stage(server_material(serial=2), owner=owner())


def test_a_fault_without_number_lasts_until_the_file_changes(tmp_path: Path) -> None:
    driver = faulty(tmp_path, Fault(error="Busy", verb="snapshot", times=None))
    for _ in range(3):
        with pytest.raises(Busy):
            driver.snapshot()
    write_faults(tmp_path / "faults.json")
    assert driver.snapshot().objects == ()


@pytest.mark.parametrize(("driver", "problem"), [("slow", "delay_seconds"), ("faulty", "fault_file")])
def test_wrong_settings_are_refused(tmp_path: Path, driver: str, problem: str) -> None:
    with pytest.raises(Misconfigured, match=problem):
        build(driver, tmp_path, delay_seconds="long")
