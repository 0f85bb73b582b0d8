"""A webhook receiver on loopback that keeps what it gets, as a customer's program would."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from shared.crypto.webhook_signature import SignatureRejected, verify


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One delivery as it came over the wire."""

    headers: dict[str, str]
    body: bytes
    at: datetime

    @property
    def event(self) -> dict[str, Any]:
        """The payload."""
        return dict(json.loads(self.body))

    def is_signed_with(self, secret: str) -> bool:
        """Whether the Standard Webhooks signature holds for this secret."""
        try:
            verify(self.body, self.headers, secrets=[secret], now=self.at)
        except SignatureRejected:
            return False
        return True


class Receiver:
    """Listens while its ``with`` block runs; answers 204 to everything."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received: list[Received] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._keep))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where deliveries go."""
        return f"http://127.0.0.1:{self._server.server_port}/certfleet"

    def received(self) -> list[Received]:
        """Everything so far."""
        with self._lock:
            return list(self._received)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _keep(self, one: Received) -> None:
        with self._lock:
            self._received.append(one)


def _handler(keep: Any) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            keep(Received(headers=headers, body=body, at=datetime.now(UTC)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """The story tells; the server does not."""

    return Handler
