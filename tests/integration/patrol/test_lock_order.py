"""The patrol and the work in a region take rows in the same order: deployments, then listeners."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from shared.domain.rollout import JobState
from shared.models import Deployment, Listener
from shared.usecases.replacement import NewContent, replace_certificate
from tests.support import pki
from tests.support.fleet import Fleet
from tests.support.listeners import add_listener, listener_of
from tests.support.locks import PATIENCE_SECONDS, wait_until_somebody_waits_for_a_lock
from tests.support.patrols import TOLD, bound, deployment_of

HOST: Final = "shop.example.com"


def replaced(fleet: Fleet, certificate_id: str) -> str:
    """Ask for new content, and validate it; the region's work is left to the test. The job's id."""
    issued = pki.server_with_chain(HOST)
    content = NewContent(certificate=issued.chain_pem, private_key=issued.key_pem)
    with fleet.transaction() as session:
        job, *_ = replace_certificate(fleet.context, session, fleet.caller, certificate_id, content, now=fleet.now)
        return job.id


def test_a_replacement_waits_for_a_patrol_that_holds_the_deployment_and_then_finishes(fleet: Fleet) -> None:
    certificate_id, listener_id = bound(fleet, HOST)
    job_id = replaced(fleet, certificate_id)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with fleet.transaction() as patrol:
            patrol.get_one(Deployment, deployment_of(fleet, certificate_id).id, with_for_update=True)
            worker = pool.submit(fleet.run)
            wait_until_somebody_waits_for_a_lock(fleet)
            patrol.get_one(Listener, listener_id, with_for_update=True)
        worker.result(PATIENCE_SECONDS)
    assert fleet.job(job_id).state == JobState.SUCCEEDED
    assert listener_of(fleet, listener_id).server_certificate_id != certificate_id


def test_a_binding_waits_for_a_patrol_that_holds_the_deployment_and_then_finishes(fleet: Fleet) -> None:
    certificate_id, listener_id = bound(fleet, HOST)
    second = add_listener(fleet, TOLD, ["api.example.com"], server=certificate_id)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with fleet.transaction() as patrol:
            patrol.get_one(Deployment, deployment_of(fleet, certificate_id).id, with_for_update=True)
            worker = pool.submit(fleet.run)
            wait_until_somebody_waits_for_a_lock(fleet)
            patrol.get_one(Listener, listener_id, with_for_update=True)
            patrol.get_one(Listener, second, with_for_update=True)
        worker.result(PATIENCE_SECONDS)
    assert listener_of(fleet, second).attempt == 1
    assert listener_of(fleet, second).served == "match"
