"""Queue ``mail``: find certificates that expire, and tell people of that and of other things."""

from __future__ import annotations

from celery import Celery

from services.worker import runtime
from services.worker.task import task
from shared.usecases import notices, reminder_mail, reminder_scan
from shared.usecases.clock import utc_now
from shared.usecases.context import Context
from shared.wakeups import Task


def register(app: Celery) -> None:
    """Register the queue's tasks."""

    @task(app, Task.SCAN_REMINDERS)
    def scan_reminders(context: Context, _row_id: str) -> None:
        reminder_scan.scan(context, now=utc_now())

    @task(app, Task.MAIL)
    def send_reminder(context: Context, reminder_id: str) -> None:
        reminder_mail.send(context, runtime.mailer(), reminder_id, now=utc_now())

    @task(app, Task.NOTICE)
    def send_notice(context: Context, notice_id: str) -> None:
        notices.send(context, runtime.mailer(), notice_id, now=utc_now())
