"""The database: one engine a process, short transactions."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from shared.errors import Misconfigured

T = TypeVar("T")

_SPELLINGS: Final = frozenset({"postgresql", "postgres", "postgresql+psycopg"})
_BAD_URL: Final = "DATABASE_URL: takes postgresql://user:password@host/name."
CONNECT: Final = timedelta(seconds=5)
SHORTEST_CONNECT: Final = timedelta(seconds=2)
"""libpq takes anything less for this (PostgreSQL manual, 32.1.2, ``connect_timeout``)."""
SHORT_PATIENCE: Final = timedelta(seconds=1)
IMPATIENT_CONNECTIONS: Final = 2
STATEMENT_SECONDS: Final = 30
TRUSTED: Final = timedelta(seconds=1)
"""A connection that was used so lately is taken for alive; after a restart of the server, one statement finds out."""
PATIENCE: Final = timedelta(seconds=STATEMENT_SECONDS + 5)
"""How long an answer is waited for: longer than the server lets a statement run, unless the server itself hangs."""


class Database:
    """Sessions on one PostgreSQL. Thread-safe; a session is not."""

    def __init__(
        self,
        url: str,
        *,
        pool: int = 20,
        patience: timedelta = PATIENCE,
        trusted: timedelta = TRUSTED,
        connect: timedelta = CONNECT,
    ) -> None:
        self._engine = create_engine(
            driver_url(url),
            pool_size=pool,
            pool_use_lifo=True,
            max_overflow=pool,
            pool_timeout=connect.total_seconds(),
            hide_parameters=True,
            connect_args={
                "connect_timeout": round(connect.total_seconds()),
                "options": f"-c statement_timeout={STATEMENT_SECONDS}s -c timezone=UTC",
            },
        )
        event.listen(self._engine, "do_connect", _connector(patience))
        event.listen(self._engine, "checkin", _note_rest)
        event.listen(self._engine, "checkout", _pinger(self._engine, trusted))
        self._url = url
        self._once = threading.Lock()
        self._impatient: Database | None = None
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back when anything is raised."""
        with self._sessions.begin() as session:
            yield session

    def impatient(self) -> Database:
        """The same database for questions that must end soon: about two seconds, however it hangs. Closed with us.

        It has a few connections of its own, so that it neither waits for those that hang nor takes theirs. One that
        the server closed while it rested is not noticed before it is used.
        """
        with self._once:
            if self._impatient is None:
                self._impatient = Database(
                    self._url,
                    pool=IMPATIENT_CONNECTIONS,
                    patience=SHORT_PATIENCE,
                    trusted=timedelta.max,
                    connect=SHORTEST_CONNECT,
                )
            return self._impatient

    def close(self) -> None:
        """Give all connections back."""
        if self._impatient is not None:
            self._impatient.close()
        self._engine.dispose()


class _Bounded(psycopg.Connection[Any]):
    """Gives a server up that is frozen or cut off: no timeout of the server's own ends that wait."""

    patience = PATIENCE

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """As psycopg's; a connection that has an answer outstanding when the time is up is closed."""
        try:
            return super().wait(gen, interval, self.patience.total_seconds() if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise


def _connector(patience: timedelta) -> Any:
    def connect(_dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]) -> _Bounded:
        connection = _Bounded.connect(*arguments, **options)
        connection.patience = patience
        return connection

    return connect


def _note_rest(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info["rests_since"] = time.monotonic()


def _pinger(engine: Engine, trusted: timedelta) -> Any:
    """Asks a connection that has rested whether it still lives; one in use a moment ago is worth no round trip."""

    def check(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        if time.monotonic() - record.info.get("rests_since", math.inf) < trusted.total_seconds():
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            raise DisconnectionError from error

    return check


def driver_url(url: str) -> URL:
    """``postgresql://`` means psycopg 3 here.

    Raises:
        Misconfigured: it is not the URL of a PostgreSQL; it is not repeated, because it may carry a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise Misconfigured((_BAD_URL,)) from error
    if parsed.drivername not in _SPELLINGS:
        raise Misconfigured((_BAD_URL,))
    return parsed.set(drivername="postgresql+psycopg")
