"""Steps through regions that several threads take at once, and steps whose commit nobody heard of."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import select

from shared.domain.certificates import Material
from shared.errors import Busy
from shared.models import Event
from shared.usecases import rollout, steps
from shared.usecases.cancellation import cancel_job
from shared.usecases.deployment import work_on
from shared.usecases.driver import Driver, Owner, Ref, Staged
from shared.usecases.driver_registry import build_driver
from shared.usecases.region_work import work_in_region
from shared.usecases.steps import Arrival, Step, Turn
from shared.usecases.validation import validate_job
from tests.support.fleet import Fleet, server_upload
from tests.support.wrapped_driver import WrappedDriver

REGION = "cn-hangzhou"


def submit(fleet: Fleet, count: int) -> list[tuple[str, str]]:
    """Validated, and due: job and certificate ids."""
    made = [fleet.submit(server_upload(f"h{number}.example.com", regions=[REGION])) for number in range(count)]
    for job_id, _ in made:
        validate_job(fleet.context, job_id, now=fleet.now)
    return made


def arrive(fleet: Fleet) -> Step:
    [step] = steps.arrive(fleet.context, fleet.tools, [Arrival(region_id=REGION, limit=1)])
    assert step is not None
    return step


def told(fleet: Fleet, job_id: str) -> list[str]:
    with fleet.transaction() as session:
        statement = select(Event.type).where(Event.job_id == job_id).order_by(Event.sequence)
        return list(session.execute(statement).scalars())


@pytest.mark.parametrize("stale_first", [True, False])
def test_who_lost_the_region_gets_no_step_in_it_though_its_holder_asks_in_the_same_moment(
    fleet: Fleet, *, stale_first: bool
) -> None:
    """Two threads of one process: one hung for longer than its lease, the other has taken over."""
    submit(fleet, 6)
    stale = arrive(fleet)
    fleet.pass_time(fleet.context.settings.lease + timedelta(seconds=1))
    holder = arrive(fleet)
    turns = [Turn(site=step.site, delivered=[], limit=3) for step in (stale, holder)]
    answers = steps.go_on(fleet.context, turns if stale_first else turns[::-1])
    of_stale, of_holder = answers if stale_first else answers[::-1]
    assert of_stale.is_over
    assert of_stale.plans == ()
    assert not of_holder.is_over
    assert len(of_holder.plans) == 3
    assert of_holder.site.fence == holder.site.fence


def test_a_step_that_is_taken_again_because_nobody_heard_of_its_commit_tells_nothing_twice(fleet: Fleet) -> None:
    [(job_id, _)] = submit(fleet, 1)
    turn = delivered(fleet)
    steps.go_on(fleet.context, [turn])
    before = told(fleet, job_id)
    assert before[-1] == "job.succeeded"
    steps.go_on(fleet.context, [turn])
    assert told(fleet, job_id) == before


def test_a_step_that_is_taken_again_does_not_answer_for_the_next_job(fleet: Fleet) -> None:
    [(_, certificate_id)] = submit(fleet, 1)
    turn = delivered(fleet)
    steps.go_on(fleet.context, [turn])
    removal = fleet.change(rollout.remove_region, certificate_id, REGION)
    steps.go_on(fleet.context, [turn])
    assert fleet.deployments(certificate_id)[REGION].state == "removing"
    fleet.run()
    assert fleet.job(removal).state == "succeeded"
    assert fleet.deployments(certificate_id)[REGION].state == "removed"


def delivered(fleet: Fleet) -> Turn:
    """A turn that answers for the one deployment that is due."""
    step = arrive(fleet)
    done = work_on(fleet.context, step.site, deque(step.plans))
    assert len(done) == 1
    return Turn(site=step.site, delivered=done, limit=1)


@pytest.mark.parametrize("slow", ["stage", "retire"])
def test_who_loses_the_region_in_a_batch_does_nothing_more_of_it(fleet: Fleet, slow: str) -> None:
    """A balancer that keeps no record of its newest writer would do all of it, and twice."""
    removed = [certificate_id for _, certificate_id in submit(fleet, 3)]
    work_in_region(fleet.context, fleet.tools, REGION)
    submit(fleet, 2 if slow == "stage" else 0)
    for certificate_id in removed:
        fleet.pass_time(timedelta(milliseconds=1))
        validate_job(fleet.context, fleet.change(rollout.remove_region, certificate_id, REGION), now=fleet.now)
    retired: list[str] = []

    class Overtaken(Closed):
        calls = 0

        def stage(self, material: Material, *, owner: Owner) -> Staged:
            self.overtake("stage")
            return self.inner.stage(material, owner=owner)

        def retire(self, ref: Ref) -> bool:
            retired.append(ref.name.certificate_id)
            self.overtake("retire")
            return self.inner.retire(ref)

        def overtake(self, verb: str) -> None:
            """In the second batch, whose first change takes longer than a lease."""
            Overtaken.calls += verb == slow
            if (verb, Overtaken.calls) == (slow, 2):
                fleet.pass_time(fleet.context.settings.lease + timedelta(seconds=1))
                work_in_region(fleet.context, fleet.tools, REGION)

    fleet.driver_for = lambda region: Overtaken(build_driver(region))  # type: ignore[assignment,return-value] # delegates
    work_in_region(fleet.context, fleet.tools, REGION)
    assert Counter(retired) == Counter(removed) + Counter(removed[1:2] if slow == "retire" else [])
    assert {fleet.deployments(each)[REGION].state for each in removed} == {"removed"}


def test_what_was_cancelled_after_its_worker_was_overtaken_does_not_come_there_late(fleet: Fleet) -> None:
    """Whoever undoes it finds nothing, and must make his number known at the balancer all the same."""
    submit(fleet, 1)
    work_in_region(fleet.context, fleet.tools, REGION)
    [(job_id, certificate_id)] = submit(fleet, 1)

    class Late(Closed):
        def fenced(self, fence: int) -> Late:
            return Late(self.inner.fenced(fence))

        def stage(self, material: Material, *, owner: Owner) -> Staged:
            fleet.pass_time(fleet.context.settings.lease + timedelta(seconds=1))
            with fleet.transaction() as session:
                cancel_job(session, fleet.caller, job_id, now=fleet.now)
            work_in_region(fleet.context, fleet.tools, REGION)
            assert fleet.job(job_id).state == "cancelled"
            return self.inner.stage(material, owner=owner)

    fleet.driver_for = lambda region: Late(build_driver(region))  # type: ignore[assignment,return-value] # delegates
    work_in_region(fleet.context, fleet.tools, REGION)
    objects = build_driver(fleet.context.settings.regions[REGION]).snapshot().objects
    assert certificate_id not in {one.ref.name.certificate_id for one in objects}
    assert len(objects) == 1


def test_a_retry_has_its_turn_though_more_becomes_due_all_the_time(fleet: Fleet) -> None:
    """What has been due longest is done first, whatever comes after it."""
    [(job_id, certificate_id)] = submit(fleet, 1)
    fleet.driver_for = lambda region: Closed(build_driver(region))  # type: ignore[assignment,return-value] # delegates
    work_in_region(fleet.context, fleet.tools, REGION)
    assert fleet.job(job_id).state == "deploying"
    fleet.pass_time(timedelta(minutes=5))
    staged: list[str] = []

    class Crowded(Closed):
        def stage(self, material: Material, *, owner: Owner) -> Staged:
            self.come([owner])
            return self.inner.stage(material, owner=owner)

        def stage_all(self, wanted: Sequence[tuple[Material, Owner]]) -> list[Staged]:
            self.come([owner for _, owner in wanted])
            return self.inner.stage_all(wanted)  # type: ignore[attr-defined,no-any-return] # a directory's

        def come(self, owners: Sequence[Owner]) -> None:
            staged.extend(owner.certificate_id for owner in owners)
            if len(staged) < 20:
                fleet.pass_time(timedelta(milliseconds=1))
                submit(fleet, 2)

    fleet.driver_for = lambda region: Crowded(build_driver(region))  # type: ignore[assignment,return-value] # delegates
    submit(fleet, 2)
    work_in_region(fleet.context, fleet.tools, REGION)
    assert staged.index(certificate_id) == 0
    assert fleet.job(job_id).state == "succeeded"


class Closed(WrappedDriver[Driver]):
    """A region that takes nothing."""

    def stage(self, _material: Material, *, owner: Owner) -> Staged:
        raise Busy(f"Closed for {owner.certificate_id}.")
