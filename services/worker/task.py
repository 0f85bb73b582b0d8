"""The one way to declare a task: an explicit name, an id in, ``None`` out, log context, and failures that heal.

Celery settings are in ``app.py``. Messages are acknowledged early and never retried by Celery: a task that dies or
raises leaves its row with a lease that runs out, and the sweep wakes it again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import structlog
from celery import Celery

from services.worker import runtime
from shared.telemetry import describe_exception
from shared.usecases.context import Context
from shared.wakeups import Task

log = structlog.get_logger(__name__)

Body = Callable[[Context, str], None]


def task(app: Celery, name: Task) -> Callable[[Body], Body]:
    """Register ``body(context, row_id)`` under ``name``. Later arguments of newer releases are ignored."""

    def register(body: Body) -> Body:
        @wraps(body)
        def run(row_id: str = "", *_newer: object, **_named: object) -> None:
            with structlog.contextvars.bound_contextvars(task=name.value):
                _run(body, row_id)

        app.task(name=name.value, ignore_result=True, acks_late=False)(run)
        return body

    return register


def _run(body: Body, row_id: str) -> None:
    try:
        body(runtime.context(), row_id)
    except Exception as error:  # noqa: BLE001 - nothing is lost: the row's lease runs out and the sweep wakes it again
        log.warning("task_failed", exception=describe_exception(error))
