"""A region that does not answer is left alone for a while: nothing is lost, nothing used up, nobody else waits."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Self

import pytest

from shared.config.regions import Region
from shared.domain.certificates import Material
from shared.domain.circuits import FIRST_PAUSE, THRESHOLD
from shared.errors import OutcomeUnknown, Unreachable
from shared.models import Balancer
from shared.usecases.driver import Driver, Owner, Snapshot, Staged
from shared.usecases.driver_registry import build_driver
from shared.usecases.region_work import work_in_region
from shared.usecases.sweep import sweep
from shared.usecases.validation import validate_job
from tests.support.fleet import REGIONS, Fleet, server_upload

SICK = "eu-central-1"


class Flaky:
    """A directory region that fails in a chosen way; counts what it is asked."""

    def __init__(self, inner: Driver, errors: list[Exception], calls: list[str], *, does_it: bool = False) -> None:
        self.inner, self.errors, self.calls, self.does_it = inner, errors, calls, does_it
        self.capabilities = inner.capabilities

    def fenced(self, _fence: int) -> Self:
        return self

    def snapshot(self) -> Snapshot:
        self.calls.append("snapshot")
        return self.inner.snapshot()

    def stage(self, material: Material, *, owner: Owner) -> Staged:
        self.calls.append("stage")
        if self.errors and not self.does_it:
            raise self.errors.pop(0)
        staged = self.inner.stage(material, owner=owner)
        if self.errors:
            raise self.errors.pop(0)
        return staged


def make_flaky(fleet: Fleet, errors: list[Exception], *, does_it: bool = False) -> list[str]:
    calls: list[str] = []

    def driver_for(region: Region) -> Driver:
        driver = build_driver(region)
        return Flaky(driver, errors, calls, does_it=does_it) if region.id == SICK else driver  # type: ignore[return-value] # the verbs used here

    fleet.driver_for = driver_for
    return calls


def balancer(fleet: Fleet) -> Balancer:
    with fleet.transaction() as session:
        return session.get_one(Balancer, SICK)


def go_on(fleet: Fleet, step: timedelta) -> None:
    fleet.pass_time(step)
    sweep(fleet.context, now=fleet.now)
    fleet.run()


def test_what_waits_for_a_silent_region_uses_up_no_attempt(fleet: Fleet) -> None:
    calls = make_flaky(fleet, [Unreachable("Silence.")] * THRESHOLD)
    made = [fleet.submit(server_upload(f"h{number}.example.com")) for number in range(10)]
    fleet.run()
    assert calls == ["stage"] * THRESHOLD
    rows = [fleet.deployments(certificate_id)[SICK] for _, certificate_id in made]
    assert sorted(row.attempt for row in rows) == [0] * (10 - THRESHOLD) + [1] * THRESHOLD
    assert {row.next_attempt_at for row in rows if not row.attempt} == {fleet.now + FIRST_PAUSE}
    assert balancer(fleet).circuit_retry_at == fleet.now + FIRST_PAUSE
    for job_id, certificate_id in made:
        assert fleet.job(job_id).state == "deploying"
        assert {fleet.deployments(certificate_id)[each].state for each in REGIONS if each != SICK} == {"deployed"}


def test_once_it_answers_everything_goes_through(fleet: Fleet) -> None:
    make_flaky(fleet, [Unreachable("Silence.")] * (THRESHOLD + 1))
    made = [fleet.submit(server_upload(f"h{number}.example.com")) for number in range(5)]
    fleet.run()
    go_on(fleet, FIRST_PAUSE)
    assert balancer(fleet).silences == THRESHOLD + 1
    go_on(fleet, timedelta(minutes=11))
    assert [fleet.job(job_id).state for job_id, _ in made] == ["succeeded"] * 5
    assert (balancer(fleet).silences, balancer(fleet).circuit_opened_at) == (0, None)


def test_after_a_lost_answer_one_looks_before_anything_is_sent_again(fleet: Fleet) -> None:
    calls = make_flaky(fleet, [OutcomeUnknown("The answer was lost.")], does_it=True)
    job_id, certificate_id = fleet.submit(server_upload())
    fleet.run()
    assert calls == ["stage"]
    go_on(fleet, timedelta(minutes=1))
    assert calls == ["stage", "snapshot"]
    row = fleet.deployments(certificate_id)[SICK]
    assert (row.state, row.attempt) == ("deployed", 2)
    assert fleet.job(job_id).state == "succeeded"


def test_what_is_not_there_after_all_is_sent_again(fleet: Fleet) -> None:
    calls = make_flaky(fleet, [OutcomeUnknown("The answer was lost.")])
    job_id, _ = fleet.submit(server_upload())
    fleet.run()
    go_on(fleet, timedelta(minutes=1))
    assert calls == ["stage", "snapshot", "stage"]
    assert fleet.job(job_id).state == "succeeded"


@pytest.mark.parametrize("hanging", [1, 3])
def test_regions_that_hang_hold_up_no_other(fleet: Fleet, hanging: int) -> None:
    """All regions but the hanging ones are done while these still hang."""
    release = threading.Event()
    sick = set(REGIONS[:hanging])

    class Hanging(Flaky):
        def stage(self, material: Material, *, owner: Owner) -> Staged:
            release.wait(60)
            return super().stage(material, owner=owner)

    def driver_for(region: Region) -> Driver:
        driver = build_driver(region)
        return Hanging(driver, [], []) if region.id in sick else driver  # type: ignore[return-value] # the verbs used here

    fleet.driver_for = driver_for
    made = [fleet.submit(server_upload(f"h{number}.example.com")) for number in range(4)]
    for job_id, _ in made:
        validate_job(fleet.context, job_id, now=fleet.now)
    with ThreadPoolExecutor(8) as pool:
        stuck = [pool.submit(work_in_region, fleet.context, fleet.tools, region) for region in sorted(sick)]
        others = [pool.submit(work_in_region, fleet.context, fleet.tools, each) for each in REGIONS if each not in sick]
        for future in others:
            future.result(30)
        for _, certificate_id in made:
            rows = fleet.deployments(certificate_id)
            assert {rows[each].state for each in REGIONS if each not in sick} <= {"deployed"}
        assert not any(future.done() for future in stuck)
        release.set()
        for future in stuck:
            future.result(30)
    assert [fleet.job(job_id).state for job_id, _ in made] == ["succeeded"] * 4
