"""The Celery application of the worker and of beat: settings with their reasons, and the tasks."""

from __future__ import annotations

from typing import Any, Final

from celery import Celery, signals

from services.worker import ending, runtime
from services.worker.schedule import SCHEDULER, beat_schedule
from services.worker.tasks import register_all
from shared.errors import Misconfigured
from shared.telemetry import configure_logging
from shared.usecases.key_policies import tell_unsupported
from shared.wakeups import PUBLISH_OPTIONS, ROUTES, broker_url

CONFIGURATION: Final[dict[str, Any]] = {
    "task_ignore_result": True,
    "result_backend": None,  # the last region settles the job from the rows; no chord, no backend
    "task_acks_late": False,  # late acks make the 5.7 worker die when Redis restarts; leases need none
    "task_publish_retry": False,
    "worker_prefetch_multiplier": 1,
    "task_serializer": "json",
    "accept_content": ["json"],
    "timezone": "UTC",
    "task_routes": ROUTES,
    "task_default_queue": "sweep",
    "task_create_missing_queues": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,  # the default gives up after 100
    "broker_transport_options": {
        **PUBLISH_OPTIONS,
        "socket_timeout": 5,  # a consumer waits for work: a second of silence is no fault
        "socket_keepalive": True,
        "health_check_interval": 25,
        "ack_emulation": False,  # a list of unacknowledged messages costs two round trips each; the sweep needs none
    },
    "worker_soft_shutdown_timeout": 0,  # it would sleep in the signal handler, before anybody is told to stop
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_send_task_events": False,
}
"""Why each is so: docs/adr/0002."""


def create_app() -> Celery:
    """Built from the environment; all problems of the settings are said at once, then the process ends."""
    try:
        settings = runtime.settings()
    except Misconfigured as error:
        raise SystemExit("\n".join(error.problems)) from error
    celery = Celery("certfleet", broker=broker_url(settings.redis_url))
    celery.conf.update(CONFIGURATION, beat_schedule=beat_schedule(settings), beat_scheduler=SCHEDULER)
    configure_logging(settings.log_level)
    tell_unsupported(settings.regions.values())
    register_all(celery)
    ending.register()
    return celery


@signals.setup_logging.connect
def _keep_our_logging(**_options: object) -> None:
    """Celery leaves logging alone once somebody is connected here; ours is set in ``create_app``."""


app = create_app()
"""What ``celery -A services.worker.app:app`` finds."""
