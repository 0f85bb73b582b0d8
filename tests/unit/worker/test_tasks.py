"""Every wake-up has a task, and every task a queue that somebody consumes."""

from __future__ import annotations

import pytest
from celery import Celery

from services.cli.embedded.programs import WORKER_QUEUES
from services.worker.tasks import register_all
from shared.wakeups import QUEUES, ROUTES, Task

pytestmark = pytest.mark.unit


def test_every_name_has_exactly_one_task() -> None:
    app = Celery("test", set_as_current=False)
    register_all(app)

    assert {name for name in app.tasks if not name.startswith("celery.")} == {task.value for task in Task}


def test_every_task_is_routed_by_its_name() -> None:
    assert {f"{task.rpartition('.')[0]}.*" for task in Task} == set(ROUTES)


def test_every_queue_is_consumed_once() -> None:
    consumed = [queue for queues in WORKER_QUEUES.values() for queue in queues.split(",")]

    assert sorted(consumed) == sorted(QUEUES)
