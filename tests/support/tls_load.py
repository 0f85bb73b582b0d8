"""Clients that never stop: fresh handshakes and kept connections, in a process of their own, counted.

Run as ``python -m tests.support.tls_load ADDRESS PORT HOST``; it says ``ready``, works until its standard input ends,
then prints one JSON document: requests made, failures with their reasons, and for each client the leaves that it saw,
in order, without repetitions.
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

FRESH: Final = 4
KEPT: Final = 8
_PAUSE: Final = 0.02
"""Between two requests of a kept connection: 8 of them make 400 requests a second."""


@dataclass(slots=True)
class Seen:
    """What one client met."""

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)

    def note(self, connection: ssl.SSLSocket) -> None:
        leaf = hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()
        if not self.leaves or self.leaves[-1] != leaf:
            self.leaves.append(leaf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom to ask for what."""

    address: tuple[str, int]
    host: str
    stop: threading.Event

    def connect(self) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        raw = socket.create_connection(self.address, timeout=5)
        try:
            return context.wrap_socket(raw, server_hostname=self.host)
        except BaseException:
            raw.close()
            raise

    def ask(self, connection: ssl.SSLSocket) -> bool:
        """One request; whether the connection stays open."""
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = connection.recv(65536)
            if not piece:
                raise ConnectionError("closed without an answer")
            answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        if " 200" not in lines[0]:
            raise ConnectionError(f"answered {lines[0]}")
        length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
        while len(body) < length:
            body += connection.recv(65536)
        return "connection: close" not in lines


def fresh(target: Target, seen: Seen) -> None:
    """A new connection for each request."""
    while not target.stop.is_set():
        with _noting(seen), target.connect() as connection:
            seen.note(connection)
            target.ask(connection)
            seen.requests += 1


def kept(target: Target, seen: Seen) -> None:
    """One connection for as long as the server keeps it; a new one only after its orderly ``Connection: close``."""
    while not target.stop.is_set():
        with _noting(seen), target.connect() as connection:
            seen.note(connection)
            is_open = True
            while is_open and not target.stop.wait(_PAUSE):
                is_open = target.ask(connection)
                seen.requests += 1


@contextmanager
def _noting(seen: Seen) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        seen.failures.append(f"{type(error).__name__}: {error}")


def main() -> None:
    """Work until standard input ends."""
    stop = threading.Event()
    target = Target(address=(sys.argv[1], int(sys.argv[2])), host=sys.argv[3], stop=stop)
    clients = [(fresh, Seen()) for _ in range(FRESH)] + [(kept, Seen()) for _ in range(KEPT)]
    threads = [threading.Thread(target=work, args=(target, seen)) for work, seen in clients]
    for thread in threads:
        thread.start()
    print("ready", flush=True)  # noqa: T201 - the protocol
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    report = [{"requests": s.requests, "failures": s.failures, "leaves": s.leaves} for _, s in clients]
    print(json.dumps(report))  # noqa: T201 - the report


@contextmanager
def load_on(address: str, host: str) -> Iterator[list[dict[str, Any]]]:
    """Clients on ``host`` at ``address``; afterwards the list holds what each of them met."""
    name, _, port = address.rpartition(":")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.tls_load", name, port, host],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    report: list[dict[str, Any]] = []
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield report
    finally:
        with suppress(subprocess.TimeoutExpired):
            told, _ = process.communicate("", timeout=30)
            report.extend(json.loads(told))
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
