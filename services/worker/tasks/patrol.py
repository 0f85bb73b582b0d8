"""Queue ``patrol``: what clients get from each listener, and what each balancer says of itself."""

from __future__ import annotations

from celery import Celery

from services.worker import runtime
from services.worker.task import task
from shared.usecases.context import Context
from shared.usecases.patrol import look_at_listener
from shared.usecases.region_patrol import look_at_region
from shared.wakeups import Task


def register(app: Celery) -> None:
    """Register the queue's tasks."""

    @task(app, Task.PATROL_LISTENER)
    def listener(context: Context, listener_id: str) -> None:
        look_at_listener(context, runtime.region_tools(), listener_id)

    @task(app, Task.PATROL_REGION)
    def region(context: Context, region_id: str) -> None:
        look_at_region(context, runtime.region_tools(), region_id)
