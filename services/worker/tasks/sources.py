"""Queue ``sources``: what certificate services offer, and what jobs get from them."""

from __future__ import annotations

from celery import Celery

from services.worker import runtime
from services.worker.task import task
from shared.usecases import source_scan
from shared.usecases.acquiring import acquire
from shared.usecases.catalogue import refresh
from shared.usecases.clock import utc_now
from shared.usecases.context import Context
from shared.wakeups import Task


def register(app: Celery) -> None:
    """Register the queue's tasks."""

    @task(app, Task.ACQUIRE)
    def acquisition(context: Context, acquisition_id: str) -> None:
        acquire(context, runtime.source_tools(), acquisition_id)

    @task(app, Task.CATALOGUE)
    def catalogue(context: Context, catalogue_id: str) -> None:
        refresh(context, runtime.source_tools(), catalogue_id)

    @task(app, Task.SCAN_SOURCES)
    def scan(context: Context, _row_id: str) -> None:
        source_scan.scan(context, now=utc_now())
