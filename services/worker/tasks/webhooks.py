"""Queue ``webhooks``: one event to one endpoint, and replays of many."""

from __future__ import annotations

from celery import Celery

from services.worker import runtime
from services.worker.task import task
from shared.usecases.clock import utc_now
from shared.usecases.context import Context
from shared.usecases.webhook_delivery import deliver
from shared.usecases.webhook_replay import advance
from shared.wakeups import Task


def register(app: Celery) -> None:
    """Register the queue's tasks."""

    @task(app, Task.DELIVER)
    def deliver_webhook(context: Context, delivery_id: str) -> None:
        deliver(context, runtime.sender(), delivery_id, now=utc_now())

    @task(app, Task.REPLAY)
    def replay_events(context: Context, replay_id: str) -> None:
        advance(context, replay_id, now=utc_now())
