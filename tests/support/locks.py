"""Who waits for whom in the database, for tests of what happens while somebody does."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from tests.support.fleet import Fleet
from tests.support.stack import wait_until

PATIENCE_SECONDS: Final = 20.0

_WAITING: Final = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


def wait_until_somebody_waits_for_a_lock(fleet: Fleet) -> None:
    """Fails when nobody does in time."""

    def is_waited_for() -> bool:
        with fleet.transaction() as session:
            return bool(session.execute(_WAITING).scalar_one())

    wait_until(is_waited_for, seconds=PATIENCE_SECONDS, otherwise=lambda: "nobody waits for a lock")
