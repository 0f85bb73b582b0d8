"""One sick region: the others are untouched, it alone is retried, and it can be removed and added."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from shared.config.regions import Region
from shared.domain.certificates import Material
from shared.errors import Conflict, NotFound, OutcomeUnknown, Rejected, Unreachable
from shared.models import Purpose, Secret
from shared.usecases import rollout
from shared.usecases.driver import Driver, Owner, Staged
from shared.usecases.driver_registry import build_driver
from shared.usecases.sweep import sweep
from tests.support.fleet import REGIONS, Fleet, new_caller, server_upload
from tests.support.wrapped_driver import WrappedDriver

SICK = "eu-central-1"


class Shaky(WrappedDriver[Driver]):
    """A real directory region whose ``stage`` raises the given errors first."""

    def __init__(self, inner: Driver, errors: list[Exception]) -> None:
        super().__init__(inner)
        self._errors = errors

    def stage(self, material: Material, *, owner: Owner) -> Staged:
        if self._errors:
            raise self._errors.pop(0)
        return self.inner.stage(material, owner=owner)


def make_sick(fleet: Fleet, errors: list[Exception]) -> None:
    def driver_for(region: Region) -> Driver:
        driver = build_driver(region)
        return Shaky(driver, errors) if region.id == SICK else driver  # type: ignore[return-value] # delegates the rest

    fleet.driver_for = driver_for


def break_disk(place: Path) -> Path:
    """A plain file where the region's directory should be: root cannot write there, either."""
    path = place / SICK
    path.write_text("not a directory")
    return path


def heal_disk(path: Path) -> None:
    path.unlink()


def test_a_permanent_fault_fails_only_its_region_and_says_why(fleet: Fleet, tmp_path: Path) -> None:
    break_disk(tmp_path)
    job_id, certificate_id = fleet.submit(server_upload())
    fleet.run()
    deployments = fleet.deployments(certificate_id)
    assert {region: row.state for region, row in deployments.items()} == {
        "cn-hangzhou": "deployed",
        SICK: "failed",
        "us-west-1": "deployed",
    }
    error = deployments[SICK].error
    assert error is not None
    assert error["retryable"] is False
    assert str(tmp_path / SICK) in error["message"]
    job = fleet.job(job_id)
    assert job.state == "partially_succeeded"
    assert job.error is not None
    assert SICK in job.error["message"]


def test_a_retry_touches_only_the_failed_region(fleet: Fleet, tmp_path: Path) -> None:
    path = break_disk(tmp_path)
    first_job, certificate_id = fleet.submit(server_upload())
    fleet.run()
    before = {region: row.updated_at for region, row in fleet.deployments(certificate_id).items()}
    heal_disk(path)
    fleet.pass_time(timedelta(minutes=1))
    retry_job = fleet.retry(certificate_id, SICK)
    fleet.run()
    assert fleet.job(retry_job).state == "succeeded"
    after = fleet.deployments(certificate_id)
    assert after[SICK].state == "deployed"
    assert {region for region in REGIONS if after[region].updated_at != before[region]} == {SICK}
    assert fleet.job(first_job).state == "partially_succeeded"


@pytest.mark.parametrize("error", [Unreachable("no answer"), OutcomeUnknown("the answer was lost")])
def test_a_passing_fault_is_retried_by_itself(fleet: Fleet, error: Exception) -> None:
    make_sick(fleet, [error, error])
    job_id, certificate_id = fleet.submit(server_upload())
    fleet.run()
    waiting = fleet.deployments(certificate_id)[SICK]
    assert waiting.state == "pending"
    assert waiting.error is not None
    assert waiting.error["retryable"] is True
    assert waiting.error["next_attempt_at"].endswith("Z")
    for _ in range(3):
        fleet.pass_time(timedelta(minutes=2))
        sweep(fleet.context, now=fleet.now)
        fleet.run()
    assert fleet.job(job_id).state == "succeeded"
    assert fleet.deployments(certificate_id)[SICK].attempt == 3


def test_attempts_are_bounded_and_a_used_up_region_gives_its_slot_back(fleet: Fleet) -> None:
    make_sick(fleet, [Unreachable("no answer") for _ in range(99)])
    job_id, certificate_id = fleet.submit(server_upload())
    fleet.run()
    for _ in range(10):
        fleet.pass_time(timedelta(minutes=11))
        sweep(fleet.context, now=fleet.now)
        fleet.run()
    row = fleet.deployments(certificate_id)[SICK]
    assert (row.state, row.attempt, row.holds_slot) == ("failed", 6, False)
    assert fleet.job(job_id).state == "partially_succeeded"


def test_an_unexpected_exception_of_a_driver_tells_users_nothing_of_its_text(fleet: Fleet) -> None:
    make_sick(fleet, [ValueError("secret detail") for _ in range(99)])
    _, certificate_id = fleet.submit(server_upload())
    fleet.run()
    error = fleet.deployments(certificate_id)[SICK].error
    assert error is not None
    assert error["code"] == "internal_error"
    assert "secret detail" not in str(error)


def test_regions_can_be_added_later_and_only_those_are_deployed_to(fleet: Fleet) -> None:
    _, certificate_id = fleet.submit(server_upload(regions=["cn-hangzhou"]))
    fleet.run()
    job_id = fleet.add(certificate_id, "us-west-1")
    fleet.run()
    assert fleet.job(job_id).state == "succeeded"
    assert set(fleet.deployments(certificate_id)) == {"cn-hangzhou", "us-west-1"}
    with pytest.raises(Rejected) as refused:
        fleet.add(certificate_id, "us-west-1")
    assert refused.value.code == "already_deployed"


def test_removing_a_region_takes_the_files_away_and_frees_the_slot(fleet: Fleet, tmp_path: Path) -> None:
    _, certificate_id = fleet.submit(server_upload())
    fleet.run()
    job_id = fleet.change(rollout.remove_region, certificate_id, "us-west-1")
    fleet.run()
    assert fleet.job(job_id).state == "succeeded"
    row = fleet.deployments(certificate_id)["us-west-1"]
    assert (row.state, row.holds_slot) == ("removed", False)
    assert not list((tmp_path / "us-west-1").rglob("*.key"))
    assert list((tmp_path / "cn-hangzhou").rglob("*.key"))


def test_a_certificate_whose_key_no_longer_opens_is_removed_all_the_same(fleet: Fleet, tmp_path: Path) -> None:
    _, certificate_id = fleet.submit(server_upload())
    fleet.run()
    with fleet.transaction() as session:
        session.execute(update(Secret).where(Secret.purpose == Purpose.PRIVATE_KEY).values(ciphertext=b"changed"))
    job_id = fleet.change(rollout.remove_certificate, certificate_id)
    fleet.run()
    assert fleet.job(job_id).state == "succeeded"
    assert not list(tmp_path.rglob("*.key"))


def test_a_removed_region_can_have_the_certificate_again(fleet: Fleet) -> None:
    _, certificate_id = fleet.submit(server_upload())
    fleet.run()
    fleet.change(rollout.remove_region, certificate_id, SICK)
    fleet.run()
    fleet.add(certificate_id, SICK)
    fleet.run()
    assert fleet.deployments(certificate_id)[SICK].state == "deployed"


def test_deleting_removes_it_everywhere_and_destroys_the_key(fleet: Fleet, tmp_path: Path) -> None:
    _, certificate_id = fleet.submit(server_upload())
    fleet.run()
    job_id = fleet.change(rollout.remove_certificate, certificate_id)
    fleet.run()
    assert fleet.job(job_id).state == "succeeded"
    assert fleet.certificate(certificate_id).state == "deleted"
    assert not list(tmp_path.rglob("*.key"))
    with pytest.raises(NotFound):
        fleet.change(rollout.remove_certificate, certificate_id)


def test_a_deletion_that_one_region_refuses_is_finished_by_retrying_it(fleet: Fleet, tmp_path: Path) -> None:
    _, certificate_id = fleet.submit(server_upload())
    fleet.run()
    aside = tmp_path / "aside"
    (tmp_path / SICK).rename(aside)
    path = break_disk(tmp_path)
    fleet.change(rollout.remove_certificate, certificate_id)
    fleet.run()
    assert fleet.certificate(certificate_id).state == "deleting"
    assert fleet.deployments(certificate_id)[SICK].holds_slot
    heal_disk(path)
    shutil.move(aside, path)
    fleet.retry(certificate_id, SICK)
    fleet.run()
    assert fleet.certificate(certificate_id).state == "deleted"


def test_a_region_at_work_is_not_given_a_second_job(fleet: Fleet) -> None:
    _, certificate_id = fleet.submit(server_upload())
    with pytest.raises(Conflict) as busy:
        fleet.change(rollout.remove_region, certificate_id, SICK)
    assert busy.value.context["regions"] == [SICK]


def test_a_region_that_has_not_failed_cannot_be_retried(fleet: Fleet) -> None:
    _, certificate_id = fleet.submit(server_upload())
    fleet.run()
    with pytest.raises(Conflict, match="has not failed"):
        fleet.retry(certificate_id, SICK)


def test_another_account_finds_nothing_to_change(fleet: Fleet) -> None:
    _, certificate_id = fleet.submit(server_upload())
    fleet.run()
    fleet.caller = new_caller(fleet.context, "other", now=fleet.now)
    attempts: list[Callable[[], str]] = [
        lambda: fleet.add(certificate_id, "cn-hangzhou"),
        lambda: fleet.retry(certificate_id, SICK),
        lambda: fleet.change(rollout.remove_region, certificate_id, SICK),
        lambda: fleet.change(rollout.remove_certificate, certificate_id),
    ]
    for attempt in attempts:
        with pytest.raises(NotFound):
            attempt()
