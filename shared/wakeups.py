"""Wake-ups: tiny messages (a task's name and one id) that tell a worker to look into the database.

The database is the truth; losing every wake-up loses nothing, because the sweep wakes whatever is due and unowned.
Hence publishing is best effort, happens after the commit, and is bounded (``PUBLISH_OPTIONS``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import structlog
from celery import Celery

log = structlog.get_logger(__name__)


class Task(StrEnum):
    """Explicit task names. The part before the last dot is routed to the queue of the same word.

    ``DEPLOY`` and ``BIND`` name one row of a region, ``DELIVER`` one of a lane; nobody sends them any more, but older
    releases may have.
    """

    VALIDATE = "certfleet.validate.job"
    REGION = "certfleet.deploy.region"
    DEPLOY = "certfleet.deploy.deployment"
    BIND = "certfleet.deploy.listener"
    LANE = "certfleet.webhooks.lane"
    DELIVER = "certfleet.webhooks.delivery"
    REPLAY = "certfleet.webhooks.replay"
    MAIL = "certfleet.mail.recipient"
    NOTICE = "certfleet.mail.notice"
    SCAN_REMINDERS = "certfleet.mail.scan"
    SWEEP = "certfleet.sweep.due"
    PATROL = "certfleet.sweep.patrol"
    RETENTION = "certfleet.sweep.retention"
    PATROL_LISTENER = "certfleet.patrol.listener"
    PATROL_REGION = "certfleet.patrol.region"
    ACQUIRE = "certfleet.sources.acquisition"
    CATALOGUE = "certfleet.sources.catalogue"
    SCAN_SOURCES = "certfleet.sources.scan"


QUEUES: Final = ("validate", "deploy", "webhooks", "mail", "sweep", "patrol", "sources")
"""One queue a kind of work, so that a slow kind cannot starve another. Routed by name prefix."""

ROUTES: Final = {f"certfleet.{queue}.*": {"queue": queue} for queue in QUEUES}

PUBLISH_OPTIONS: Final = {
    "socket_connect_timeout": 0.5,
    "socket_timeout": 1,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}
"""Bounds a publish to an absent broker to about 50 ms and to a silent one to about 2 s (measured on Celery 5.7)."""


@dataclass(frozen=True, slots=True)
class WakeUp:
    """Run ``task`` for the row ``id``; ids only, never content."""

    task: Task
    id: str


class Publisher(Protocol):
    """Where wake-ups go after a commit."""

    def publish(self, wake_ups: Iterable[WakeUp]) -> None:
        """Send them, best effort: an unreachable broker is logged and never raised."""


def broker_url(redis_url: str) -> str:
    """Celery's spelling of a Redis URL: ``unix:///path?db=0`` becomes ``redis+socket:///path?virtual_host=0``."""
    if not redis_url.startswith("unix://"):
        return redis_url
    return redis_url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=")


def producer(redis_url: str) -> Celery:
    """A Celery application that only publishes."""
    app = Celery("certfleet", broker=broker_url(redis_url), set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_publish_retry=False,
        task_serializer="json",
        accept_content=["json"],
        task_routes=ROUTES,
        broker_transport_options=dict(PUBLISH_OPTIONS),
        broker_connection_retry_on_startup=True,
    )
    return app


class CeleryPublisher:
    """Publishes through Celery: all wake-ups of a commit in one round trip, or none; the sweep brings what is lost."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def publish(self, wake_ups: Iterable[WakeUp]) -> None:
        """Send each distinct wake-up once, over one connection, together (kombu's batch, where the broker can)."""
        distinct = list(dict.fromkeys(wake_ups))
        if not distinct:
            return
        try:
            with (
                self._app.producer_pool.acquire(block=True, timeout=1) as connection,
                connection.batch(),  # type: ignore[attr-defined] # new in kombu 5.7, the stubs are older
            ):
                for wake_up in distinct:
                    self._app.send_task(wake_up.task, args=(wake_up.id,), producer=connection, retry=False)
        except Exception as error:  # noqa: BLE001 - any broker failure is harmless here: the rows are committed, the sweep wakes them
            log.warning("wake_up_not_published", error=type(error).__name__, count=len(distinct))
