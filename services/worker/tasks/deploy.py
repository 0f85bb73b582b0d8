"""Queue ``deploy``: one region at a time and task; whoever is woken for a region does all that is due there."""

from __future__ import annotations

from celery import Celery

from services.worker import runtime
from services.worker.task import task
from shared.models import Deployment, Listener
from shared.usecases.context import Context
from shared.usecases.region_work import work_in_region, work_in_region_of
from shared.wakeups import Task


def register(app: Celery) -> None:
    """Register the queue's tasks."""

    @task(app, Task.REGION)
    def region(context: Context, region_id: str) -> None:
        work_in_region(context, runtime.region_tools(), region_id)

    @task(app, Task.DEPLOY)
    def deploy(context: Context, deployment_id: str) -> None:
        work_in_region_of(context, runtime.region_tools(), Deployment, deployment_id)

    @task(app, Task.BIND)
    def bind(context: Context, listener_id: str) -> None:
        work_in_region_of(context, runtime.region_tools(), Listener, listener_id)
