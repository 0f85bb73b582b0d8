"""The database's connections: none waits for ever for a server that hangs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from shared.errors import Transient
from shared.models.database import Database
from shared.usecases.context import Context
from tests.support.fleet import build_fleet


@contextmanager
def frozen(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def ask(context: Context) -> int:
    """The number of the server's process that answers the next transaction."""
    with context.transaction() as session:
        return int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())


def ask_what_hangs(context: Context) -> None:
    """The server's process stops in the middle of a transaction."""
    with context.transaction() as session:
        backend = int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())
        with frozen(backend):
            session.execute(text("SELECT 1"))


def test_a_server_that_hangs_is_given_up_and_the_next_transaction_takes_a_new_connection(
    database_url: str, tmp_path: Path
) -> None:
    fleet = build_fleet(database_url, tmp_path)
    fleet.context.database.close()
    database = Database(database_url, patience=timedelta(milliseconds=300), trusted=timedelta(0))
    context = replace(fleet.context, database=database)
    with pytest.raises(Transient) as refused:
        ask_what_hangs(context)

    assert refused.value.code == "database_unavailable"
    assert ask(context)
    with frozen(ask(context)):
        assert ask(context)
    database.close()


def test_a_connection_that_died_while_it_rested_is_replaced_before_it_is_used(
    database_url: str, tmp_path: Path
) -> None:
    fleet = build_fleet(database_url, tmp_path)
    fleet.context.database.close()
    context = replace(fleet.context, database=Database(database_url, trusted=timedelta(0)))
    first = ask(context)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", [first])
    assert ask(context) != first
    context.database.close()


def test_a_connection_that_died_in_use_costs_one_transaction_and_says_that_it_may_be_tried_again(
    database_url: str, tmp_path: Path
) -> None:
    fleet = build_fleet(database_url, tmp_path)
    fleet.context.database.close()
    context = replace(fleet.context, database=Database(database_url, trusted=timedelta(hours=1)))
    first = ask(context)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", [first])
    with pytest.raises(Transient):
        ask(context)
    assert ask(context) != first
    context.database.close()
