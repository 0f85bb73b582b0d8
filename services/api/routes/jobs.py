"""/v1/jobs: how far each request is."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from apiflask.types import ResponseReturnValueType

from services.api.accepted import accepted
from services.api.calls import authorized, current_call
from services.api.resource import Resource
from shared.domain.scopes import Scope
from shared.schemas.base import Nothing, PageQuery
from shared.schemas.jobs import JobAcceptedOut, JobOut, JobPage, JobQuery, RegionAttemptPage
from shared.usecases import attempts, browsing
from shared.usecases.browsing import JobFilters
from shared.usecases.cancellation import cancel_job

blueprint = Resource("jobs", __name__, tag="Jobs")


@blueprint.get("/v1/jobs")
@authorized(Scope.READ)
@blueprint.takes(JobQuery, location="query")
@blueprint.answers(JobPage)
def index(query_data: dict[str, Any]) -> ResponseReturnValueType:
    """List jobs, newest first."""
    call = current_call()
    page = call.page(query_data)
    found = browsing.list_jobs(call.session, call.caller, JobFilters(**query_data), page)
    return {"items": found.items, "next_cursor": found.next_cursor}


@blueprint.get("/v1/jobs/<job_id>")
@authorized(Scope.READ)
@blueprint.answers(JobOut)
def show(job_id: str) -> ResponseReturnValueType:
    """Look at a job, region by region."""
    call = current_call()
    return browsing.get_job(call.session, call.caller, job_id)


@blueprint.get("/v1/jobs/<job_id>/attempts")
@authorized(Scope.READ)
@blueprint.takes(PageQuery, location="query")
@blueprint.answers(RegionAttemptPage)
def list_attempts(job_id: str, query_data: dict[str, Any]) -> ResponseReturnValueType:
    """List everything that was tried for a job, in every region, oldest first."""
    call = current_call()
    page = call.page(query_data)
    found = attempts.list_attempts(call.session, browsing.find_job(call.session, call.caller, job_id), page)
    return {"items": found.items, "next_cursor": found.next_cursor}


@blueprint.post("/v1/jobs/<job_id>/cancel")
@authorized(Scope.WRITE)
@blueprint.takes(Nothing)
@blueprint.answers(JobAcceptedOut, HTTPStatus.ACCEPTED, description="Nothing more is begun for the job.")
def cancel(job_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:  # noqa: ARG001 - checked to be empty
    """Cancel a job: regions that have not begun stay as they are, those that have finish.

    The job's regions tell them apart. What a failed attempt may have left is undone before its region answers.
    """
    call = current_call()
    return accepted(call, cancel_job(call.session, call.caller, job_id, now=call.now))
