"""Stands between a driver and HAProxy's Runtime API: sees each command, meddles before it, loses its answer."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

Meddle = Callable[[str], None]
"""Called with the first line of each command before HAProxy gets it."""

_PIECE: Final = 1 << 16


def nothing(command: str) -> None:
    """Let it pass."""
    del command


@dataclass(slots=True)
class Relay:
    """What happened to commands, and what is to happen to them."""

    address: Path
    behind: Path | bytes
    meddle: Meddle = nothing
    loses: Callable[[str], bool] = lambda command: False  # noqa: ARG005 - the default
    commands: list[str] = field(default_factory=list)

    def handle(self, connection: socket.socket) -> None:
        """One command."""
        received = connection.recv(_PIECE)
        command = received.decode().partition("\n")[0]
        self.commands.append(command)
        self.meddle(command)
        answer = self.behind if isinstance(self.behind, bytes) else self._asked(connection, received)
        if not self.loses(command):
            connection.sendall(answer)

    def _asked(self, connection: socket.socket, received: bytes) -> bytes:
        assert isinstance(self.behind, Path)
        with socket.socket(socket.AF_UNIX) as beyond:
            beyond.connect(str(self.behind))
            is_whole = b"<<\n" not in received
            while not is_whole and not received.endswith(b"\n\n"):
                received += connection.recv(_PIECE)
            beyond.sendall(received)
            answer = b""
            while piece := beyond.recv(_PIECE):
                answer += piece
        return answer


@contextmanager
def relaying(place: Path, behind: Path | bytes) -> Iterator[Relay]:
    """A socket of its own in front of HAProxy's; ``bytes``: there is no HAProxy, and everything is answered so."""
    relay = Relay(address=place / "relay.sock", behind=behind)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                relay.handle(self.request)

    with socketserver.ThreadingUnixStreamServer(str(relay.address), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield relay
        finally:
            server.shutdown()
            thread.join()
            relay.address.unlink(missing_ok=True)
