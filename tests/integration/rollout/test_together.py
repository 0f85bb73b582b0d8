"""Deployments that are due together in a region: one change at the balancer, one answer each, one wake-up at most."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from services.worker.drivers.directory import DirectoryDriver
from shared.config.regions import Region
from shared.domain.certificates import Material
from shared.errors import Busy, InvalidMaterial
from shared.models import Deployment, Event, JobDeployment, leases
from shared.usecases import balancers
from shared.usecases.driver import Driver, Owner, Staged
from shared.usecases.driver_registry import build_driver
from shared.usecases.region_work import work_in_region
from shared.usecases.validation import validate_job
from shared.wakeups import Task
from tests.support.fleet import Fleet, server_upload
from tests.support.locks import PATIENCE_SECONDS, wait_until_somebody_waits_for_a_lock
from tests.support.wrapped_driver import WrappedDriver

REGION = "cn-hangzhou"


def submit(fleet: Fleet, count: int) -> list[tuple[str, str]]:
    """Validated, and due: job and certificate ids."""
    made = [fleet.submit(server_upload(f"h{number}.example.com", regions=[REGION])) for number in range(count)]
    for job_id, _ in made:
        validate_job(fleet.context, job_id, now=fleet.now)
    return made


def states(fleet: Fleet, made: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [
        (fleet.job(job_id).state, fleet.deployments(certificate_id)[REGION].state) for job_id, certificate_id in made
    ]


def generation(fleet: Fleet) -> int:
    path = Path(fleet.context.settings.regions[REGION].settings["path"])
    return int(json.loads((path / "current" / "MANIFEST.json").read_text())["generation"])


class Watched(WrappedDriver[DirectoryDriver]):
    """A directory region; what it is asked to stage together, and what happens meanwhile."""

    def __init__(self, inner: Driver, calls: list[int], *, refused: Exception | None = None) -> None:
        assert isinstance(inner, DirectoryDriver)
        super().__init__(inner)
        self.calls = calls
        self.refused = refused

    def stage_all(self, wanted: Sequence[tuple[Material, Owner]]) -> list[Staged]:
        self.calls.append(len(wanted))
        if self.refused is not None:
            raise self.refused
        return self.inner.stage_all(wanted)


def watch(fleet: Fleet, *, refused: Exception | None = None) -> list[int]:
    calls: list[int] = []

    def driver_for(region: Region) -> Driver:
        return Watched(build_driver(region), calls, refused=refused)  # type: ignore[return-value] # delegates the rest

    fleet.driver_for = driver_for
    return calls


def test_what_is_due_goes_out_in_one_change_and_each_job_gets_its_own_answer(fleet: Fleet) -> None:
    made = submit(fleet, 12)
    calls = watch(fleet)
    work_in_region(fleet.context, fleet.tools, REGION)
    assert states(fleet, made) == [("succeeded", "deployed")] * 12
    assert sum(calls) == 11
    assert generation(fleet) == 1 + len(calls)
    with fleet.transaction() as session:
        answers = session.execute(select(JobDeployment.state, JobDeployment.attempt, JobDeployment.error)).all()
        assert {tuple(row) for row in answers} == {("deployed", 1, None)}
        types = session.execute(select(Event.type, Event.job_id).order_by(Event.sequence)).all()
    for job_id, _ in made:
        told = [kind for kind, job in types if job == job_id]
        assert told[-3:] == ["deployment.started", "deployment.succeeded", "job.succeeded"]


def test_one_that_stands_in_the_way_fails_alone(fleet: Fleet) -> None:
    made = submit(fleet, 5)
    watch(fleet, refused=InvalidMaterial("No."))
    work_in_region(fleet.context, fleet.tools, REGION)
    assert states(fleet, made) == [("succeeded", "deployed")] * 5


def test_an_object_that_cannot_be_staged_leaves_the_others_deployed(fleet: Fleet) -> None:
    made = submit(fleet, 6)
    spoiled = made[3][1]
    with fleet.transaction() as session:
        row = fleet.certificate(spoiled)
        session.merge(row).chain_pem = "not a certificate"
    work_in_region(fleet.context, fleet.tools, REGION)
    found = states(fleet, made)
    assert found.pop(3) == ("failed", "failed")
    assert found == [("succeeded", "deployed")] * 5


def test_an_answer_with_an_old_fence_changes_nothing_and_the_others_count(fleet: Fleet) -> None:
    made = submit(fleet, 4)
    stolen = fleet.deployments(made[2][1])[REGION].id

    class Stolen(Watched):
        def stage_all(self, wanted: Sequence[tuple[Material, Owner]]) -> list[Staged]:
            staged = super().stage_all(wanted)
            with fleet.transaction() as session:
                session.execute(update(Deployment).where(Deployment.id == stolen).values(fence=Deployment.fence + 1))
            return staged

    fleet.driver_for = lambda region: Stolen(build_driver(region), [])  # type: ignore[assignment,return-value] # delegates
    work_in_region(fleet.context, fleet.tools, REGION)
    found = states(fleet, made)
    assert found.pop(2) == ("deploying", "deploying")
    assert found == [("succeeded", "deployed")] * 3


def test_a_retry_is_claimed_alone(fleet: Fleet) -> None:
    """Whatever kills its worker takes others with it once at most."""
    made = submit(fleet, 4)
    with fleet.transaction() as session:
        session.execute(update(Deployment).values(attempt=1))
    calls = watch(fleet)
    work_in_region(fleet.context, fleet.tools, REGION)
    assert calls == []
    assert states(fleet, made) == [("succeeded", "deployed")] * 4


def test_a_busy_region_is_told_to_each_and_each_is_tried_again(fleet: Fleet) -> None:
    made = submit(fleet, 3)

    class Closed(Watched):
        def stage(self, _material: Material, *, owner: Owner) -> Staged:
            raise Busy(f"Closed for {owner.certificate_id}.")

    fleet.driver_for = lambda region: Closed(build_driver(region), [], refused=Busy("Closed."))  # type: ignore[assignment,return-value] # delegates
    work_in_region(fleet.context, fleet.tools, REGION)
    for _, certificate_id in made:
        row = fleet.deployments(certificate_id)[REGION]
        assert (row.state, row.attempt) == ("pending", 1)
        assert row.error is not None
        assert certificate_id in row.error["message"]


@pytest.mark.parametrize("count", [1, 40])
def test_one_message_wakes_a_region_however_much_is_due_there(fleet: Fleet, count: int) -> None:
    submit(fleet, count)
    woken = dict.fromkeys(wake_up.id for wake_up in fleet.room.waiting if wake_up.task is Task.REGION)
    assert list(woken) == [REGION]


def woken(fleet: Fleet) -> list[str]:
    """The regions that somebody was woken for since the last look."""
    regions = [wake_up.id for wake_up in fleet.room.waiting if wake_up.task is Task.REGION]
    fleet.room.waiting.clear()
    return regions


def test_a_region_that_is_worked_on_is_not_woken_and_what_became_due_there_is_done_all_the_same(fleet: Fleet) -> None:
    made = submit(fleet, 1)
    woken(fleet)

    class Overtaken(Watched):
        def stage(self, material: Material, *, owner: Owner) -> Staged:
            if len(made) == 1:
                made.extend(submit(fleet, 1))
                assert woken(fleet) == []
            return self.inner.stage(material, owner=owner)

    fleet.driver_for = lambda region: Overtaken(build_driver(region), [])  # type: ignore[assignment,return-value] # delegates
    work_in_region(fleet.context, fleet.tools, REGION)
    assert states(fleet, made) == [("succeeded", "deployed")] * 2


def test_a_holder_that_waits_for_whoever_makes_something_due_sees_it(fleet: Fleet) -> None:
    """It takes the time after that wait: what became due meanwhile is due, and nobody was woken for it."""
    made = submit(fleet, 2)
    last = fleet.deployments(made[1][1])[REGION].id
    put_off(fleet, last, timedelta(hours=1))
    is_at_work, may_go_on = threading.Event(), threading.Event()

    class Slow(Watched):
        def stage(self, material: Material, *, owner: Owner) -> Staged:
            is_at_work.set()
            may_go_on.wait(PATIENCE_SECONDS)
            return self.inner.stage(material, owner=owner)

    fleet.driver_for = lambda region: Slow(build_driver(region), [])  # type: ignore[assignment,return-value] # delegates
    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(work_in_region, fleet.context, fleet.tools, REGION)
        assert is_at_work.wait(PATIENCE_SECONDS)
        with fleet.transaction() as request:
            assert balancers.unattended(request, [REGION], now=fleet.now) == []
            may_go_on.set()
            wait_until_somebody_waits_for_a_lock(fleet)
            fleet.pass_time(timedelta(seconds=1))
            leases.due(request.get_one(Deployment, last), fleet.now)
        holder.result(PATIENCE_SECONDS)
    assert states(fleet, made) == [("succeeded", "deployed")] * 2


def put_off(fleet: Fleet, deployment_id: str, step: timedelta) -> None:
    with fleet.transaction() as session:
        leases.due(session.get_one(Deployment, deployment_id), fleet.now + step)


def test_a_region_is_woken_while_a_step_through_it_is_on_its_way(fleet: Fleet) -> None:
    """That step may have looked before what becomes due now; whoever is woken waits for its commit."""
    submit(fleet, 1)
    until = fleet.now + fleet.context.settings.lease
    with fleet.transaction() as session:
        assert balancers.take(session, [REGION], now=fleet.now, until=until)
    with fleet.transaction() as stepping:
        assert balancers.keep(stepping, {REGION: 1}, until=until)
        woken(fleet)
        submit(fleet, 1)
        assert woken(fleet) == [REGION]


@pytest.mark.parametrize(("held_for", "expected"), [(timedelta(seconds=1), []), (timedelta(0), [REGION])])
def test_a_region_is_woken_once_its_holders_lease_has_run_out(
    fleet: Fleet, held_for: timedelta, expected: list[str]
) -> None:
    submit(fleet, 1)
    with fleet.transaction() as session:
        assert balancers.take(session, [REGION], now=fleet.now, until=fleet.now + held_for)
    woken(fleet)
    submit(fleet, 1)
    assert woken(fleet) == expected


def test_a_region_that_the_patrol_held_is_woken_when_it_is_left(fleet: Fleet) -> None:
    """The patrol puts right what it came for, and does not look whether anything became due meanwhile."""
    with balancers.writing(fleet.context, REGION, clock=lambda: fleet.now):
        made = submit(fleet, 1)
        assert woken(fleet) == []
    fleet.run()
    assert states(fleet, made) == [("succeeded", "deployed")]
