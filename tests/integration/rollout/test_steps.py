"""Steps through regions that several threads take at once, and steps whose commit nobody heard of."""

from __future__ import annotations

from collections import deque
from datetime import timedelta

import pytest
from sqlalchemy import select

from shared.models import Event
from shared.usecases import rollout, steps
from shared.usecases.deployment import work_on
from shared.usecases.steps import Arrival, Step, Turn
from shared.usecases.validation import validate_job
from tests.support.fleet import Fleet, server_upload

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
