"""Jobs that are cancelled half-way: how to get them there, and what to look at afterwards."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from sqlalchemy import select

from shared.domain.rollout import FINAL_JOBS
from shared.models import Deployment, Event, Job, Listener
from shared.usecases.browsing import get_job
from shared.usecases.cancellation import cancel_job
from shared.usecases.replacement import NewContent, replace_certificate
from shared.usecases.sweep import sweep
from shared.usecases.validation import validate_job
from tests.support import pki
from tests.support.fleet import REGIONS, Fleet, server_upload
from tests.support.listeners import add_listener

HOST = "www.example.com"


def validated(fleet: Fleet) -> tuple[str, str]:
    """A job whose regions are all due, and none of them begun; job and certificate."""
    job_id, certificate_id = fleet.submit(server_upload(HOST))
    validate(fleet, job_id)
    return job_id, certificate_id


def validate(fleet: Fleet, job_id: str) -> None:
    """Validate the job; nobody is woken for its regions."""
    validate_job(fleet.context, job_id, now=fleet.now)
    fleet.room.waiting.clear()


def deployed(fleet: Fleet) -> str:
    """A certificate that every region has."""
    _, certificate_id = fleet.submit(server_upload(HOST))
    fleet.run()
    return certificate_id


def served(fleet: Fleet) -> tuple[str, dict[str, str]]:
    """A certificate that every region serves to the host, and each region's listener."""
    certificate_id = deployed(fleet)
    listeners = {region: add_listener(fleet, region, [HOST], server=certificate_id) for region in REGIONS}
    fleet.run()
    return certificate_id, listeners


def replace(fleet: Fleet, certificate_id: str) -> tuple[str, str]:
    """Submit new content for the certificate; job id and the new certificate's id."""
    issued = pki.server_with_chain(HOST)
    content = NewContent(certificate=issued.chain_pem, private_key=issued.key_pem)
    with fleet.transaction() as session:
        job, new = replace_certificate(fleet.context, session, fleet.caller, certificate_id, content, now=fleet.now)
        return job.id, new.id


def work(fleet: Fleet, certificate_id: str, region: str) -> None:
    """Do what is due in this region, and nothing in the others."""
    fleet.work(fleet.deployments(certificate_id)[region].id)


def cancel(fleet: Fleet, job_id: str) -> str:
    """Cancel the job; its state then."""
    with fleet.transaction() as session:
        return cancel_job(session, fleet.caller, job_id, now=fleet.now).state


def answers(fleet: Fleet, job_id: str) -> dict[str, str]:
    """What the job says of each region, and of each listener by its region."""
    with fleet.transaction() as session:
        document = get_job(session, fleet.caller, job_id)
    return {each["region"]: each["state"] for each in [*document["deployments"], *document["listeners"]]}


def told(fleet: Fleet, job_id: str) -> list[tuple[str, str | None]]:
    """The job's events: type and region."""
    with fleet.transaction() as session:
        rows = session.execute(select(Event).where(Event.job_id == job_id).order_by(Event.sequence)).scalars()
        return [(row.type, row.data.get("region")) for row in rows]


def settle_down(fleet: Fleet, *, rounds: int = 3) -> None:
    """Let sweep and workers run until nothing is left to do but what waits for a long back-off."""
    for _ in range(rounds):
        fleet.run()
        fleet.pass_time(timedelta(seconds=90))
        sweep(fleet.context, now=fleet.now)
    fleet.run()


def must_be_over(fleet: Fleet, job_id: str) -> None:
    """The job is over, was told once, every region answered once, and no row of it waits for anything."""
    job = fleet.job(job_id)
    assert job.state in FINAL_JOBS, job.state
    types = Counter(told(fleet, job_id))
    endings = [kind for kind, _ in types if kind in {f"job.{state}" for state in FINAL_JOBS}]
    assert endings == [f"job.{job.state}"]
    finals = ("deployment.succeeded", "deployment.failed", "deployment.removed")
    assert {count for (kind, _), count in types.items() if kind in finals or kind in endings} <= {1}
    with fleet.transaction() as session:
        for model in (Deployment, Listener):
            waiting = select(model.id).where(model.job_id == job_id, model.next_attempt_at.is_not(None))
            assert session.execute(waiting).all() == []
        assert session.get_one(Job, job_id).next_attempt_at is None
