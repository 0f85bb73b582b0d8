"""A real webhook receiver on loopback: records what it gets and answers as told, also badly."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

WAIT_SECONDS: Final = 20.0
DRIP_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How to answer one request. ``hang``: never; ``drip``: a header byte now and then, without an end."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    hang: bool = False
    drip: bool = False


class Receiver:
    """What came in, and what to answer: the given replies one after the other, the last one for ever."""

    def __init__(self, server: ThreadingHTTPServer, *, scheme: str) -> None:
        self._scheme = scheme
        self._server = server
        self._arrived = threading.Condition()
        self._received: list[Received] = []
        self._replies: list[Reply] = [Reply()]
        self._at_once = 0
        self.most_at_once = 0
        """The most requests that were here at the same time."""
        self.stopping = threading.Event()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return self.url_for("127.0.0.1")

    @property
    def received(self) -> list[Received]:
        with self._arrived:
            return list(self._received)

    def url_for(self, host: str) -> str:
        """The receiver's URL under another name."""
        return f"{self._scheme}://{host}:{self.port}/hook"

    def reply_with(self, *replies: Reply) -> None:
        with self._arrived:
            self._replies = list(replies)

    def wait_for(self, count: int) -> list[Received]:
        """Wait until so many requests have come, and return them all."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._received) >= count, timeout=WAIT_SECONDS):
                raise TimeoutError(f"{len(self._received)} of {count} requests came")
            return list(self._received)

    def take(self, request: Received) -> Reply:
        """Record a request; the handler sends what is returned."""
        with self._arrived:
            self._received.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self._arrived.notify_all()
            return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]

    def leave(self) -> None:
        """A request that was taken is over."""
        with self._arrived:
            self._at_once -= 1


@contextmanager
def running_receiver(*replies: Reply, tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[Receiver]:
    """Run a receiver until the block ends; with ``tls`` it speaks https; any free ``port`` unless one is given."""
    server = _Server(("127.0.0.1", port), _Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver = Receiver(server, scheme="http" if tls is None else "https")
    server.receiver = receiver
    if replies:
        receiver.reply_with(*replies)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def running_dripper(beginning: bytes = b"") -> Iterator[int]:
    """Serve raw TCP: the beginning, then a zero byte now and then, without reading. Yields the port."""
    stopping = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DRIP_SECONDS)
        thread = threading.Thread(target=_drip_to_all, args=(listener, beginning, stopping), daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            stopping.set()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        receiver = self.server.receiver
        reply = receiver.take(Received(method=self.command, path=self.path, headers=headers, body=body))
        self.close_connection = True
        try:
            with suppress(OSError):
                self._answer(reply, receiver.stopping)
        finally:
            receiver.leave()

    def _answer(self, reply: Reply, stopping: threading.Event) -> None:
        if reply.hang:
            self.connection.settimeout(DRIP_SECONDS)
            _until(stopping, lambda: _has_hung_up(self.connection))
        elif reply.drip:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nx-drip: ")
            _until(stopping, lambda: self.wfile.write(b"x") == 0)
        else:
            self.send_response(reply.status)
            for name, value in {"content-length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Stay quiet."""


def _has_hung_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False


def _until(stopping: threading.Event, is_over: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not stopping.wait(DRIP_SECONDS) and time.monotonic() < end:
        if is_over():
            return


def _drip_to_all(listener: socket.socket, beginning: bytes, stopping: threading.Event) -> None:
    clients: list[socket.socket] = []
    while not stopping.is_set():
        with suppress(TimeoutError):
            client, _ = listener.accept()
            client.sendall(beginning)
            clients.append(client)
        for client in clients:
            with suppress(OSError):
                client.send(b"\0")
    for client in clients:
        client.close()
