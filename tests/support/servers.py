"""Real PostgreSQL and Redis for one test session, shared by all pytest-xdist workers, gone when the last one is.

Whoever needs them first starts a keeper process; everybody who uses them holds a shared lock on ``users``. The keeper
waits for the exclusive lock: it gets it when all users are gone, also by kill -9, and then stops the servers.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from services.cli.embedded import postgres, redis
from services.cli.embedded.layout import socket_directory
from services.cli.embedded.program import Program, leashed
from shared.models.revisions import upgrade
from tests.support.places import private_directory

TEMPLATE: Final = "certfleet_template"
START_SECONDS: Final = 60.0
REDIS_DATABASES: Final = 16
"""Redis's default number of databases; workers take them in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Where the session's servers listen."""

    cluster: postgres.Cluster
    redis_socket: Path

    def create_database(self, name: str) -> str:
        """The URL of a new, empty, migrated database; an older one of that name is dropped."""
        with psycopg.connect(self.cluster.url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE {TEMPLATE} STRATEGY file_copy')
        return self.cluster.url(name)

    def redis_url(self, number: int) -> str:
        """The URL of one of Redis's databases."""
        return f"unix://{self.redis_socket}?db={number % REDIS_DATABASES}"


@contextmanager
def shared_servers(root: Path) -> Iterator[Servers]:
    """Use the session's servers, started by whoever comes first. ``root`` is the same for all workers."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "users").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        with (root / "start").open("a") as start:
            fcntl.flock(start, fcntl.LOCK_EX)
            if not (root / "ready.json").exists():
                _start_keeper(root)
        yield _read(root)


def _start_keeper(root: Path) -> None:
    with (root / "keeper.log").open("ab") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.support.servers", str(root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=Path(__file__).parents[2],
        )
    _wait(
        lambda: (root / "ready.json").exists() or keeper.poll() is not None,
        f"no servers within {START_SECONDS:.0f} s: see {root}/keeper.log",
    )
    if keeper.poll() is not None:
        raise RuntimeError(f"the test servers did not start:\n{(root / 'keeper.log').read_text()[-4000:]}")
    keeper.returncode = 0  # it outlives this process on purpose; Popen would warn about that


def _read(root: Path) -> Servers:
    known = json.loads((root / "ready.json").read_text())
    cluster = postgres.Cluster(data=Path(known["data"]), sockets=Path(known["sockets"]), user=known["user"])
    return Servers(cluster=cluster, redis_socket=Path(known["redis_socket"]))


def keep(root: Path) -> None:
    """Run both servers until no user is left."""
    with private_directory() as place:
        _keep(root, place)


def _keep(root: Path, place: Path) -> None:
    sockets = socket_directory(place / "run")
    cluster = postgres.Cluster(data=place / "postgres", sockets=sockets / "pg", user=postgres.own_user())
    postgres.prepare(cluster, say=print)
    (place / "redis").mkdir()
    servers = Servers(cluster=cluster, redis_socket=sockets / "redis.sock")
    programs = (
        postgres.program(cluster, fsync="off", synchronous_commit="off", full_page_writes="off"),
        redis.program(data=place / "redis", socket=servers.redis_socket, configuration=place / "redis.conf"),
    )
    running = [_spawn(program) for program in programs]
    try:
        _wait(lambda: postgres.is_answering(cluster), "PostgreSQL does not answer")
        _wait(lambda: redis.is_answering(servers.redis_socket), "Redis does not answer")
        postgres.create_database(cluster, TEMPLATE)
        upgrade(cluster.url(TEMPLATE))
        _announce(root, servers)
        with (root / "users").open("a") as users:
            fcntl.flock(users, fcntl.LOCK_EX)
    finally:
        _stop(running)


def _spawn(program: Program) -> subprocess.Popen[bytes]:
    return subprocess.Popen(leashed(program.command, signal=program.death_signal, user=program.user))


def _announce(root: Path, servers: Servers) -> None:
    known = {
        "data": str(servers.cluster.data),
        "sockets": str(servers.cluster.sockets),
        "user": servers.cluster.user,
        "redis_socket": str(servers.redis_socket),
    }
    partial = root / "ready.json.partial"
    partial.write_text(json.dumps(known))
    partial.rename(root / "ready.json")


def _stop(running: list[subprocess.Popen[bytes]]) -> None:
    for process in running:
        process.send_signal(signal.SIGINT)
    for process in running:
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(is_true: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.02)


if __name__ == "__main__":
    os.umask(0o077)
    keep(Path(sys.argv[1]))
