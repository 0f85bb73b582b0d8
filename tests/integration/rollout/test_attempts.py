"""Attempts: every try at a region is one row, with how it went and when the next one comes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from shared.config.regions import Region, RetryLimits
from shared.errors import Unreachable
from shared.models import Attempt
from shared.usecases import rollout
from shared.usecases.driver import Driver
from shared.usecases.driver_registry import build_driver
from shared.usecases.sweep import sweep
from tests.support.fleet import REGIONS, Fleet, server_upload

SICK = "eu-central-1"


class Killed(BaseException):
    """Like a kill -9: nothing after it runs."""


def break_region(fleet: Fleet, error: BaseException, *, times: int) -> None:
    left = [error] * times

    def driver_for(region: Region) -> Driver:
        if region.id == SICK and left:
            raise left.pop()
        return build_driver(region)

    fleet.driver_for = driver_for


def attempts(fleet: Fleet, region: str = SICK) -> list[dict[str, Any]]:
    with fleet.transaction() as session:
        rows = session.execute(select(Attempt).where(Attempt.region == region).order_by(Attempt.id)).scalars().all()
        return [
            {"number": row.number, "action": row.action, "outcome": row.outcome, "error": row.error, "at": row.ended_at}
            for row in rows
        ]


def go_on(fleet: Fleet) -> None:
    fleet.pass_time(timedelta(minutes=11))
    sweep(fleet.context, now=fleet.now)
    fleet.run()


def test_each_region_has_one_that_succeeded(fleet: Fleet) -> None:
    fleet.submit(server_upload())
    fleet.run()
    for region in REGIONS:
        (only,) = attempts(fleet, region)
        assert only == {"number": 1, "action": "deploy", "outcome": "succeeded", "error": None, "at": fleet.now}


def test_a_failure_is_kept_with_its_reason_and_the_time_of_the_next(fleet: Fleet) -> None:
    break_region(fleet, Unreachable("Gone fishing."), times=2)
    job_id, _ = fleet.submit(server_upload())
    fleet.run()
    (first,) = attempts(fleet)
    assert (first["outcome"], first["at"]) == ("failed", fleet.now)
    assert first["error"]["message"] == "Gone fishing."
    assert first["error"]["retryable"] is True
    assert first["error"]["next_attempt_at"].endswith("Z")
    go_on(fleet)
    go_on(fleet)
    assert [(one["number"], one["outcome"]) for one in attempts(fleet)] == [
        (1, "failed"),
        (2, "failed"),
        (3, "succeeded"),
    ]
    assert fleet.job(job_id).state == "succeeded"


def test_a_region_is_given_up_at_its_own_deadline_though_attempts_are_left(fleet: Fleet) -> None:
    regions = fleet.context.settings.regions
    limits = RetryLimits(max_attempts=99, deadline=timedelta(minutes=30))
    regions[SICK] = replace(regions[SICK], retry=limits)
    break_region(fleet, Unreachable("Gone."), times=99)
    job_id, certificate_id = fleet.submit(server_upload())
    fleet.run()
    for _ in range(2):
        go_on(fleet)  # 22 minutes after the first attempt
    assert fleet.deployments(certificate_id)[SICK].state == "pending"
    go_on(fleet)
    row = fleet.deployments(certificate_id)[SICK]
    assert (row.state, row.attempt) == ("failed", 4)
    assert fleet.job(job_id).state == "partially_succeeded"
    fleet.retry(certificate_id, SICK)
    fleet.run()
    assert fleet.deployments(certificate_id)[SICK].state == "pending"  # another job has its own time


def test_a_worker_that_died_leaves_an_attempt_that_the_next_one_finds_lost(fleet: Fleet) -> None:
    break_region(fleet, Killed(), times=1)
    fleet.submit(server_upload())
    with pytest.raises(Killed):
        fleet.run()
    (started,) = attempts(fleet)
    assert (started["outcome"], started["at"]) == ("started", None)
    fleet.run()
    go_on(fleet)
    assert [(one["number"], one["outcome"]) for one in attempts(fleet)] == [(1, "lost"), (2, "succeeded")]
    assert attempts(fleet)[0]["error"]["code"] == "worker_lost"


def test_a_retry_and_a_removal_begin_again_at_one(fleet: Fleet) -> None:
    break_region(fleet, Unreachable("Gone."), times=6)
    _, certificate_id = fleet.submit(server_upload())
    fleet.run()
    for _ in range(6):
        go_on(fleet)
    fleet.retry(certificate_id, SICK)
    fleet.run()
    assert [(one["number"], one["outcome"]) for one in attempts(fleet)][-2:] == [(6, "failed"), (1, "succeeded")]
    fleet.change(rollout.remove_region, certificate_id, SICK)
    fleet.run()
    last = attempts(fleet)[-1]
    assert (last["number"], last["action"], last["outcome"]) == (1, "remove", "succeeded")
