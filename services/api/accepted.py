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
    answer = {"job": browsing.job_document(call.session, job), **more}
    return answer, HTTPStatus.ACCEPTED, {"Location": f"/v1/jobs/{job.id}"}
