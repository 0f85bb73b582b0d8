"""One request, every region: from submission to a job that tells the truth."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from shared.domain.certificates import CertificateType
from shared.events import log
from shared.models import Event, Secret
from shared.usecases import rollout
from shared.usecases.jobs import NOT_BEFORE_VALIDATION
from shared.usecases.region_work import work_in_region
from shared.usecases.sweep import sweep
from tests.support import pki
from tests.support.fleet import REGIONS, Fleet, new_upload, server_upload


def event_types(fleet: Fleet) -> list[str]:
    with fleet.transaction() as session:
        return [event.type for event in log.page(session, fleet.caller.account_id, after=0, limit=500)]


def test_a_good_chain_reaches_every_region_and_the_job_succeeds(fleet: Fleet, tmp_path: Path) -> None:
    job_id, certificate_id = fleet.submit(server_upload("www.example.com"))
    fleet.run()
    assert fleet.job(job_id).state == "succeeded"
    deployments = fleet.deployments(certificate_id)
    assert {region: row.state for region, row in deployments.items()} == dict.fromkeys(REGIONS, "deployed")
    certificate = fleet.certificate(certificate_id)
    assert certificate.common_name == "www.example.com"
    assert all(row.evidence is not None and row.remote_id for row in deployments.values())
    assert all(
        row.evidence["fingerprint_sha256"] == certificate.fingerprint_sha256
        for row in deployments.values()
        if row.evidence
    )
    assert list((tmp_path / "us-west-1").rglob("current/**/*.pem"))


def test_events_tell_the_whole_story_in_order(fleet: Fleet) -> None:
    fleet.submit(server_upload())
    fleet.run()
    types = event_types(fleet)
    assert types[:2] == ["job.queued", "certificate.validated"]
    assert types.count("deployment.started") == types.count("deployment.succeeded") == 3
    assert types[-1] == "job.succeeded"


def test_event_numbers_have_no_gaps(fleet: Fleet) -> None:
    fleet.submit(server_upload())
    fleet.run()
    with fleet.transaction() as session:
        numbers = list(session.execute(select(Event.sequence).order_by(Event.sequence)).scalars())
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_ca_certificate_needs_no_key_and_reaches_every_region(fleet: Fleet) -> None:
    root = pki.authority()
    job_id, certificate_id = fleet.submit(new_upload(type=CertificateType.CA, certificate=root.pem))
    fleet.run()
    assert fleet.job(job_id).state == "succeeded"
    assert fleet.certificate(certificate_id).chain_pem == root.pem


def test_a_bad_upload_fails_the_job_with_every_finding_and_touches_no_region(fleet: Fleet, tmp_path: Path) -> None:
    other_key = pki.key_pem(pki.private_key("rsa-2048", 7))
    expired = pki.server("old.example.com", not_after=pki.NOW - timedelta(days=1))
    job_id, certificate_id = fleet.submit(new_upload(certificate=expired.pem, private_key=other_key))
    fleet.run()
    job = fleet.job(job_id)
    assert job.state == "failed"
    assert {"expired", "key_mismatch"} <= {finding["code"] for finding in job.findings}
    assert job.error is not None
    assert job.error["code"] == "certificate_rejected"
    assert {row.state for row in fleet.deployments(certificate_id).values()} == {"failed"}
    assert not list(tmp_path.rglob("*.pem"))
    assert event_types(fleet)[-1] == "job.failed"


def test_a_rejected_upload_is_not_kept(fleet: Fleet) -> None:
    fleet.submit(new_upload(certificate="nonsense", private_key="nonsense"))
    fleet.run()
    with fleet.transaction() as session:
        kept = select(Secret).where(Secret.purpose.in_(["upload", "private_key"]))
        assert session.execute(kept).first() is None


@pytest.mark.parametrize("kind", list(CertificateType))
def test_what_was_rejected_is_removed_from_a_region_that_never_had_it(
    fleet: Fleet, tmp_path: Path, kind: CertificateType
) -> None:
    key = "nonsense" if kind is CertificateType.SERVER else None
    _, certificate_id = fleet.submit(new_upload(type=kind, certificate="nonsense", private_key=key))
    fleet.run()
    job_id = fleet.change(rollout.remove_region, certificate_id, REGIONS[0])
    fleet.run()
    assert fleet.job(job_id).state == "succeeded"
    assert fleet.deployments(certificate_id)[REGIONS[0]].state == "removed"
    assert not (tmp_path / REGIONS[0]).exists()


def test_the_same_content_twice_is_a_warning_that_names_the_twin(fleet: Fleet) -> None:
    upload = server_upload()
    _, first = fleet.submit(upload)
    fleet.run()
    job_id, _ = fleet.submit(upload)
    fleet.run()
    job = fleet.job(job_id)
    assert job.state == "succeeded"
    [finding] = [finding for finding in job.findings if finding["code"] == "duplicate_of"]
    assert first in finding["message"] + finding["hint"]


def test_while_the_broker_is_away_nothing_is_lost_and_the_sweep_brings_it(fleet: Fleet) -> None:
    fleet.room.broken = True
    job_id, _ = fleet.submit(server_upload())
    fleet.run()
    assert fleet.job(job_id).state == "queued"
    fleet.room.broken = False
    for _ in range(3):
        fleet.pass_time(timedelta(seconds=31))
        sweep(fleet.context, now=fleet.now)
        fleet.run()
    assert fleet.job(job_id).state == "succeeded"


def test_nothing_is_sent_before_the_upload_is_validated_however_long_that_takes(fleet: Fleet, tmp_path: Path) -> None:
    job_id, certificate_id = fleet.submit(server_upload())
    validation = list(fleet.room.waiting)
    for _ in range(2):
        fleet.pass_time(NOT_BEFORE_VALIDATION)
        for region in REGIONS:
            work_in_region(fleet.context, fleet.tools, region)
        assert {(row.state, row.attempt) for row in fleet.deployments(certificate_id).values()} == {("pending", 0)}
    assert not list(tmp_path.rglob("*.pem"))
    fleet.room.waiting.extend(validation)
    fleet.run()
    assert fleet.job(job_id).state == "succeeded"
