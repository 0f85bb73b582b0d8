"""One file a queue."""

from __future__ import annotations

from celery import Celery

from services.worker.tasks import deploy, mail, patrol, sources, sweep, validate, webhooks


def register_all(app: Celery) -> None:
    """Register every task of every queue."""
    for module in (validate, deploy, webhooks, mail, sweep, patrol, sources):
        module.register(app)
