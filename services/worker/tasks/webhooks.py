"""Queue ``webhooks``: what is due to a receiver, and replays of many events."""

from __future__ import annotations

from celery import Celery

from services.worker import runtime
from services.worker.task import task
from shared.usecases.clock import utc_now
from shared.usecases.context import Context
from shared.usecases.webhook_delivery import work_in_lane, work_in_lane_of
from shared.usecases.webhook_replay import advance
from shared.wakeups import Task


def register(app: Celery) -> None:
    """Register the queue's tasks."""

    @task(app, Task.LANE)
    def work_through_lane(_context: Context, lane_id: str) -> None:
        work_in_lane(runtime.courier(), lane_id)

    @task(app, Task.DELIVER)
    def deliver_webhook(_context: Context, delivery_id: str) -> None:
        work_in_lane_of(runtime.courier(), delivery_id)

    @task(app, Task.REPLAY)
    def replay_events(context: Context, replay_id: str) -> None:
        advance(context, replay_id, now=utc_now())
