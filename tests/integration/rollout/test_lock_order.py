"""A request and a worker that need the same rows take them in the same order, so neither is thrown out."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from shared.domain.certificates import CertificateState
from shared.domain.rollout import JobState
from shared.models import Deployment
from shared.usecases import rollout
from shared.usecases.browsing import find_certificate
from shared.usecases.validation import validate_job
from tests.support.fleet import REGIONS, Fleet, server_upload
from tests.support.locks import PATIENCE_SECONDS, wait_until_somebody_waits_for_a_lock


def being_validated(fleet: Fleet) -> tuple[str, str]:
    return fleet.submit(server_upload(regions=REGIONS[:1]))


def being_deleted(fleet: Fleet) -> tuple[str, str]:
    _, certificate_id = fleet.submit(server_upload(regions=REGIONS[:1]))
    fleet.run()
    job_id = fleet.change(rollout.remove_certificate, certificate_id)
    fleet.room.waiting.clear()
    validate_job(fleet.context, job_id, now=fleet.now)  # wakes the region, which is left to the test
    return job_id, certificate_id


@pytest.mark.parametrize(
    ("begin", "ends_as"),
    [(being_validated, CertificateState.VALID), (being_deleted, CertificateState.DELETED)],
)
def test_a_request_that_holds_the_certificate_lets_the_worker_wait_and_then_finish(
    fleet: Fleet, begin: Callable[[Fleet], tuple[str, str]], ends_as: CertificateState
) -> None:
    job_id, certificate_id = begin(fleet)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with fleet.transaction() as request:
            find_certificate(request, fleet.caller, certificate_id, lock=True)
            worker = pool.submit(fleet.run)
            wait_until_somebody_waits_for_a_lock(fleet)
            request.execute(select(Deployment).where(Deployment.certificate_id == certificate_id).with_for_update())
        worker.result(PATIENCE_SECONDS)

    assert fleet.job(job_id).state == JobState.SUCCEEDED
    assert fleet.certificate(certificate_id).state == ends_as
