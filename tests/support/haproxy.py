"""A real HAProxy for tests, from Debian: on loopback, its Runtime API on a private unix socket, in the foreground."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.cli.embedded.program import leashed
from services.worker.drivers.haproxy_files import main as prepare
from shared.config.regions import Region
from tests.support.debian import require

START_SECONDS: Final = 20.0
BUFSIZE: Final = 262144
"""Room for 100 CA certificates in one file."""

CONFIGURATION: Final = """
global
    stats socket {socket} mode 600 level admin expose-fd listeners
    tune.bufsize {bufsize}
    nbthread 2
    {sessions}
defaults
    mode http
    timeout client 30s
    timeout server 30s
    timeout connect 5s
    option idle-close-on-response
frontend https
    bind {address} ssl crt-list {crt_list} strict-sni
    http-request set-var(txn.host) req.hdr(host),field(1,:),lower
    http-request return status 421 if {{ ssl_fc_has_sni }} !{{ ssl_fc_sni,lower,strcmp(txn.host) eq 0 }}
    http-request return status 200 content-type text/plain string "client certificate: %[ssl_c_used]\\n"
"""
NO_SESSIONS: Final = "tune.ssl.cachesize 0\n    ssl-default-bind-options no-tls-tickets"
"""Otherwise a session from a one-way host name opens a mutual one (HAProxy 2.6; either line alone does not help)."""


@dataclass(slots=True, kw_only=True)
class HaproxyProcess:
    """One HAProxy that reads ``place/region/crt-list`` at its start."""

    binary: Path
    place: Path
    port: int
    bufsize: int = BUFSIZE
    sessions: str = NO_SESSIONS
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where clients knock."""
        return f"127.0.0.1:{self.port}"

    @property
    def directory(self) -> Path:
        """What the driver writes and HAProxy reads."""
        return self.place / "region"

    @property
    def socket(self) -> Path:
        """Its Runtime API."""
        return self.place / "admin.sock"

    @property
    def crt_list(self) -> Path:
        """What the bind line names."""
        return self.directory / "crt-list"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def region(self, id: str = "local", **overrides: Any) -> Region:  # noqa: A002 - spelled as the region's field
        """The region that this HAProxy is."""
        settings = {"path": str(self.directory), "socket": f"unix:{self.socket}", "bufsize": self.bufsize}
        declared: dict[str, Any] = {"name": id, "driver": "haproxy", "listener_address": self.address}
        return Region(id=id, **{**declared, "settings": settings, **overrides})

    def start(self) -> None:
        """Start it and wait until it answers."""
        prepare([str(self.directory)])
        with suppress(FileNotFoundError):
            self.socket.unlink()
        command = [str(self.binary), "-db", "-f", str(self._write_configuration())]
        with (self.place / "haproxy.log").open("ab") as log:
            self.process = subprocess.Popen(leashed(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)

    def stop(self) -> None:
        """Kill it, as a machine that fails does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        """The same HAProxy anew, from what lies on the disk."""
        self.stop()
        self.start()

    def log(self) -> str:
        """What it said."""
        return (self.place / "haproxy.log").read_text(encoding="utf-8", errors="replace")

    def command(self, text: str) -> str:
        """What an administrator types; a payload follows ``<<`` and a line's end, and ends with an empty line."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.socket))
            connection.sendall(f"{text}\n".encode())
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        return answer.decode()

    def served(self) -> list[str]:
        """The lines of the running crt-list, without their numbers, the bootstrap's left out."""
        rows = self.command(f"show ssl crt-list {self.crt_list}").split("\n")
        return [row for row in rows if row and not row.startswith("#") and "bootstrap.pem" not in row]

    def held(self) -> set[str]:
        """The paths of all files in its memory, open transactions with a ``*``; the bootstrap's left out."""
        rows = (self.command("show ssl cert") + self.command("show ssl ca-file")).splitlines()
        paths = {row.partition(" - ")[0] for row in rows if row and not row.startswith(("#", "@"))}
        return paths - {str(self.directory / "bootstrap.pem")}

    def _is_ready(self) -> bool:
        with suppress(OSError):
            return "Name: HAProxy" in self.command("show info")
        return False

    def _write_configuration(self) -> Path:
        path = self.place / "haproxy.cfg"
        path.write_text(
            CONFIGURATION.format(
                socket=self.socket,
                bufsize=self.bufsize,
                sessions=self.sessions,
                address=self.address,
                crt_list=self.crt_list,
            )
        )
        return path


@contextmanager
def running_haproxy(place: Path, **overrides: Any) -> Iterator[HaproxyProcess]:
    """A fresh HAProxy below ``place`` (short: a unix socket lies there), gone afterwards."""
    haproxy = HaproxyProcess(binary=require("haproxy"), place=place, port=free_port(), **overrides)
    try:
        haproxy.start()
        yield haproxy
    finally:
        haproxy.stop()


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
