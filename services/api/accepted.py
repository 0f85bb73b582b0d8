"""The answer to every request that starts a job: 202, the job, and where to look at it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from apiflask.types import ResponseReturnValueType

from services.api.calls import Call
from shared.models import Job
from shared.usecases import browsing

DESCRIPTION: Final = "Accepted; the header Location names the job."


def accepted(call: Call, job: Job, **more: Any) -> ResponseReturnValueType:
    """``{job, …}``; ``more`` are the documents of what else was made."""
    return accepted_document(browsing.job_document(call.session, job), **more)


def accepted_document(job: dict[str, Any], **more: Any) -> ResponseReturnValueType:
    """The same, from the job's document."""
    return {"job": job, **more}, HTTPStatus.ACCEPTED, {"Location": f"/v1/jobs/{job['id']}"}
