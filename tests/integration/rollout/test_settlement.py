"""The last region to answer ends its job, though two are last at the same moment and neither sees the other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any, Final

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.events import log
from shared.events.catalogue import EventType
from shared.models import Deployment, Event, leases
from shared.usecases import jobs, settlement
from shared.usecases.settlement import Delivered
from shared.usecases.validation import validate_job
from tests.support.fleet import REGIONS, Fleet, server_upload

PATIENCE_SECONDS: Final = 30.0
ERROR: Final[dict[str, Any]] = {"code": "invalid", "message": "No.", "retryable": False}

Settle = Callable[[Fleet, Session, Deployment, Barrier], None]


def fail(fleet: Fleet, session: Session, deployment: Deployment, line: Barrier) -> None:
    fact = settlement.fail(session, deployment, ERROR, keeps_slot=False, now=fleet.now)
    session.flush()
    line.wait(PATIENCE_SECONDS)
    settlement.settle_region(session, deployment.job_id, fact, now=fleet.now)


def succeed(fleet: Fleet, session: Session, deployment: Deployment, line: Barrier) -> None:
    done = Delivered(deployment_id=deployment.id, fence=deployment.fence, remote_id=None, evidence=None)
    (settled,) = settlement.succeed_all(session, [done], now=fleet.now)
    line.wait(PATIENCE_SECONDS)
    fact = jobs.region_fact(EventType.DEPLOYMENT_SUCCEEDED, settled)
    log.append_to_each(session, settlement.end_jobs(session, [fact], now=fleet.now), now=fleet.now)


@pytest.mark.parametrize(
    ("one", "other", "ending"),
    [(fail, fail, "failed"), (succeed, succeed, "succeeded"), (fail, succeed, "partially_succeeded")],
    ids=["both-fail", "both-succeed", "one-of-each"],
)
def test_of_two_that_answer_last_at_once_one_ends_the_job(
    fleet: Fleet, one: Settle, other: Settle, ending: str
) -> None:
    job_id, certificate_id = fleet.submit(server_upload(regions=REGIONS[:2]))
    validate_job(fleet.context, job_id, now=fleet.now)
    line = Barrier(2)

    def answer(settle: Settle, region: str) -> None:
        with fleet.transaction() as session:
            row_id = fleet.deployments(certificate_id)[region].id
            leases.claim(session, Deployment, row_id, now=fleet.now, lease=timedelta(seconds=60))
            settle(fleet, session, session.get_one(Deployment, row_id), line)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(answer, (one, other), REGIONS[:2], timeout=PATIENCE_SECONDS))
    assert fleet.job(job_id).state == ending
    with fleet.transaction() as session:
        told = select(func.count()).where(Event.job_id == job_id, Event.type == f"job.{ending}")
        assert session.execute(told).scalar_one() == 1
