"""The patrol of regions: what a balancer says of itself, compared with our rows; repairs and leftovers."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from shared.domain.certificates import CertificateType
from shared.domain.repairs import FIRST_PAUSE
from shared.errors import Busy, OutcomeUnknown, QuotaExceeded, Replan, Unreachable
from shared.models import Balancer, Deployment, Event, Listener, Secret
from shared.usecases import balancers, rollout
from shared.usecases.driver import Listener as BoundListener
from shared.usecases.driver import ObjectName, Owner
from shared.usecases.figures import read_figures
from shared.usecases.material import material_of, owner_of
from shared.usecases.patrol import SOON
from shared.usecases.region_patrol import look_at_region
from tests.support.fleet import Fleet, new_caller, server_upload
from tests.support.memory_balancers import MemoryDriver, balancer
from tests.support.patrols import (
    PERIOD,
    REPAIRED,
    TOLD,
    after_a_period,
    bound,
    deployment_of,
    foreign_material,
    told,
)

HOST = "shop.example.com"


def deployed(fleet: Fleet, host: str = HOST, region: str = TOLD) -> str:
    """A certificate that no listener uses."""
    _, certificate_id = fleet.submit(server_upload(host, regions=[region]))
    fleet.run()
    return certificate_id


def driver(fleet: Fleet, region: str = TOLD) -> MemoryDriver:
    return MemoryDriver.for_region(fleet.context.settings.regions[region])


def test_an_object_that_was_swapped_by_hand_is_named_with_what_is_there_now(fleet: Fleet) -> None:
    certificate_id, _ = bound(fleet, HOST)
    stranger = foreign_material(HOST)
    balancer(TOLD).swap_by_hand(HOST, stranger)

    look_at_region(fleet.context, fleet.tools, TOLD)
    look_at_region(fleet.context, fleet.tools, TOLD)

    drift = deployment_of(fleet, certificate_id).drift
    assert drift is not None
    assert drift["code"] == "altered"
    assert certificate_id in drift["message"]
    assert stranger.fingerprint_sha256 in drift["message"]
    assert told(fleet) == [("drifted", "altered")]


def test_a_certificate_of_the_account_in_the_wrong_place_is_named_by_its_subject(fleet: Fleet) -> None:
    certificate_id, _ = bound(fleet, HOST)
    other_id = deployed(fleet, "other.example.com")
    label = (deployment_of(fleet, other_id).evidence or {})["object"]
    name = ObjectName.parse(label, account_id=fleet.caller.account_id)
    other = balancer(TOLD)._objects[name].real  # noqa: SLF001 - what the balancer holds, key and all
    balancer(TOLD).swap_by_hand(HOST, other)

    look_at_region(fleet.context, fleet.tools, TOLD)

    drift = deployment_of(fleet, certificate_id).drift
    assert drift is not None
    assert str(fleet.certificate(other_id).subject) in drift["message"]


def test_clients_and_the_balancer_are_told_apart_and_both_must_be_well_to_recover(fleet: Fleet) -> None:
    certificate_id, _ = bound(fleet, HOST)
    balancer(TOLD).swap_by_hand(HOST, foreign_material(HOST))
    look_at_region(fleet.context, fleet.tools, TOLD)
    after_a_period(fleet)
    drift = deployment_of(fleet, certificate_id).drift
    assert drift is not None
    assert (drift["code"], set(drift["witnesses"])) == ("served_mismatch", {"clients", "balancer"})
    restage(fleet, certificate_id)
    after_a_period(fleet)

    assert deployment_of(fleet, certificate_id).drift is None
    assert [kind for kind, _ in told(fleet)].count("recovered") == 1
    assert told(fleet)[0] == ("drifted", "altered")
    assert told(fleet)[-1] == ("recovered", None)


def restage(fleet: Fleet, certificate_id: str, region: str = TOLD) -> None:
    """As an operator would: the old content is put back."""
    row = fleet.certificate(certificate_id)
    with fleet.transaction() as session:
        material = material_of(fleet.context, session, row)
    driver(fleet, region).stage(material, owner=owner_of(row))


def test_a_balancer_that_was_set_up_anew_drifts_in_every_account(fleet: Fleet) -> None:
    mine = deployed(fleet)
    me, fleet.caller = fleet.caller, new_caller(fleet.context, "another", now=fleet.now)
    theirs = deployed(fleet)
    balancer(TOLD).wipe()

    after_a_period(fleet)

    for certificate_id in (mine, theirs):
        drift = deployment_of(fleet, certificate_id).drift
        assert drift is not None
        assert drift["code"] == "missing"
    with fleet.transaction() as session:
        events = session.execute(select(Event).where(Event.type == "deployment.drifted")).scalars().all()
    assert {(event.account_id, event.data["certificate_id"]) for event in events} == {
        (me.account_id, mine),
        (fleet.caller.account_id, theirs),
    }


def test_what_drifted_when_it_was_removed_drifts_no_longer(fleet: Fleet) -> None:
    certificate_id = deployed(fleet)
    balancer(TOLD).wipe()
    after_a_period(fleet)
    assert deployment_of(fleet, certificate_id).drift is not None
    fleet.change(rollout.remove_region, certificate_id, TOLD)
    fleet.run()
    row = deployment_of(fleet, certificate_id)
    assert (row.state, row.drift) == ("removed", None)
    with fleet.transaction() as session:
        assert read_figures(session, now=fleet.now).drifting == 0


def test_a_repaired_region_holds_a_lost_object_again_without_a_job(fleet: Fleet) -> None:
    certificate_id = deployed(fleet, region=REPAIRED)
    balancer(REPAIRED).wipe()
    after_a_period(fleet)
    assert len(driver(fleet, REPAIRED).snapshot().objects) == 1
    assert deployment_of(fleet, certificate_id, REPAIRED).drift is not None
    fleet.pass_time(SOON)
    after_a_period(fleet)
    assert deployment_of(fleet, certificate_id, REPAIRED).drift is None
    assert told(fleet) == [("drifted", "missing"), ("recovered", None)]


def test_a_region_that_is_only_told_gets_nothing_staged(fleet: Fleet) -> None:
    deployed(fleet)
    balancer(TOLD).wipe()
    after_a_period(fleet)
    assert driver(fleet).snapshot().objects == ()


def test_an_object_is_put_back_three_times_an_hour_at_most(fleet: Fleet) -> None:
    deployed(fleet, region=REPAIRED)
    repairs = 0
    for _ in range(40):
        balancer(REPAIRED).wipe()
        after_a_period(fleet)
        repairs += len(driver(fleet, REPAIRED).snapshot().objects)
    assert repairs == 3


def test_a_repair_that_a_busy_balancer_did_not_make_is_tried_at_the_next_patrol(fleet: Fleet) -> None:
    deployed(fleet, region=REPAIRED)
    balancer(REPAIRED).wipe()
    for error in (Busy, Unreachable, OutcomeUnknown):
        balancer(REPAIRED).faults.add("stage", error)
        after_a_period(fleet)
        assert driver(fleet, REPAIRED).snapshot().objects == ()
    after_a_period(fleet)
    assert len(driver(fleet, REPAIRED).snapshot().objects) == 1


@pytest.mark.parametrize("error", [Busy, OutcomeUnknown, Replan, ValueError])
def test_one_object_that_cannot_be_put_back_now_keeps_no_other_from_it(fleet: Fleet, error: type[Exception]) -> None:
    for number in range(3):
        deployed(fleet, f"shop{number}.example.com", region=REPAIRED)
    balancer(REPAIRED).wipe()
    balancer(REPAIRED).faults.add("stage", error)
    after_a_period(fleet)
    assert len(driver(fleet, REPAIRED).snapshot().objects) == 2
    after_a_period(fleet)
    assert len(driver(fleet, REPAIRED).snapshot().objects) == 3


def test_an_object_whose_key_no_longer_opens_keeps_no_other_from_being_put_back(fleet: Fleet) -> None:
    first, _ = [deployed(fleet, f"shop{number}.example.com", region=REPAIRED) for number in range(2)]
    with fleet.transaction() as session:
        session.execute(update(Secret).where(Secret.subject_id == first).values(ciphertext=b"changed"))
    balancer(REPAIRED).wipe()
    after_a_period(fleet)
    assert len(driver(fleet, REPAIRED).snapshot().objects) == 1


def test_a_balancer_that_does_not_answer_is_not_asked_for_each_object(fleet: Fleet) -> None:
    for number in range(2):
        deployed(fleet, f"shop{number}.example.com", region=REPAIRED)
    balancer(REPAIRED).wipe()
    balancer(REPAIRED).faults.add("stage", Unreachable)
    after_a_period(fleet)
    assert driver(fleet, REPAIRED).snapshot().objects == ()
    after_a_period(fleet)
    assert len(driver(fleet, REPAIRED).snapshot().objects) == 2


def test_a_repair_that_is_refused_for_good_counts_and_others_go_on(fleet: Fleet) -> None:
    for number in range(2):
        deployed(fleet, f"shop{number}.example.com", region=REPAIRED)
    balancer(REPAIRED).wipe()
    balancer(REPAIRED).faults.add("stage", QuotaExceeded)
    after_a_period(fleet)
    assert len(driver(fleet, REPAIRED).snapshot().objects) == 1
    after_a_period(fleet)
    assert len(driver(fleet, REPAIRED).snapshot().objects) == 1
    fleet.pass_time(FIRST_PAUSE)
    after_a_period(fleet)
    assert len(driver(fleet, REPAIRED).snapshot().objects) == 2


def test_a_listener_that_the_balancer_lost_is_named_and_bound_again_though_no_client_could_knock(fleet: Fleet) -> None:
    certificate_id, _ = bound(fleet, HOST, REPAIRED)
    balancer(REPAIRED).unbind_by_hand(HOST)
    look_at_region(fleet.context, fleet.tools, REPAIRED)
    drift = deployment_of(fleet, certificate_id, REPAIRED).drift
    assert drift is not None
    assert (drift["code"], HOST in drift["message"]) == ("missing", True)
    fleet.run()
    assert balancer(REPAIRED).shown_to(HOST) == fleet.certificate(certificate_id).fingerprint_sha256
    look_at_region(fleet.context, fleet.tools, REPAIRED)
    assert told(fleet) == [("drifted", "missing"), ("recovered", None)]


def test_a_listener_that_the_balancer_lost_stays_lost_where_nothing_is_repaired(fleet: Fleet) -> None:
    bound(fleet, HOST)
    balancer(TOLD).unbind_by_hand(HOST)
    look_at_region(fleet.context, fleet.tools, TOLD)
    fleet.run()
    assert driver(fleet).snapshot().listeners == ()
    assert told(fleet) == [("drifted", "missing")]


def test_repairs_that_take_longer_than_a_lease_go_on_holding_the_region(fleet: Fleet) -> None:
    for host in ("a.example.com", "b.example.com", "c.example.com"):
        deployed(fleet, host, REPAIRED)
    balancer(REPAIRED).wipe()
    others: list[int | None] = []

    def takes_long() -> None:
        fleet.pass_time(0.8 * fleet.context.settings.lease)
        with balancers.writing(fleet.context, REPAIRED, clock=lambda: fleet.now) as fence:
            others.append(fence)

    balancer(REPAIRED).faults.run("stage", takes_long, times=None)
    look_at_region(fleet.context, fleet.tools, REPAIRED)
    assert others == [None, None, None]
    assert len(driver(fleet, REPAIRED).snapshot().objects) == 3


def test_repairs_end_when_somebody_else_has_taken_the_region_over(fleet: Fleet) -> None:
    for host in ("a.example.com", "b.example.com"):
        deployed(fleet, host, REPAIRED)
    balancer(REPAIRED).wipe()

    def is_taken_over() -> None:
        fleet.pass_time(2 * fleet.context.settings.lease)
        with balancers.writing(fleet.context, REPAIRED, clock=lambda: fleet.now) as fence:
            assert fence is not None

    balancer(REPAIRED).faults.run("stage", is_taken_over)
    with capture_logs() as logs:
        look_at_region(fleet.context, fleet.tools, REPAIRED)
    assert "region_taken_over" in [line["event"] for line in logs]
    assert len(driver(fleet, REPAIRED).snapshot().objects) < 2


def test_a_silent_balancer_says_nothing_about_its_deployments(fleet: Fleet) -> None:
    certificate_id = deployed(fleet)
    after_a_period(fleet)
    last = fleet.now
    balancer(TOLD).faults.add("*", Unreachable, times=None)
    with capture_logs() as logs:
        after_a_period(fleet)
    assert "region_not_patrolled" in [line["event"] for line in logs]
    assert deployment_of(fleet, certificate_id).drift is None
    with fleet.transaction() as session:
        assert session.get_one(Balancer, TOLD).patrolled_at == last


def test_while_somebody_writes_nothing_is_compared(fleet: Fleet) -> None:
    certificate_id = deployed(fleet)
    balancer(TOLD).wipe()
    fleet.pass_time(PERIOD)
    with balancers.writing(fleet.context, TOLD, clock=lambda: fleet.now):
        look_at_region(fleet.context, fleet.tools, TOLD)
        with fleet.transaction() as session:
            assert session.get_one(Balancer, TOLD).next_patrol_at == fleet.now + SOON

    def somebody_writes() -> None:
        with balancers.writing(fleet.context, TOLD, clock=lambda: fleet.now):
            pass

    balancer(TOLD).faults.run("snapshot", somebody_writes)
    look_at_region(fleet.context, fleet.tools, TOLD)
    assert deployment_of(fleet, certificate_id).drift is None
    look_at_region(fleet.context, fleet.tools, TOLD)
    assert deployment_of(fleet, certificate_id).drift is not None


def test_what_a_killed_worker_left_behind_is_taken_away(fleet: Fleet) -> None:
    certificate_id, listener_id = bound(fleet, HOST)
    kept = deployed(fleet, "kept.example.com")
    with fleet.transaction() as session:
        rows = update(Deployment).where(Deployment.certificate_id == certificate_id)
        session.execute(rows.values(state="removed", holds_slot=False))
    end_listener(fleet, listener_id)

    with capture_logs() as logs:
        after_a_period(fleet)

    left = driver(fleet).snapshot()
    assert left.listeners == ()
    assert [one.ref.name.certificate_id for one in left.objects] == [kept]
    assert [line["count"] for line in logs if line["event"] == "leftovers_removed"] == [2]


def end_listener(fleet: Fleet, listener_id: str) -> None:
    with fleet.transaction() as session:
        row = session.get_one(Listener, listener_id)
        row.state, row.deleted_at, row.next_probe_at = "deleted", fleet.now, None


def test_what_no_row_knows_may_be_anothers_and_is_left_alone(fleet: Fleet) -> None:
    material = foreign_material("elsewhere.example.com")
    owner = Owner(account_id="acc_elsewhere", certificate_id="cert_elsewhere")
    staged = driver(fleet).stage(material, owner=owner)
    driver(fleet).bind(
        BoundListener(
            account_id=owner.account_id, listener_id="lsn_1", hosts=("elsewhere.example.com",), server=staged.ref
        )
    )
    after_a_period(fleet)
    assert len(driver(fleet).snapshot().listeners) == 1
    assert staged.ref.name.type is CertificateType.SERVER


@pytest.mark.parametrize("state", ["pending", "failed"])
def test_an_object_that_a_row_still_needs_is_kept(fleet: Fleet, state: str) -> None:
    certificate_id = deployed(fleet)
    due = fleet.now + timedelta(hours=1) if state == "pending" else None
    with fleet.transaction() as session:
        rows = update(Deployment).where(Deployment.certificate_id == certificate_id)
        session.execute(rows.values(state=state, next_attempt_at=due, next_wake_at=due))
    after_a_period(fleet)
    assert len(driver(fleet).snapshot().objects) == 1
