"""Workers that look for what expires and mail it until a test kills them (``tests/support/killable.py``).

Each does what Celery's would do for every beat and wake-up, with the real mailer.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy import select

from services.worker.mail import SmtpMailer
from shared.config.regions import Region
from shared.config.settings import Settings
from shared.crypto.vault import load_vault
from shared.models import Reminder
from shared.models.database import Database
from shared.usecases.context import Context
from shared.usecases.reminder_mail import send
from shared.usecases.reminder_scan import scan
from tests.support import pki
from tests.support.fleet import WaitingRoom
from tests.support.killable import Workers, fork_on_demand, killable_workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a worker needs to know. ``began``: the real time at which the test's clock showed ``pki.NOW``."""

    database_url: str
    kek_file: str
    smtp_url: str
    began: float

    def now(self, ahead: timedelta) -> datetime:
        """The test's time, running, of a worker that is so far ahead."""
        return pki.NOW + ahead + (datetime.now(UTC) - datetime.fromtimestamp(self.began, UTC))


def mail_workers(orders: Orders) -> AbstractContextManager[Workers]:
    """Workers with these orders, started with ``start``."""
    return killable_workers("tests.support.mail_worker", json.dumps(asdict(orders)))


def main() -> None:
    """Fork workers on demand."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    orders = Orders(**json.loads(sys.argv[1]))
    fork_on_demand(lambda ahead: _work(orders, ahead))


def _work(orders: Orders, ahead: timedelta) -> None:
    context = build_context(orders)
    mailer = SmtpMailer.from_settings(context.settings)
    while True:
        scan(context, now=orders.now(ahead))
        with context.transaction() as session:
            waiting = select(Reminder.id).where(Reminder.next_wake_at.is_not(None)).order_by(Reminder.id)
            wanted = list(session.execute(waiting).scalars())
        for reminder_id in wanted:
            send(context, mailer, reminder_id, now=orders.now(ahead))
        time.sleep(0.02)


def build_context(orders: Orders) -> Context:
    """Everything real but the queue: the worker looks for work itself."""
    settings = Settings(
        database_url=orders.database_url,
        redis_url="unix:///nowhere",
        smtp_url=orders.smtp_url,
        kek_file=Path(orders.kek_file),
        regions={"local": Region(id="local", name="local", driver="directory")},
    )
    return Context(
        settings=settings,
        database=Database(orders.database_url, pool=2),
        vault=load_vault(settings.kek_file),
        publisher=WaitingRoom(),
    )


if __name__ == "__main__":
    main()
