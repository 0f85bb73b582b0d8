"""Fixtures for all tests: real servers, one migrated database per pytest-xdist worker, emptied before each use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from tests.support.event_schema import faults_of_events
from tests.support.left_out import LEFT_OUT
from tests.support.places import private_directory
from tests.support.servers import Servers, shared_servers


def worker_number() -> int:
    """0 for gw0 and for a run without pytest-xdist."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


@pytest.fixture
def place() -> Iterator[Path]:
    """A private directory that other users can be let through (see ``private_directory``)."""
    with private_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Real PostgreSQL and Redis, started once a session."""
    base = tmp_path_factory.getbasetemp()
    session = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with shared_servers(session / "servers") as running:
        yield running


@pytest.fixture(scope="session")
def migrated_database_url(servers: Servers) -> str:
    """One database per worker, a copy of the migrated template. Not emptied: prefer ``database_url``."""
    return servers.create_database(f"test_{worker_number()}")


@pytest.fixture
def database_url(migrated_database_url: str) -> Iterator[str]:
    """The worker's database with every table empty. What a test makes happen must fit the schema of events."""
    with psycopg.connect(migrated_database_url) as connection:
        rows = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        ).fetchall()
        tables = psycopg.sql.SQL(", ").join(psycopg.sql.Identifier(name) for (name,) in rows)
        if rows:
            connection.execute(psycopg.sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(tables))
    yield migrated_database_url
    with psycopg.connect(migrated_database_url) as connection:
        assert faults_of_events(connection) == []


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """The worker's own Redis database, empty."""
    url = servers.redis_url(worker_number())
    client = redis.Redis.from_url(url)
    try:
        client.flushdb()
    finally:
        client.close()
    return url


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line that names the suites that this machine could not run (``tests/support/left_out.py``)."""
    skipped = terminalreporter.getreports("skipped")
    reasons = {str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped if report.longrepr}
    left_out = sorted(reason.removeprefix(LEFT_OUT) for reason in reasons if reason.startswith(LEFT_OUT))
    if left_out:
        terminalreporter.write_line(f"{LEFT_OUT}{'; '.join(left_out)}", yellow=True)
