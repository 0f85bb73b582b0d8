"""Cancel: what has not begun never does, what has is finished, what waits for another try is undone; all told apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update

from shared.config.regions import Region
from shared.domain.scopes import Scope
from shared.errors import Conflict, OutcomeUnknown, Unreachable
from shared.models import Event, Listener, Purpose, Secret
from shared.schemas.event_data import DATA
from shared.usecases import rollout, validation
from shared.usecases.binding import repair_listener
from shared.usecases.driver import Driver
from shared.usecases.driver_registry import build_driver
from tests.support.api import Api, Client, answer, submission
from tests.support.cancelling import (
    HOST,
    answers,
    cancel,
    deployed,
    must_be_over,
    replace,
    served,
    settle_down,
    told,
    validate,
    validated,
    work,
)
from tests.support.fleet import REGIONS, Fleet, server_upload
from tests.support.listeners import add_listener, listener_of
from tests.support.memory_balancers import balancer

FIRST, SECOND, THIRD = REGIONS


def objects(region: str) -> list[str]:
    return [held.ref.name.certificate_id for held in balancer(region).snapshot().objects]


def slots(fleet: Fleet, certificate_id: str) -> dict[str, bool]:
    return {region: row.holds_slot for region, row in fleet.deployments(certificate_id).items()}


def states(fleet: Fleet, certificate_id: str) -> dict[str, str]:
    return {region: row.state for region, row in fleet.deployments(certificate_id).items()}


def test_a_job_cancelled_while_queued_sends_nothing_anywhere_and_destroys_the_upload(fleet: Fleet) -> None:
    job_id, certificate_id = fleet.submit(server_upload(HOST))
    assert cancel(fleet, job_id) == "cancelled"
    settle_down(fleet)
    must_be_over(fleet, job_id)
    certificate = fleet.certificate(certificate_id)
    assert (certificate.state, certificate.findings[0]["code"]) == ("rejected", "cancelled")
    with fleet.transaction() as session:
        assert session.execute(select(Secret).where(Secret.purpose == Purpose.UPLOAD)).all() == []
    assert [balancer(region).calls for region in REGIONS] == [[], [], []]
    assert set(answers(fleet, job_id).values()) == {"cancelled"}
    assert all_types(fleet).count("certificate.rejected") == 1


def all_types(fleet: Fleet) -> list[str]:
    with fleet.transaction() as session:
        return list(session.execute(select(Event.type).order_by(Event.sequence)).scalars())


def test_of_three_regions_the_one_that_finished_is_told_apart_from_those_that_never_begin(fleet: Fleet) -> None:
    job_id, certificate_id = validated(fleet)
    work(fleet, certificate_id, FIRST)
    assert cancel(fleet, job_id) == "cancelled"
    settle_down(fleet)
    must_be_over(fleet, job_id)
    assert answers(fleet, job_id) == {FIRST: "deployed", SECOND: "cancelled", THIRD: "cancelled"}
    assert states(fleet, certificate_id) == {FIRST: "deployed", SECOND: "failed", THIRD: "failed"}
    assert slots(fleet, certificate_id) == {FIRST: True, SECOND: False, THIRD: False}
    assert (objects(FIRST), objects(SECOND), objects(THIRD)) == ([certificate_id], [], [])
    error = fleet.job(job_id).error
    assert error is not None
    assert error["code"] == "cancelled"
    assert f"finished: {FIRST}" in error["message"]
    assert f"cancelled: {SECOND}, {THIRD}" in error["message"]


def test_what_cancelling_tells_fits_its_documented_shape(fleet: Fleet) -> None:
    job_id, certificate_id = validated(fleet)
    work(fleet, certificate_id, FIRST)
    cancel(fleet, job_id)
    assert ("job.cancelled", None) in told(fleet, job_id)
    with fleet.transaction() as session:
        events = session.execute(select(Event).order_by(Event.sequence)).scalars().all()
    assert [DATA[event.type]().validate(event.data) for event in events] == [{}] * len(events)
    failed = [event.data for event in events if event.type == "deployment.failed"]
    assert {data["error"]["code"] for data in failed} == {"cancelled"}
    ending = next(event.data for event in events if event.type == "job.cancelled")
    assert ending["regions"] == {FIRST: "deployed", SECOND: "cancelled", THIRD: "cancelled"}


def test_a_cancelled_region_is_deployed_to_by_a_retry(fleet: Fleet) -> None:
    job_id, certificate_id = validated(fleet)
    cancel(fleet, job_id)
    again = fleet.retry(certificate_id, SECOND)
    fleet.run()
    assert fleet.job(again).state == "succeeded"
    assert states(fleet, certificate_id) == {FIRST: "failed", SECOND: "deployed", THIRD: "failed"}


def test_a_cancelled_region_does_not_count_as_a_sick_one(api: Api) -> None:
    job_id, _ = validated(api.fleet)
    cancel(api.fleet, job_id)
    assert {region["health"]["state"] for region in api.client.items("/v1/regions")} == {"unknown"}


def test_an_upload_that_is_being_validated_becomes_valid_and_goes_nowhere(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, certificate_id = fleet.submit(server_upload(HOST))
    meanwhile(monkeypatch, lambda: cancel(fleet, job_id))
    validation.validate_job(fleet.context, job_id, now=fleet.now)
    settle_down(fleet)
    must_be_over(fleet, job_id)
    assert fleet.job(job_id).state == "cancelled"
    assert fleet.certificate(certificate_id).state == "valid"
    assert set(slots(fleet, certificate_id).values()) == {False}
    assert [balancer(region).calls for region in REGIONS] == [[], [], []]


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """``act`` while the next upload is looked at, outside of any transaction."""
    look = vars(validation)["inspect"]

    def interrupted(*arguments: Any, **options: Any) -> Any:
        act()
        return look(*arguments, **options)

    monkeypatch.setattr(validation, "inspect", interrupted)


def test_a_region_that_a_worker_is_at_finishes(fleet: Fleet) -> None:
    job_id, certificate_id = validated(fleet)
    balancer(FIRST).faults.run("stage", lambda: cancel(fleet, job_id))
    work(fleet, certificate_id, FIRST)
    settle_down(fleet)
    must_be_over(fleet, job_id)
    assert answers(fleet, job_id) == {FIRST: "deployed", SECOND: "cancelled", THIRD: "cancelled"}


def test_when_everything_finishes_anyway_the_job_ends_as_ever(fleet: Fleet) -> None:
    job_id, certificate_id = fleet.submit(server_upload(HOST, regions=[FIRST]))
    validate(fleet, job_id)
    balancer(FIRST).faults.run("stage", lambda: cancel(fleet, job_id))
    work(fleet, certificate_id, FIRST)
    must_be_over(fleet, job_id)
    job = fleet.job(job_id)
    assert (job.state, job.error) == ("succeeded", None)
    assert job.cancel_requested_at is not None


@pytest.mark.parametrize("while_at_work", [False, True])
def test_a_region_that_failed_once_is_not_tried_again_and_what_it_left_is_undone(
    fleet: Fleet,
    while_at_work: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    """The object was staged, and the answer lost."""
    job_id, certificate_id = validated(fleet)
    balancer(FIRST).faults.add("stage", OutcomeUnknown, after=True)
    if while_at_work:
        balancer(FIRST).faults.run("stage", lambda: cancel(fleet, job_id))
    work(fleet, certificate_id, FIRST)
    if not while_at_work:
        assert objects(FIRST) == [certificate_id]
        cancel(fleet, job_id)
    settle_down(fleet)
    must_be_over(fleet, job_id)
    row = fleet.deployments(certificate_id)[FIRST]
    assert (row.state, row.attempt, row.holds_slot) == ("failed", 1, False)
    assert answers(fleet, job_id)[FIRST] == "cancelled"
    assert objects(FIRST) == []


def test_what_waits_for_another_try_is_undone_at_once_and_not_when_that_try_is_due(fleet: Fleet) -> None:
    job_id, certificate_id = fleet.submit(server_upload(HOST, regions=[FIRST]))
    balancer(FIRST).faults.add("stage", OutcomeUnknown, after=True)
    fleet.run()
    assert objects(FIRST) == [certificate_id]
    cancel(fleet, job_id)
    fleet.run()
    must_be_over(fleet, job_id)
    assert objects(FIRST) == []


def test_what_cannot_be_undone_keeps_its_slot_until_a_retry_or_a_removal_ends_it(fleet: Fleet) -> None:
    job_id, certificate_id = validated(fleet)
    balancer(FIRST).faults.add("stage", OutcomeUnknown, after=True)
    work(fleet, certificate_id, FIRST)
    balancer(FIRST).faults.add("*", Unreachable, times=None)
    cancel(fleet, job_id)
    settle_down(fleet)
    must_be_over(fleet, job_id)
    assert slots(fleet, certificate_id) == {FIRST: True, SECOND: False, THIRD: False}
    balancer(FIRST).faults.clear()
    fleet.change(rollout.remove_region, certificate_id, FIRST)
    fleet.run()
    assert (objects(FIRST), slots(fleet, certificate_id)[FIRST]) == ([], False)


def test_a_retry_cancelled_before_it_begins_keeps_the_slot_of_what_may_be_there(fleet: Fleet) -> None:
    _, certificate_id = validated(fleet)
    balancer(FIRST).faults.add("stage", OutcomeUnknown, times=None)
    for _ in range(10):
        settle_down(fleet)
        fleet.pass_time(fleet.context.settings.lease * 10)
    assert (states(fleet, certificate_id)[FIRST], slots(fleet, certificate_id)[FIRST]) == ("failed", True)
    job_id = fleet.retry(certificate_id, FIRST)
    validate(fleet, job_id)
    cancel(fleet, job_id)
    must_be_over(fleet, job_id)
    assert slots(fleet, certificate_id)[FIRST]


@pytest.mark.parametrize("is_validated", [False, True])
def test_a_cancelled_removal_goes_back_to_what_it_was(fleet: Fleet, is_validated: bool) -> None:  # noqa: FBT001 - a parameter of the table
    certificate_id = deployed(fleet)
    job_id = fleet.change(rollout.remove_region, certificate_id, SECOND)
    if is_validated:
        validate(fleet, job_id)
    assert cancel(fleet, job_id) == "cancelled"
    settle_down(fleet)
    must_be_over(fleet, job_id)
    row = fleet.deployments(certificate_id)[SECOND]
    assert (row.state, row.intent, row.error, row.holds_slot) == ("deployed", "deploy", None, True)
    assert answers(fleet, job_id) == {SECOND: "cancelled"}
    assert objects(SECOND) == [certificate_id]


def test_a_removal_that_may_have_happened_is_undone(fleet: Fleet) -> None:
    certificate_id = deployed(fleet)
    job_id = fleet.change(rollout.remove_region, certificate_id, SECOND)
    balancer(SECOND).faults.add("retire", OutcomeUnknown, after=True)
    fleet.run()
    assert objects(SECOND) == []
    cancel(fleet, job_id)
    settle_down(fleet)
    must_be_over(fleet, job_id)
    assert states(fleet, certificate_id)[SECOND] == "deployed"
    assert objects(SECOND) == [certificate_id]


def test_a_removal_that_cannot_be_undone_is_failed_and_says_why(fleet: Fleet) -> None:
    certificate_id = deployed(fleet)
    job_id = fleet.change(rollout.remove_region, certificate_id, SECOND)
    balancer(SECOND).faults.add("retire", OutcomeUnknown, after=True)
    fleet.run()
    balancer(SECOND).faults.add("stage", Unreachable, times=None)
    cancel(fleet, job_id)
    settle_down(fleet)
    must_be_over(fleet, job_id)
    row = fleet.deployments(certificate_id)[SECOND]
    assert row.error is not None
    assert (row.state, row.error["code"], row.holds_slot) == ("failed", "unreachable", True)


def test_a_removal_is_answered_for_though_the_key_to_undo_it_no_longer_opens(fleet: Fleet) -> None:
    certificate_id = deployed(fleet)
    job_id = fleet.change(rollout.remove_region, certificate_id, SECOND)
    balancer(SECOND).faults.add("retire", OutcomeUnknown, after=True)
    fleet.run()
    with fleet.transaction() as session:
        session.execute(update(Secret).where(Secret.purpose == Purpose.PRIVATE_KEY).values(ciphertext=b"changed"))
    cancel(fleet, job_id)
    settle_down(fleet)
    must_be_over(fleet, job_id)
    row = fleet.deployments(certificate_id)[SECOND]
    assert row.error is not None
    assert (row.state, row.error["code"], row.holds_slot) == ("failed", "secret_unreadable", True)


def test_a_cancelled_deletion_leaves_a_certificate_that_can_be_used_and_deleted_again(fleet: Fleet) -> None:
    certificate_id = deployed(fleet)
    job_id = fleet.change(rollout.remove_certificate, certificate_id)
    validate(fleet, job_id)
    work(fleet, certificate_id, FIRST)
    cancel(fleet, job_id)
    must_be_over(fleet, job_id)
    assert fleet.certificate(certificate_id).state == "valid"
    assert states(fleet, certificate_id) == {FIRST: "removed", SECOND: "deployed", THIRD: "deployed"}
    assert "certificate.deleted" not in all_types(fleet)
    fleet.change(rollout.remove_certificate, certificate_id)
    fleet.run()
    assert fleet.certificate(certificate_id).state == "deleted"


def test_a_deletion_of_what_is_nowhere_is_cancelled_too(fleet: Fleet) -> None:
    job_id, certificate_id = validated(fleet)
    cancel(fleet, job_id)
    deletion = fleet.change(rollout.remove_certificate, certificate_id)
    assert cancel(fleet, deletion) == "cancelled"
    must_be_over(fleet, deletion)
    assert fleet.certificate(certificate_id).state == "valid"


def test_regions_of_a_cancelled_replacement_that_have_not_begun_keep_the_old_one_served(fleet: Fleet) -> None:
    old, listeners = served(fleet)
    job_id, new = replace(fleet, old)
    validate(fleet, job_id)
    work(fleet, new, FIRST)
    cancel(fleet, job_id)
    settle_down(fleet)
    must_be_over(fleet, job_id)
    assert answers(fleet, job_id) == {FIRST: "deployed", SECOND: "cancelled", THIRD: "cancelled"}
    shown = {region: balancer(region).shown_to(HOST) for region in REGIONS}
    fingerprints = {one: fleet.certificate(one).fingerprint_sha256 for one in (old, new)}
    assert shown == {FIRST: fingerprints[new], SECOND: fingerprints[old], THIRD: fingerprints[old]}
    assert listener_of(fleet, listeners[SECOND]).server_certificate_id == old
    assert (fleet.certificate(old).replaced_by_id, fleet.certificate(new).replaces_id) == (new, old)
    fleet.retry(new, SECOND)
    fleet.run()
    assert balancer(SECOND).shown_to(HOST) == fingerprints[new]


@pytest.mark.parametrize("is_validated", [False, True])
def test_a_replacement_cancelled_before_any_region_leaves_the_old_one_free_to_be_replaced(
    fleet: Fleet,
    is_validated: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    old, _ = served(fleet)
    job_id, new = replace(fleet, old)
    if is_validated:
        validate(fleet, job_id)
    cancel(fleet, job_id)
    must_be_over(fleet, job_id)
    assert fleet.certificate(new).state == ("valid" if is_validated else "rejected")
    assert fleet.certificate(old).replaced_by_id is None
    again, newest = replace(fleet, old)
    fleet.run()
    assert fleet.job(again).state == "succeeded"
    assert fleet.certificate(old).replaced_by_id == newest


def bound_and_lost(region: str) -> None:
    """The next bind is carried out, its answer is lost, and nothing can be put back for now."""
    faults = balancer(region).faults

    def lose() -> None:
        faults.add("bind", Unreachable)
        raise OutcomeUnknown("The answer was lost.")

    faults.run("bind", lose, after=True)


def test_a_replacement_that_waits_for_another_try_is_undone_in_its_region(fleet: Fleet) -> None:
    """The listener was moved, and the answer lost."""
    old, listeners = served(fleet)
    job_id, new = replace(fleet, old)
    validate(fleet, job_id)
    bound_and_lost(FIRST)
    work(fleet, new, FIRST)
    assert balancer(FIRST).shown_to(HOST) == fleet.certificate(new).fingerprint_sha256
    cancel(fleet, job_id)
    settle_down(fleet)
    must_be_over(fleet, job_id)
    assert balancer(FIRST).shown_to(HOST) == fleet.certificate(old).fingerprint_sha256
    assert objects(FIRST) == [old]
    assert listener_of(fleet, listeners[FIRST]).server_certificate_id == old
    assert not slots(fleet, new)[FIRST]


def test_a_region_whose_clients_have_the_new_one_already_retires_the_old_one(fleet: Fleet) -> None:
    old, _ = served(fleet)
    job_id, new = replace(fleet, old)
    validate(fleet, job_id)
    balancer(FIRST).faults.add("retire", Unreachable)
    work(fleet, new, FIRST)
    cancel(fleet, job_id)
    settle_down(fleet)
    must_be_over(fleet, job_id)
    assert answers(fleet, job_id) == {FIRST: "deployed", SECOND: "cancelled", THIRD: "cancelled"}
    assert objects(FIRST) == [new]


def test_a_cancelled_new_listener_was_never_bound_and_its_names_can_be_had_by_deleting_it(api: Api) -> None:
    certificate_id = deployed(api.fleet)
    body = {"region": FIRST, "name": "shop", "hosts": [HOST], "server_certificate_id": certificate_id}
    accepted = answer(api.client.post("/v1/listeners", body))
    job = answer(api.client.post(f"/v1/jobs/{accepted['job']['id']}/cancel"))["job"]
    assert job["state"] == "cancelled"
    assert [each["state"] for each in job["listeners"]] == ["cancelled"]
    listener_id = accepted["listener"]["id"]
    row = listener_of(api.fleet, listener_id)
    assert row.error is not None
    assert (row.state, row.error["code"]) == ("failed", "cancelled")
    settle_down(api.fleet)
    assert balancer(FIRST).snapshot().listeners == ()
    must_be_over(api.fleet, job["id"])


@pytest.mark.parametrize("attempts", [0, 1])
@pytest.mark.parametrize("verb", ["PATCH", "DELETE"])
def test_a_bound_listener_stays_bound_as_it_was(api: Api, verb: str, attempts: int) -> None:
    fleet = api.fleet
    certificate_id = deployed(fleet)
    listener_id = add_listener(fleet, FIRST, [HOST], server=certificate_id)
    fleet.run()
    other = server_upload(HOST, "api.example.com")
    _, second = fleet.submit(other)
    fleet.run()
    body = {} if verb == "DELETE" else {"server_certificate_id": second, "hosts": [HOST, "api.example.com"]}
    job_id = answer(api.client.send(verb, f"/v1/listeners/{listener_id}", json=body))["job"]["id"]
    if attempts:
        if verb == "PATCH":
            bound_and_lost(FIRST)
        else:
            balancer(FIRST).faults.add("unbind", OutcomeUnknown, after=True)
        fleet.run()
        assert balancer(FIRST).shown_to(HOST) != fleet.certificate(certificate_id).fingerprint_sha256
    assert api.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    settle_down(fleet)
    must_be_over(fleet, job_id)
    row = listener_of(fleet, listener_id)
    assert (row.state, row.change, row.error, row.hosts) == ("bound", None, None, [HOST])
    assert row.server_certificate_id == certificate_id
    assert balancer(FIRST).shown_to(HOST) == fleet.certificate(certificate_id).fingerprint_sha256
    assert answers(fleet, job_id) == {FIRST: "cancelled"}
    assert fleet.job(job_id).state == "cancelled"


def test_a_repair_after_a_cancelled_change_is_no_part_of_it(api: Api) -> None:
    fleet = api.fleet
    listener_id = add_listener(fleet, FIRST, [HOST], server=deployed(fleet))
    fleet.run()
    job_id = answer(api.client.patch(f"/v1/listeners/{listener_id}", {}))["job"]["id"]
    cancel(fleet, job_id)
    balancer(FIRST).unbind_by_hand(HOST)
    with fleet.transaction() as session:
        repair_listener(session, session.get_one(Listener, listener_id, with_for_update=True), now=fleet.now)
    fleet.run()
    assert listener_of(fleet, listener_id).state == "bound"
    assert balancer(FIRST).shown_to(HOST) is not None
    must_be_over(fleet, job_id)


def test_the_answer_is_202_with_the_job_and_the_deed_is_audited(api: Api) -> None:
    job_id = api.submit()["job"]["id"]
    response = api.client.post(f"/v1/jobs/{job_id}/cancel", headers={"Idempotency-Key": "stop"})
    assert (response.status_code, response.headers["Location"]) == (202, f"/v1/jobs/{job_id}")
    assert answer(response)["job"]["cancel_requested_at"] is not None
    assert api.client.items("/v1/audit")[0]["action"] == "job.cancellation_requested"
    again = api.client.post(f"/v1/jobs/{job_id}/cancel", headers={"Idempotency-Key": "stop"})
    assert (again.status_code, again.data) == (202, response.data)
    over = api.client.post(f"/v1/jobs/{job_id}/cancel")
    assert (over.status_code, answer(over)["code"]) == (409, "already_finished")
    assert answer(over)["context"] == {"state": "cancelled"}


def test_cancelling_twice_before_the_end_is_one_deed(fleet: Fleet) -> None:
    job_id, certificate_id = validated(fleet)
    balancer(FIRST).faults.run("stage", lambda: (cancel(fleet, job_id), cancel(fleet, job_id)))
    work(fleet, certificate_id, FIRST)
    must_be_over(fleet, job_id)
    with pytest.raises(Conflict, match="over"):
        cancel(fleet, job_id)


def test_another_account_and_a_token_that_only_reads_cannot_cancel(api: Api) -> None:
    job_id = api.submit(**submission())["job"]["id"]
    stranger: Client = api.account("other")
    assert stranger.post(f"/v1/jobs/{job_id}/cancel").status_code == 404
    assert stranger.post("/v1/jobs/job_none/cancel").status_code == 404
    assert api.scoped(Scope.READ).post(f"/v1/jobs/{job_id}/cancel").status_code == 403
    assert api.fleet.job(job_id).cancel_requested_at is None


def test_a_worker_that_died_at_a_region_of_a_cancelled_job_is_followed_by_one_who_undoes(fleet: Fleet) -> None:
    job_id, certificate_id = validated(fleet)

    class Killed(BaseException):
        """Like a kill -9: nothing after it runs."""

    def dies(_region: Region) -> Driver:
        raise Killed

    with pytest.raises(Killed):
        fleet.work(fleet.deployments(certificate_id)[FIRST].id, driver_for=dies)
    cancel(fleet, job_id)
    assert fleet.job(job_id).state == "deploying"
    fleet.driver_for = build_driver
    settle_down(fleet)
    must_be_over(fleet, job_id)
    assert answers(fleet, job_id) == dict.fromkeys(REGIONS, "cancelled")
