"""One job, live: what each region does and why, retry of one that failed, cancel."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.api import streams
from services.api.console.blueprint import Pages, signed_in
from services.api.console.language import _
from services.api.console.rendering import render
from services.api.console.visits import current_visit
from shared.domain.rollout import FINAL_JOBS
from shared.events.catalogue import EventType
from shared.schemas.events import MAX_SEQUENCE
from shared.usecases import browsing
from shared.usecases.cancellation import cancel_job
from shared.usecases.history import EventFilters, newest_sequence
from shared.usecases.rollout import retry_region

blueprint = Pages("job", __name__)


@blueprint.get("/jobs/<job_id>")
@signed_in
def show(job_id: str) -> str:
    """Look at it. Without a script the page loads itself again while the job runs."""
    visit = current_visit()
    after = newest_sequence(visit.session, visit.caller)
    job = browsing.get_job(visit.session, visit.caller, job_id)
    return render(
        "job.html",
        job=job,
        certificate=browsing.certificate_or_none(visit.session, visit.caller, job["certificate_id"]),
        is_running=job["state"] not in FINAL_JOBS,
        after=after,
        event_types=" ".join(EventType),
    )


@blueprint.get("/jobs/<job_id>/events")
@signed_in
def follow(job_id: str) -> Response:
    """The job's events as they happen (Server-Sent Events), from ``?after=`` or the last one that was heard."""
    visit = current_visit()
    job = browsing.find_job(visit.session, visit.caller, job_id)
    given = request.headers.get("Last-Event-ID") or request.args.get("after", "")
    after = int(given) if given.isascii() and given.isdecimal() and int(given[:20]) <= MAX_SEQUENCE else 0
    return streams.open_stream(visit.context, visit.caller, EventFilters(after=after, job_id=job.id))


@blueprint.post("/jobs/<job_id>/cancel")
@signed_in
def cancel(job_id: str) -> AnyResponse:
    """Begin nothing more for it."""
    visit = current_visit()
    cancel_job(visit.session, visit.caller, job_id, now=visit.now)
    visit.say(_("Regions that have not begun stay as they are; those that have finish."))
    return redirect(f"/jobs/{job_id}", HTTPStatus.SEE_OTHER)


@blueprint.post("/certificates/<certificate_id>/regions/<region>/retry")
@signed_in
def retry(certificate_id: str, region: str) -> AnyResponse:
    """Try one failed region again; the others stay as they are."""
    visit = current_visit()
    job = retry_region(visit.session, visit.caller, certificate_id, region, now=visit.now)
    return redirect(f"/jobs/{job.id}", HTTPStatus.SEE_OTHER)
