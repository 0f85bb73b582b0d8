"""What every use case runs in: settings, database, vault, and the wake-ups that follow a commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from shared.config.settings import Settings
from shared.crypto.vault import Vault, load_vault
from shared.errors import Transient
from shared.models.database import PATIENCE, Database
from shared.wakeups import CeleryPublisher, Publisher, producer


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Built once a process, shared by its threads."""

    settings: Settings
    database: Database
    vault: Vault
    publisher: Publisher

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction; the wake-ups that it collected are published after its commit, best effort.

        What was put off (``events.append_last``) is done right before the commit.

        Raises:
            Transient: the database is away, or two transactions stood in each other's way.
        """
        try:
            with self.database.session() as session:
                yield session
                for act in session.info.pop("last_acts", ()):
                    act()
        except PoolTimeout as error:
            raise Transient("The database has no free connection.", code="database_unavailable") from error
        except DBAPIError as error:
            if is_transient(error):
                raise Transient("The database is not available.", code="database_unavailable") from error
            raise
        self.publisher.publish(session.info.pop("wake_ups", []))


def is_transient(error: DBAPIError) -> bool:
    """Connection trouble (SQLSTATE class 08, 57P), lost races (40), and a full server (53): trying again may help."""
    state = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or state is None or str(state)[:2] in {"08", "40", "53", "57"}


def build_context(settings: Settings, *, patience: timedelta = PATIENCE) -> Context:
    """Everything real, from the settings. ``patience``: how long an answer of the database is waited for."""
    return Context(
        settings=settings,
        database=Database(settings.database_url, pool=settings.database_pool, patience=patience),
        vault=load_vault(settings.kek_file),
        publisher=CeleryPublisher(producer(settings.redis_url)),
    )
