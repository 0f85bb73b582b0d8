"""A certificate picked from a certificate service: fetched by a worker, validated like an upload, then everywhere."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from shared.domain.rollout import JobKind
from shared.errors import AuthRefused, Busy, Rejected, Unreachable
from shared.models import Secret
from shared.usecases import cancellation
from tests.support.fleet import REGIONS, Fleet
from tests.support.managed import HOST, acquisition_of, managed_upload, pick, wait
from tests.support.memory_balancers import balancer
from tests.support.memory_sources import MemoryService


def secrets_of(fleet: Fleet, certificate_id: str) -> list[str]:
    with fleet.transaction() as session:
        return list(session.execute(select(Secret.purpose).where(Secret.subject_id == certificate_id)).scalars())


def test_it_is_fetched_validated_and_deployed_everywhere(fleet: Fleet, service: MemoryService) -> None:
    offer = service.issue(HOST)
    job_id, certificate_id = pick(fleet, offer.id)
    assert service.calls == []
    fleet.run()
    assert fleet.job(job_id).state == "succeeded"
    certificate = fleet.certificate(certificate_id)
    assert (certificate.source, certificate.state) == ("managed", "valid")
    assert certificate.fingerprint_sha256 == offer.fingerprint_sha256
    assert certificate.managed_certificate_id == f"memory:{offer.id}"
    assert {row.state for row in fleet.deployments(certificate_id).values()} == {"deployed"}
    assert secrets_of(fleet, certificate_id) == ["private_key"]
    assert acquisition_of(fleet, job_id).state == "acquired"
    assert service.calls == ["fetch"]


def test_its_validation_waits_for_its_content(fleet: Fleet, service: MemoryService) -> None:
    service.faults.add("fetch", Unreachable, times=3)
    job_id, _ = pick(fleet, service.issue(HOST).id)
    fleet.run()
    job = fleet.job(job_id)
    assert (job.state, job.attempt) == ("queued", 0)
    assert job.error is not None
    assert (job.error["code"], job.error["retryable"]) == ("unreachable", True)
    wait(fleet, rounds=3)
    job = fleet.job(job_id)
    assert (job.state, job.error) == ("succeeded", None)


def test_an_algorithm_that_no_region_takes_is_refused_before_anything_is_sent(
    fleet: Fleet, service: MemoryService
) -> None:
    job_id, certificate_id = pick(fleet, service.issue(HOST, key="ec-p256").id)
    fleet.run()
    job = fleet.job(job_id)
    assert job.state == "failed"
    assert {finding["code"] for finding in job.findings} == {"key_algorithm_not_supported"}
    assert fleet.certificate(certificate_id).state == "rejected"
    for region in REGIONS:
        assert balancer(region).snapshot().objects == ()


def test_a_refusal_for_good_fails_the_job_at_once_and_says_why(fleet: Fleet, service: MemoryService) -> None:
    service.faults.add("fetch", AuthRefused)
    job_id, certificate_id = pick(fleet, service.issue(HOST).id)
    fleet.run()
    job = fleet.job(job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert (job.error["code"], job.error["message"], job.error["retryable"]) == (
        "auth_refused",
        "as told: fetch",
        False,
    )
    assert fleet.certificate(certificate_id).state == "rejected"
    assert {(row.state, row.holds_slot) for row in fleet.deployments(certificate_id).values()} == {("failed", False)}


def test_what_the_service_does_not_have_fails_the_job(fleet: Fleet, service: MemoryService) -> None:
    job_id, _ = pick(fleet, "absent")
    fleet.run()
    job = fleet.job(job_id)
    assert service.calls == ["fetch"]
    assert (job.state, (job.error or {})["code"]) == ("failed", "not_offered")


def test_a_service_that_stays_away_fails_the_job_after_its_attempts(fleet: Fleet, service: MemoryService) -> None:
    service.faults.add("fetch", Busy, times=99)
    job_id, _ = pick(fleet, service.issue(HOST).id)
    fleet.run()
    wait(fleet, rounds=40)
    assert fleet.job(job_id).state == "failed"
    assert service.calls.count("fetch") == 30
    assert acquisition_of(fleet, job_id).state == "failed"


def test_a_worker_that_died_is_followed_by_another(fleet: Fleet, service: MemoryService) -> None:
    def die(_verb: str) -> None:
        raise KeyboardInterrupt

    service.on_call = die
    job_id, _ = pick(fleet, service.issue(HOST).id)
    with pytest.raises(KeyboardInterrupt):
        fleet.run()
    service.on_call = lambda _verb: None
    wait(fleet, rounds=2)
    assert fleet.job(job_id).state == "succeeded"


def test_a_job_that_waits_for_its_service_can_be_cancelled(fleet: Fleet, service: MemoryService) -> None:
    service.faults.add("fetch", Busy, times=99)
    job_id, certificate_id = pick(fleet, service.issue(HOST).id)
    fleet.run()
    with fleet.transaction() as session:
        cancellation.cancel_job(session, fleet.caller, job_id, now=fleet.now)
    wait(fleet, rounds=2)
    assert fleet.job(job_id).state == "cancelled"
    assert acquisition_of(fleet, job_id).state == "cancelled"
    assert fleet.certificate(certificate_id).state == "rejected"
    assert service.calls == ["fetch"]


def test_cancelled_while_it_is_fetched_nothing_of_it_is_kept(fleet: Fleet, service: MemoryService) -> None:
    job_id, certificate_id = pick(fleet, service.issue(HOST).id)

    def cancel(_verb: str) -> None:
        with fleet.transaction() as session:
            cancellation.cancel_job(session, fleet.caller, job_id, now=fleet.now)

    service.on_call = cancel
    fleet.run()
    assert fleet.job(job_id).state == "cancelled"
    assert secrets_of(fleet, certificate_id) == []


def test_picked_twice_it_is_told_to_be_a_duplicate(fleet: Fleet, service: MemoryService) -> None:
    offer = service.issue(HOST)
    pick(fleet, offer.id)
    fleet.run()
    job_id, _ = pick(fleet, offer.id)
    fleet.run()
    assert "duplicate_of" in {finding["code"] for finding in fleet.job(job_id).findings}


@pytest.mark.parametrize("managed_id", ["m0001", "other:m0001", "memory:", "memory:a b", "Memory:m0001"])
def test_what_names_no_certificate_of_the_accounts_services_is_refused(
    fleet: Fleet, service: MemoryService, managed_id: str
) -> None:
    service.issue(HOST)
    with pytest.raises(Rejected) as refused:
        fleet.submit(managed_upload(managed_id))
    assert refused.value.code == "unknown_managed_certificate"


def test_the_managed_path_needs_no_upload_and_leaves_no_key_in_clear(fleet: Fleet, service: MemoryService) -> None:
    offer = service.issue(HOST)
    job_id, _ = pick(fleet, offer.id)
    fleet.run()
    line = service.offers[offer.id][1].private_key_pem.splitlines()[3].encode()
    with fleet.transaction() as session:
        sealed = session.execute(select(Secret.ciphertext)).scalars().all()
    assert sealed
    assert not any(line in one for one in sealed)
    assert fleet.job(job_id).kind == JobKind.CREATE
