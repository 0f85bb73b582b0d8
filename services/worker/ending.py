"""How a worker ends: rows that are begun are finished, within a bound; then what is left is given back by force."""

from __future__ import annotations

import os
import signal
import threading
from datetime import timedelta
from typing import Any, Final

import structlog
from celery import signals

from services.worker import runtime
from shared.telemetry import describe_exception
from shared.usecases.clock import utc_now
from shared.usecases.stopping import hand_back

log = structlog.get_logger(__name__)

WARM: Final = timedelta(seconds=20)
"""SIGTERM: for so long what is begun may go on. Supervisors kill after 30 s (stop_grace_period, stop_seconds)."""

COLD: Final = timedelta(0)
"""SIGQUIT, also after a SIGTERM: at once."""

GIVING_BACK: Final = timedelta(seconds=5)
"""To give back what is held; a database that is away does not keep the process alive."""

FORCED: Final = 1
"""The exit status of an end by force; an orderly one is 0."""


def register() -> None:
    """Be told by Celery when the process is asked to end."""
    signals.worker_shutting_down.connect(_finish, weak=False)
    signals.worker_ready.connect(_take_quit, weak=False)


def _take_quit(**_more: Any) -> None:
    """SIGQUIT is ours alone: Celery's way cancels tasks, which a pool of threads cannot."""
    signal.signal(signal.SIGQUIT, lambda _number, _frame: _within(COLD))


def _finish(**_more: Any) -> None:
    _within(WARM)


def _within(bound: timedelta) -> None:
    """In a signal handler: only what cannot wait for a lock that the interrupted thread holds."""
    runtime.stopping().ask()
    timer = threading.Timer(bound.total_seconds(), _end)
    timer.daemon = True
    timer.start()


def _end() -> None:
    """What is still at work hangs: others go on with it at once, and not only when its lease has run out."""
    giving = threading.Thread(target=_give_back, daemon=True)
    giving.start()
    giving.join(GIVING_BACK.total_seconds())
    os._exit(FORCED)


def _give_back() -> None:
    try:
        regions = hand_back(runtime.context(), runtime.stopping(), now=utc_now())
    except Exception as error:  # noqa: BLE001 - nothing is lost: leases run out
        log.warning("not_given_back", exception=describe_exception(error))
    else:
        log.warning("ended_by_force", count=len(regions))
