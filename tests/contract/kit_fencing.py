"""What a driver owes its callers' fencing numbers; part of ``DriverContract``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from shared.errors import Replan
from shared.usecases.driver import Driver, Listener, Ref
from tests.contract.kit_material import listener_of, stage_server

NewDriver = Callable[[], Driver]
"""Another instance for the same balancer."""

OLD: Final = 6
SEEN: Final = 7

Change = Callable[[Driver, Listener, Ref], object]
"""Something that a writer does to a balancer with one bound listener and one object that nobody uses."""

STAGINGS: Final[dict[str, Change]] = {
    "stage": lambda driver, _listener, _unused: stage_server(driver, 3),
    "retire": lambda driver, _listener, unused: driver.retire(unused),
}


class FencingObligations:
    """A writer that was paused for longer than its lease changes nothing any more."""

    def test_a_fenced_driver_is_the_same_balancer(self, new_driver: NewDriver) -> None:
        driver = new_driver()
        ref = stage_server(driver.fenced(SEEN))
        assert driver.fenced(SEEN).capabilities == driver.capabilities
        assert [held.ref for held in driver.snapshot().objects] == [ref]
        assert driver.fenced(SEEN).snapshot() == driver.snapshot()

    @pytest.mark.parametrize("change", STAGINGS)
    def test_an_older_writer_is_told_to_plan_anew_and_changes_nothing(self, new_driver: NewDriver, change: str) -> None:
        expect_refused_when_older(new_driver, STAGINGS[change])

    @pytest.mark.parametrize("fence", [SEEN, SEEN + 1, None])
    @pytest.mark.parametrize("change", STAGINGS)
    def test_the_same_a_newer_and_an_unfenced_writer_go_on(
        self, new_driver: NewDriver, change: str, fence: int | None
    ) -> None:
        expect_done(new_driver, STAGINGS[change], fence=fence)

    def test_an_older_writer_may_still_read(self, new_driver: NewDriver) -> None:
        stage_server(new_driver().fenced(SEEN))
        assert new_driver().fenced(OLD).snapshot() == new_driver().snapshot()

    def test_the_record_of_writers_is_no_anomaly(self, new_driver: NewDriver) -> None:
        stage_server(new_driver().fenced(SEEN))
        assert new_driver().snapshot().anomalies == ()


def expect_refused_when_older(new_driver: NewDriver, change: Change) -> None:
    """A change by a writer with an older number than the balancer has seen."""
    driver = new_driver()
    if driver.fenced(SEEN) is driver:
        pytest.skip("this driver has no place for a fencing number")
    listener, unused = _prepared(driver.fenced(SEEN))
    before = new_driver().snapshot()
    with pytest.raises(Replan, match=r"\w+ \w+ \w+"):
        change(new_driver().fenced(OLD), listener, unused)
    assert new_driver().snapshot() == before


def expect_done(new_driver: NewDriver, change: Change, *, fence: int | None) -> None:
    """The same change by somebody who may; ``None``: without a number."""
    listener, unused = _prepared(new_driver().fenced(SEEN))
    before = new_driver().snapshot()
    driver = new_driver()
    change(driver if fence is None else driver.fenced(fence), listener, unused)
    assert new_driver().snapshot().version != before.version


def _prepared(driver: Driver) -> tuple[Listener, Ref]:
    listener = listener_of(stage_server(driver, 1))
    if driver.capabilities.listeners:
        driver.bind(listener)
    return listener, stage_server(driver, 2)
