"""Queue ``deploy``: one task a region, in parallel."""

from __future__ import annotations

from celery import Celery

from shared.usecases.driver_registry import build_driver
from services.worker.task import task, utc_now
from shared.usecases.context import Context
from shared.usecases.deployment import work_in_region
from shared.wakeups import Task


def register(app: Celery) -> None:
    """Register the queue's tasks."""

    @task(app, Task.DEPLOY)
    def deploy(context: Context, deployment_id: str) -> None:
        work_in_region(context, build_driver, deployment_id, clock=utc_now)
