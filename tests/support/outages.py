"""A PostgreSQL of a test's own, to be stopped, frozen and started again; a broker that says nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from services.cli.embedded import postgres
from services.cli.embedded.layout import socket_directory
from services.cli.embedded.program import leashed
from shared.models.revisions import upgrade
from tests.support.stack import descendants, wait_until

OURS: Final = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'certfleet' AND pid <> pg_backend_pid()"


@dataclass(kw_only=True)
class OwnPostgres:
    """One server; ``url`` stays the same."""

    cluster: postgres.Cluster
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.cluster.url()

    def start(self) -> None:
        program = postgres.program(self.cluster, fsync="off", full_page_writes="off")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                leashed(program.command, signal=program.death_signal, user=program.user), stdout=log, stderr=log
            )
        wait_until(lambda: postgres.is_answering(self.cluster), seconds=60, otherwise=self.log.read_text)

    def stop(self) -> None:
        """All connections are cut."""
        assert self.process
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def crash(self) -> None:
        """As a power cut: nothing is written any more, the next start recovers from the log."""
        assert self.process
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The server and all that it forked take connections and say nothing."""
        assert self.process
        processes = [self.process.pid, *descendants(self.process.pid)]
        _signal(processes, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal([self.process.pid, *descendants(self.process.pid)], signal.SIGCONT)

    def connections(self) -> int:
        """How many others have the database open."""
        with psycopg.connect(self.url) as connection:
            found = connection.execute(OURS).fetchone()
            return int(found[0]) if found else 0


@contextmanager
def own_postgres(place: Path) -> Iterator[OwnPostgres]:
    """A migrated database on a server that nobody else uses."""
    sockets = socket_directory(place / "own")
    cluster = postgres.Cluster(data=place / "own-postgres", sockets=sockets / "pg", user=postgres.own_user())
    postgres.prepare(cluster, say=lambda _text: None)
    server = OwnPostgres(cluster=cluster, log=place / "own-postgres.log")
    server.start()
    try:
        postgres.create_database(cluster)
        upgrade(server.url)
        yield server
    finally:
        if server.process and server.process.poll() is None:
            server.stop()


@contextmanager
def silent_broker() -> Iterator[str]:
    """The URL of something that takes connections, never says a word, and is no Redis."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


def threads_of(pid: int) -> int:
    """How many threads a process and all below it have (proc(5), ``Threads`` of /proc/PID/status)."""
    found = 0
    for each in {pid, *descendants(pid)}:
        status = Path(f"/proc/{each}/status").read_text(encoding="ascii", errors="replace")
        found += int(status.partition("Threads:")[2].split()[0])
    return found


def _signal(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        os.kill(process, number)
