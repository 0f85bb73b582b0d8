"""Queue ``validate``: look at an upload and send its regions on their way."""

from __future__ import annotations

from celery import Celery

from services.worker.task import task
from shared.usecases.clock import utc_now
from shared.usecases.context import Context
from shared.usecases.validation import validate_job
from shared.wakeups import Task


def register(app: Celery) -> None:
    """Register the queue's tasks."""

    @task(app, Task.VALIDATE)
    def validate(context: Context, job_id: str) -> None:
        validate_job(context, job_id, now=utc_now())
