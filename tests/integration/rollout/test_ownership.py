"""Leases, fences and quota slots: two workers never do one thing, two requests never take one slot."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from shared.config.regions import Region
from shared.domain.certificates import Material
from shared.models import Deployment, Job, Secret, leases
from shared.usecases import rollout
from shared.usecases.driver import Driver, Owner, Staged
from shared.usecases.driver_registry import build_driver
from shared.usecases.validation import validate_job
from shared.wakeups import Task
from tests.support.fleet import Fleet, build_fleet, region, server_upload
from tests.support.wrapped_driver import WrappedDriver

REGION = "cn-hangzhou"


def validated_deployment(fleet: Fleet) -> tuple[str, str, str]:
    """Job, certificate and the one deployment that is due."""
    job_id, certificate_id = fleet.submit(server_upload(regions=[REGION]))
    fleet.room.waiting.clear()
    validate_job(fleet.context, job_id, now=fleet.now)
    fleet.room.waiting.clear()
    return job_id, certificate_id, fleet.deployments(certificate_id)[REGION].id


def test_of_many_workers_woken_for_one_region_exactly_one_works(fleet: Fleet) -> None:
    job_id, certificate_id, deployment_id = validated_deployment(fleet)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: fleet.work(deployment_id), range(8)))
    assert fleet.deployments(certificate_id)[REGION].attempt == 1
    assert fleet.job(job_id).state == "succeeded"


def test_a_stale_worker_changes_nothing(fleet: Fleet) -> None:
    """While the first worker stages, its lease runs out and a second one does the work."""
    job_id, certificate_id, deployment_id = validated_deployment(fleet)

    class Overtaken(WrappedDriver[Driver]):
        def stage(self, material: Material, *, owner: Owner) -> Staged:
            fleet.pass_time(fleet.context.settings.lease + timedelta(seconds=1))
            fleet.work(deployment_id)
            return self.inner.stage(material, owner=owner)

    def driver_for(declared: Region) -> Driver:
        return Overtaken(build_driver(declared))  # type: ignore[return-value] # delegates the rest

    fleet.work(deployment_id, driver_for=driver_for)
    row = fleet.deployments(certificate_id)[REGION]
    assert (row.state, row.attempt, row.fence) == ("deployed", 2, 2)
    assert fleet.job(job_id).state == "succeeded"


def test_a_worker_that_died_leaves_work_that_is_taken_up_after_its_lease(fleet: Fleet) -> None:
    job_id, _, deployment_id = validated_deployment(fleet)
    with fleet.transaction() as session:
        assert leases.claim(session, Deployment, deployment_id, now=fleet.now, lease=timedelta(seconds=60)) == 1
    fleet.work(deployment_id)
    assert fleet.job(job_id).state == "deploying"
    fleet.pass_time(timedelta(seconds=61))
    with fleet.transaction() as session:
        assert leases.take_unowned(session, Deployment, now=fleet.now, limit=10) == [deployment_id]
    fleet.work(deployment_id)
    assert fleet.job(job_id).state == "succeeded"


def test_the_sweep_does_not_multiply_its_own_wake_ups(fleet: Fleet) -> None:
    _, _, deployment_id = validated_deployment(fleet)
    fleet.pass_time(timedelta(seconds=11))
    with fleet.transaction() as session:
        assert leases.take_unowned(session, Deployment, now=fleet.now, limit=10) == [deployment_id]
        assert leases.take_unowned(session, Deployment, now=fleet.now, limit=10) == []


def test_fifty_concurrent_submissions_for_the_last_slot_give_one_success_and_forty_nine_quota_errors(
    database_url: str, tmp_path: Path
) -> None:
    fleet = build_fleet(database_url, tmp_path, regions=[region(tmp_path, REGION, quota=1)])
    submitted = [fleet.submit(server_upload(f"h{number}.example.com", regions=[REGION])) for number in range(50)]
    fleet.room.waiting.clear()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda pair: validate_job(fleet.context, pair[0], now=fleet.now), submitted))
    regions = [wake_up.id for wake_up in fleet.room.waiting if wake_up.task is Task.REGION]
    assert len(regions) == 1
    fleet.run()
    jobs = [fleet.job(job_id) for job_id, _ in submitted]
    assert Counter(job.state for job in jobs) == {"succeeded": 1, "failed": 49}
    assert Counter(job.error["code"] for job in jobs if job.error) == {"quota_exceeded": 49}
    fleet.context.database.close()


def test_a_deployment_that_kills_every_worker_is_told_and_not_tried_for_ever(fleet: Fleet) -> None:
    job_id, certificate_id, deployment_id = validated_deployment(fleet)

    class Killed(BaseException):
        """Like a kill -9: nothing after it runs."""

    def kills(_declared: Region) -> Driver:
        raise Killed

    for _ in range(6):
        with pytest.raises(Killed):
            fleet.work(deployment_id, driver_for=kills)
        fleet.pass_time(fleet.context.settings.lease)
    fleet.work(deployment_id, driver_for=kills)
    row = fleet.deployments(certificate_id)[REGION]
    assert (row.state, row.attempt, row.holds_slot) == ("failed", 6, True)
    assert row.error is not None
    assert row.error["code"] == "worker_lost"
    assert fleet.job(job_id).state == "failed"


def test_a_key_that_no_longer_opens_fails_its_region_and_says_so(fleet: Fleet) -> None:
    job_id, certificate_id, deployment_id = validated_deployment(fleet)
    with fleet.transaction() as session:
        session.execute(update(Secret).values(ciphertext=b"changed"))
    fleet.work(deployment_id)
    row = fleet.deployments(certificate_id)[REGION]
    assert row.error is not None
    assert row.error["code"] == "secret_unreadable"
    assert fleet.job(job_id).state == "failed"


def test_an_upload_that_no_longer_opens_fails_its_job_and_says_so(fleet: Fleet) -> None:
    job_id, certificate_id = fleet.submit(server_upload())
    with fleet.transaction() as session:
        session.execute(update(Secret).values(ciphertext=b"changed"))
    fleet.run()
    job = fleet.job(job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error["code"] == "secret_unreadable"
    assert fleet.certificate(certificate_id).state == "rejected"


def test_a_validation_that_kills_every_worker_is_told_and_not_tried_for_ever(fleet: Fleet) -> None:
    job_id, certificate_id = fleet.submit(server_upload())
    for _ in range(3):
        with fleet.transaction() as session:
            assert leases.claim(session, Job, job_id, now=fleet.now, lease=timedelta(seconds=60))
            session.get_one(Job, job_id).attempt += 1
        fleet.pass_time(timedelta(seconds=61))
    validate_job(fleet.context, job_id, now=fleet.now)
    job = fleet.job(job_id)
    assert job.error is not None
    assert (job.state, job.error["code"]) == ("failed", "internal_error")
    assert {row.state for row in fleet.deployments(certificate_id).values()} == {"failed"}


def test_an_earlier_job_keeps_its_answer_when_a_region_has_moved_on(fleet: Fleet) -> None:
    """One region is removed again while another of the same job is still at work."""
    job_id, certificate_id = fleet.submit(server_upload(regions=[REGION, "us-west-1"]))
    fleet.room.waiting.clear()
    validate_job(fleet.context, job_id, now=fleet.now)
    fleet.room.waiting.clear()
    rows = fleet.deployments(certificate_id)
    fleet.work(rows[REGION].id)
    fleet.change(rollout.remove_region, certificate_id, REGION)
    fleet.work(rows["us-west-1"].id)
    assert fleet.job(job_id).state == "succeeded"
