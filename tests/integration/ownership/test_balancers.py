"""A balancer has one holder: whoever was overtaken keeps, frees, begins and says nothing of it any more."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import pytest
from sqlalchemy import select

from shared.config.regions import Region
from shared.domain.certificates import Material
from shared.domain.circuits import Circuit
from shared.errors import Unreachable
from shared.models import Balancer, Deployment, leases
from shared.usecases import balancers
from shared.usecases.circuits import Fuse
from shared.usecases.driver import Driver, Owner, Staged
from shared.usecases.driver_registry import build_driver
from shared.usecases.region_work import work_in_region
from shared.usecases.stopping import Stopping, hand_back
from shared.usecases.sweep import sweep
from shared.usecases.validation import validate_job
from tests.support.fleet import Fleet, server_upload
from tests.support.leased import REGION
from tests.support.wrapped_driver import WrappedDriver

LEASE: Final = timedelta(seconds=60)
SECOND: Final = timedelta(seconds=1)


def take(fleet: Fleet) -> int:
    """Hold the region for a lease; the fencing number."""
    with fleet.transaction() as session:
        (fuse,) = balancers.take(session, [REGION], now=fleet.now, until=fleet.now + LEASE)
        return fuse.fence


def take_twice(fleet: Fleet) -> tuple[int, int]:
    """Held, and taken over when the lease had run out: both fencing numbers."""
    submit(fleet, 1)
    overtaken = take(fleet)
    fleet.pass_time(LEASE)
    return overtaken, take(fleet)


def submit(fleet: Fleet, count: int) -> list[str]:
    """Certificates, validated and due."""
    made = [fleet.submit(server_upload(f"h{number}.example.com", regions=[REGION])) for number in range(count)]
    for job_id, _ in made:
        validate_job(fleet.context, job_id, now=fleet.now)
    return [certificate_id for _, certificate_id in made]


def held_until(fleet: Fleet) -> datetime | None:
    with fleet.transaction() as session:
        return session.execute(select(Balancer.lease_until).where(Balancer.region == REGION)).scalar_one()


def test_a_region_that_is_held_is_taken_by_nobody_before_the_lease_is_over(fleet: Fleet) -> None:
    (certificate_id,) = submit(fleet, 1)
    take(fleet)
    fleet.pass_time(LEASE - SECOND)
    with fleet.transaction() as session:
        assert balancers.take(session, [REGION], now=fleet.now, until=fleet.now + LEASE) == []
    with balancers.writing(fleet.context, REGION, clock=lambda: fleet.now) as fence:
        assert fence is None
    work_in_region(fleet.context, fleet.tools, REGION)
    assert fleet.deployments(certificate_id)[REGION].attempt == 0
    fleet.pass_time(SECOND)
    work_in_region(fleet.context, fleet.tools, REGION)
    assert fleet.deployments(certificate_id)[REGION].state == "deployed"


def test_a_region_where_nothing_is_due_is_not_taken(fleet: Fleet) -> None:
    with fleet.transaction() as session:
        assert balancers.take(session, [REGION], now=fleet.now, until=fleet.now + LEASE) == []
        assert session.get(Balancer, REGION) is None


def test_whoever_was_overtaken_keeps_nothing_and_gives_nothing_back(fleet: Fleet) -> None:
    overtaken, newest = take_twice(fleet)
    later = fleet.now + 10 * LEASE
    with fleet.transaction() as session:
        assert balancers.keep(session, {REGION: overtaken}, until=later) == set()
        balancers.give_back(session, {REGION: overtaken})
    assert held_until(fleet) == fleet.now + LEASE
    with fleet.transaction() as session:
        assert balancers.keep(session, {REGION: newest}, until=later) == {REGION}
    assert held_until(fleet) == later
    with fleet.transaction() as session:
        balancers.give_back(session, {REGION: newest})
    assert held_until(fleet) is None


def test_a_process_that_ends_hands_back_what_it_holds_and_nothing_that_another_has_taken_over(fleet: Fleet) -> None:
    overtaken, newest = take_twice(fleet)
    with fleet.transaction() as session:
        (row,) = leases.claim_due(session, {REGION: 1}, now=fleet.now, lease=LEASE)[REGION]
    stopping = Stopping()
    with stopping.holding(REGION, overtaken):
        assert hand_back(fleet.context, stopping, now=fleet.now) == []
    assert held_until(fleet) == fleet.now + LEASE
    assert owned_until(fleet, row.id) == (fleet.now + LEASE, fleet.now + LEASE)
    with stopping.holding(REGION, newest):
        assert hand_back(fleet.context, stopping, now=fleet.now) == [REGION]
    assert held_until(fleet) is None
    assert owned_until(fleet, row.id) == (None, fleet.now)


def owned_until(fleet: Fleet, deployment_id: str) -> tuple[datetime | None, datetime | None]:
    """And when the sweep will look at it."""
    with fleet.transaction() as session:
        row = session.get_one(Deployment, deployment_id)
        return row.lease_until, row.next_wake_at


def test_whoever_was_overtaken_says_nothing_about_the_regions_circuit(fleet: Fleet) -> None:
    overtaken, newest = take_twice(fleet)
    for fence, silences in ((overtaken, 0), (newest, 1)):
        with fleet.transaction() as session:
            fuse = Fuse(region=REGION, fence=fence, circuit=Circuit())
            fuse.note(session, Unreachable("Silence."), now=fleet.now)
        with fleet.transaction() as session:
            assert session.get_one(Balancer, REGION).silences == silences


def test_whoever_was_overtaken_at_work_begins_nothing_more_in_the_region(fleet: Fleet) -> None:
    """Another has come and holds it; what is due there waits for that one."""
    certificates = submit(fleet, 2)
    staged: list[str] = []

    class Overtaken(WrappedDriver[Driver]):
        def stage(self, material: Material, *, owner: Owner) -> Staged:
            staged.append(owner.certificate_id)
            if len(staged) == 1:
                fleet.pass_time(fleet.context.settings.lease)
                take(fleet)
            return self.inner.stage(material, owner=owner)

    def driver_for(declared: Region) -> Driver:
        return Overtaken(build_driver(declared))  # type: ignore[return-value] # delegates the rest

    fleet.driver_for = driver_for
    work_in_region(fleet.context, fleet.tools, REGION)
    assert len(staged) == 1
    rows = [fleet.deployments(certificate_id)[REGION] for certificate_id in certificates]
    assert sorted(row.attempt for row in rows) == [0, 1]
    assert held_until(fleet) == fleet.now + LEASE


def test_whoever_is_thrown_out_of_its_work_leaves_the_region_to_others_at_once(fleet: Fleet) -> None:
    submit(fleet, 1)

    class Ended(BaseException):
        """Nobody catches it on the way."""

    def driver_for(_declared: Region) -> Driver:
        raise Ended

    fleet.driver_for = driver_for
    with pytest.raises(Ended):
        work_in_region(fleet.context, fleet.tools, REGION)
    assert held_until(fleet) is None


def test_a_process_that_ends_leaves_what_is_due_to_the_next_sweep_though_it_took_the_wake_up_itself(
    fleet: Fleet,
) -> None:
    (certificate_id,) = submit(fleet, 1)
    ending = replace(fleet.tools, stopping=Stopping())
    ending.stopping.ask()
    work_in_region(fleet.context, ending, REGION)
    assert fleet.deployments(certificate_id)[REGION].attempt == 0
    assert held_until(fleet) is None
    fleet.room.waiting.clear()
    sweep(fleet.context, now=fleet.now)
    fleet.run()
    assert fleet.deployments(certificate_id)[REGION].state == "deployed"
