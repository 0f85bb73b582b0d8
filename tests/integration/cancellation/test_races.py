"""Cancelling while others are at the same rows: never a lost or a doubled end, never a row that waits for nobody."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import func, select

from shared.domain.rollout import CANCELLED
from shared.errors import Conflict, OutcomeUnknown
from shared.models import AuditEntry, Certificate, Deployment, Listener, leases
from shared.usecases import rollout
from shared.usecases.validation import validate_job
from tests.support.cancelling import (
    HOST,
    answers,
    cancel,
    deployed,
    must_be_over,
    replace,
    served,
    settle_down,
    validate,
    validated,
    work,
)
from tests.support.fleet import REGIONS, Fleet, server_upload
from tests.support.listeners import add_listener, listener_of
from tests.support.memory_balancers import balancer

FIRST, SECOND, THIRD = REGIONS
ROUNDS = 12
PATIENCE_SECONDS = 30.0


def at_once(*deeds: Callable[[], object]) -> list[object]:
    """All of them in threads that leave the line together; what each answered, or the conflict that it met."""
    line = Barrier(len(deeds))

    def run(deed: Callable[[], object]) -> object:
        line.wait(PATIENCE_SECONDS)
        try:
            return deed()
        except Conflict as refusal:
            return refusal

    with ThreadPoolExecutor(len(deeds)) as pool:
        return list(pool.map(run, deeds, timeout=PATIENCE_SECONDS))


@pytest.mark.parametrize("number", range(ROUNDS))
def test_cancel_against_the_claims_of_all_regions(fleet: Fleet, number: int) -> None:
    job_id, certificate_id = validated(fleet)
    regions = REGIONS[number % 3 :] + REGIONS[: number % 3]
    workers = [lambda region=region: work(fleet, certificate_id, region) for region in regions]
    at_once(*workers, lambda: cancel(fleet, job_id))
    settle_down(fleet)
    must_be_over(fleet, job_id)
    for region, answer in answers(fleet, job_id).items():
        row = fleet.deployments(certificate_id)[region]
        expected = ("deployed", True, 1) if answer == "deployed" else ("failed", False, 0)
        assert (row.state, row.holds_slot, len(balancer(region).snapshot().objects)) == expected, answer


@pytest.mark.parametrize("number", range(ROUNDS))
def test_cancel_against_the_last_settlement(fleet: Fleet, number: int) -> None:
    """The worker has staged; it settles while the job is cancelled."""
    job_id, certificate_id = fleet.submit(server_upload(HOST, regions=REGIONS[: 1 + number % 2]))
    validate(fleet, job_id)
    line = Barrier(2)
    balancer(FIRST).faults.run("stage", lambda: line.wait(PATIENCE_SECONDS), after=True)

    def cancel_then() -> None:
        line.wait(PATIENCE_SECONDS)
        cancel(fleet, job_id)

    at_once(lambda: work(fleet, certificate_id, FIRST), cancel_then)
    settle_down(fleet)
    must_be_over(fleet, job_id)
    assert answers(fleet, job_id)[FIRST] == "deployed"


@pytest.mark.parametrize("number", range(ROUNDS))
def test_cancel_against_the_validation(fleet: Fleet, number: int) -> None:
    if number % 2:
        old, _ = served(fleet)
        job_id, certificate_id = replace(fleet, old)
    else:
        job_id, certificate_id = fleet.submit(server_upload(HOST))
    at_once(lambda: validate_job(fleet.context, job_id, now=fleet.now), lambda: cancel(fleet, job_id))
    settle_down(fleet)
    must_be_over(fleet, job_id)
    assert fleet.certificate(certificate_id).state in {"valid", "rejected"}
    if number % 2:
        used = [row for row in fleet.deployments(certificate_id).values() if row.state == "deployed"]
        assert (fleet.certificate(old).replaced_by_id == certificate_id) is bool(used)


def test_many_who_cancel_at_once_are_one_deed(fleet: Fleet) -> None:
    job_id, _ = validated(fleet)
    at_once(*[lambda: cancel(fleet, job_id)] * 12)
    must_be_over(fleet, job_id)
    with fleet.transaction() as session:
        noted = select(func.count()).where(AuditEntry.action == "job.cancellation_requested")
        assert session.execute(noted).scalar_one() == 1


@pytest.mark.parametrize("_number", range(ROUNDS))
def test_cancel_against_a_failing_attempt_is_never_followed_by_another(fleet: Fleet, _number: int) -> None:
    job_id, certificate_id = fleet.submit(server_upload(HOST, regions=[FIRST]))
    validate(fleet, job_id)
    line = Barrier(2)

    def lose() -> None:
        line.wait(PATIENCE_SECONDS)
        raise OutcomeUnknown("The answer was lost.")

    balancer(FIRST).faults.run("stage", lose, after=True)

    def cancel_then() -> None:
        line.wait(PATIENCE_SECONDS)
        cancel(fleet, job_id)

    at_once(lambda: work(fleet, certificate_id, FIRST), cancel_then)
    settle_down(fleet)
    must_be_over(fleet, job_id)
    row = fleet.deployments(certificate_id)[FIRST]
    assert (row.attempt, row.holds_slot, answers(fleet, job_id)) == (1, False, {FIRST: CANCELLED})
    assert balancer(FIRST).snapshot().objects == ()


@pytest.mark.parametrize("number", range(ROUNDS))
def test_cancel_against_the_claim_of_a_listener(fleet: Fleet, number: int) -> None:
    listener_id = add_listener(fleet, FIRST, [HOST], server=deployed(fleet))
    job_id = listener_of(fleet, listener_id).job_id
    deeds = [fleet.run, lambda: cancel(fleet, job_id)]
    at_once(*(deeds if number % 2 else reversed(deeds)))
    settle_down(fleet)
    must_be_over(fleet, job_id)
    row = listener_of(fleet, listener_id)
    is_bound = answers(fleet, job_id) == {FIRST: "bound"}
    assert row.state == ("bound" if is_bound else "failed")
    assert (balancer(FIRST).shown_to(HOST) is not None) is is_bound


@pytest.mark.parametrize("model", [Certificate, Deployment])
@pytest.mark.parametrize("is_validated", [False, True])
def test_whoever_cancels_waits_for_nobody_and_the_worker_does_the_rest(
    fleet: Fleet,
    model: type[Certificate | Deployment],
    is_validated: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    job_id, certificate_id = validated(fleet) if is_validated else fleet.submit(server_upload(HOST))
    row_id = certificate_id if model is Certificate else fleet.deployments(certificate_id)[SECOND].id
    with fleet.transaction() as somebody:
        somebody.get_one(model, row_id, with_for_update={"key_share": True})
        assert cancel(fleet, job_id) == ("deploying" if is_validated else "queued")
    settle_down(fleet)
    must_be_over(fleet, job_id)
    assert set(answers(fleet, job_id).values()) == {CANCELLED}
    assert [balancer(region).calls for region in REGIONS] == [[], [], []]


def test_a_listener_that_is_locked_is_stopped_by_the_worker(fleet: Fleet) -> None:
    listener_id = add_listener(fleet, FIRST, [HOST], server=deployed(fleet))
    job_id = listener_of(fleet, listener_id).job_id
    with fleet.transaction() as somebody:
        somebody.get_one(Listener, listener_id, with_for_update=True)
        assert cancel(fleet, job_id) == "queued"
    settle_down(fleet)
    must_be_over(fleet, job_id)
    assert answers(fleet, job_id) == {FIRST: CANCELLED}


@pytest.mark.parametrize("number", range(ROUNDS))
def test_cancel_against_a_removal_and_whoever_asks_for_something_else(fleet: Fleet, number: int) -> None:
    """The deletion of a certificate is cancelled while a region settles and somebody adds another region."""
    certificate_id = deployed(fleet)
    job_id = fleet.change(rollout.remove_certificate, certificate_id)
    validate(fleet, job_id)
    deeds: list[Callable[[], object]] = [
        lambda: work(fleet, certificate_id, REGIONS[number % 3]),
        lambda: cancel(fleet, job_id),
        lambda: fleet.change(rollout.remove_region, certificate_id, THIRD),
    ]
    at_once(*deeds)
    settle_down(fleet)
    must_be_over(fleet, job_id)
    assert fleet.certificate(certificate_id).state == "valid"


@pytest.mark.parametrize("model", [Deployment, Listener], ids=["deployment", "listener"])
def test_whoever_was_paused_at_a_row_that_was_stopped_meanwhile_writes_no_more(fleet: Fleet, model: type[Any]) -> None:
    row_id, job_id = waiting_listener(fleet) if model is Listener else waiting_deployment(fleet)
    lease = fleet.context.settings.lease
    with fleet.transaction() as session:
        stale = leases.claim(session, model, row_id, now=fleet.now, lease=lease)
    assert stale is not None
    fleet.pass_time(lease)
    assert cancel(fleet, job_id) == "cancelled"
    with fleet.transaction() as session:
        assert leases.owned(session, model, row_id, fence=stale) is None


def waiting_deployment(fleet: Fleet) -> tuple[str, str]:
    """Its id, and its job's."""
    job_id, certificate_id = validated(fleet)
    return fleet.deployments(certificate_id)[FIRST].id, job_id


def waiting_listener(fleet: Fleet) -> tuple[str, str]:
    listener_id = add_listener(fleet, FIRST, [HOST], server=deployed(fleet))
    return listener_id, listener_of(fleet, listener_id).job_id
