"""Be a webhook receiver for a while: an endpoint of our own, made when we begin and removed when we end."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, Self

from services.cli.client import ApiClient, ApiRefused
from services.cli.listening.forwarding import Forwarder
from services.cli.listening.heard import Heard, Notice
from shared.crypto.webhook_signature import SignatureRejected, verify
from shared.errors import CertfleetError, Misconfigured
from shared.events.catalogue import EventType

ARRIVAL: Final = timedelta(seconds=10)
"""How long the test event may take before we believe that this machine cannot be reached."""
MAX_BODY: Final = 1_048_576


class CannotBeReached(CertfleetError):
    """Certfleet may not call this machine, or cannot."""

    code = "cannot_be_reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to listen. ``public_url`` is what Certfleet calls instead, where a tunnel leads here."""

    port: int = 0
    public_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A registered endpoint that leads here; ``secret`` verifies what comes."""

    id: str
    secret: str = field(repr=False)
    url: str
    arrived: SimpleQueue[Heard]

    def heard(self) -> Iterator[Heard]:
        """Every event that comes, in the order of coming, each id once unless it is passed on; without an end."""
        known: set[str] = set()
        while True:
            heard = self.arrived.get()
            if heard.event["id"] in known and not heard.forwarded:
                continue
            known.add(heard.event["id"])
            yield heard


@contextmanager
def temporary_endpoint(
    client: ApiClient, place: Place, *, types: str, notice: Notice, forwarder: Forwarder | None = None
) -> Iterator[Endpoint]:
    """An endpoint that leads here and has proven it by a test event; removed at the end, whatever happens.

    Raises:
        CannotBeReached: Certfleet may not call this address, or its test event did not come.
        ApiRefused: as any call; the types are not known, the token may not write.
    """
    _remove_leftovers(client)
    with _Server(place.port) as server:
        url = place.public_url or server.url
        made = _register(client, url, types=types, is_ours=place.public_url is None)
        try:
            server.secret, server.forwarder, server.notice = made["secret"], forwarder, notice
            _prove(client, made["id"], server)
            yield Endpoint(id=made["id"], secret=made["secret"], url=url, arrived=server.arrived)
        finally:
            _remove(client, made["id"], notice)


def _register(client: ApiClient, url: str, *, types: str, is_ours: bool) -> dict[str, Any]:
    wanted = {"url": url, "types": [one.strip() for one in types.split(",")], "description": _description()}
    try:
        return client.post("/v1/webhooks", wanted)
    except ApiRefused as error:
        if is_ours and error.fields == {"url"}:
            raise CannotBeReached(f"This Certfleet does not call {url}.") from error
        raise


def _prove(client: ApiClient, endpoint_id: str, server: _Server) -> None:
    client.post(f"/v1/webhooks/{endpoint_id}/test")
    try:
        server.tested.get(timeout=ARRIVAL.total_seconds())
    except Empty:
        seconds = ARRIVAL.total_seconds()
        raise CannotBeReached(f"The test event of this Certfleet did not come within {seconds:.0f} s.") from None


def _remove(client: ApiClient, endpoint_id: str, notice: Notice) -> None:
    try:
        client.delete(f"/v1/webhooks/{endpoint_id}")
    except ApiRefused as error:
        notice(f"The endpoint {endpoint_id} could not be removed: {error.message}")


def _description() -> str:
    return f"certfleet listen, {socket.gethostname()}, process {os.getpid()}"


def _remove_leftovers(client: ApiClient) -> None:
    """Endpoints of processes of this machine that were killed: nobody is there to answer any more."""
    ours = _description().rpartition(" ")[0]
    for endpoint in client.get("/v1/webhooks?limit=200")["items"]:
        begin, _, number = str(endpoint["description"]).rpartition(" ")
        if begin == ours and number.isdecimal() and not _is_alive(int(number)):
            client.delete(f"/v1/webhooks/{endpoint['id']}")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


class _Server(ThreadingHTTPServer):
    """Verifies, passes on and keeps what comes."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise Misconfigured((f"Port {port} of this machine is taken; choose another with --port.",)) from error
        self.secret = ""
        self.forwarder: Forwarder | None = None
        self.notice: Notice = lambda _sentence: None
        self.arrived: SimpleQueue[Heard] = SimpleQueue()
        self.tested: SimpleQueue[Heard] = SimpleQueue()
        self._thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/certfleet"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def receive(self, body: bytes, headers: Mapping[str, str]) -> int:
        """Take one request; the status to answer it with."""
        try:
            verify(body, headers, secrets=[self.secret], now=datetime.now(UTC))
        except SignatureRejected as error:
            self.notice(f"Refused a request that Certfleet has not signed. {error.message}")
            return 400
        heard = Heard(body=body, is_pushed=True)
        if heard.event["type"] == EventType.WEBHOOK_TEST:
            self.tested.put(heard)
            return 204
        if self.forwarder is None:
            self.arrived.put(heard)
            return 204
        passed = self.forwarder.send(body, {name: headers[name] for name in headers if name.startswith("webhook-")})
        self.arrived.put(Heard(body=body, is_pushed=True, forwarded=passed.words))
        return passed.status


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 15

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            self.send_error(413)
            return
        body = self.rfile.read(int(length))
        status = self.server.receive(body, {name.lower(): value for name, value in self.headers.items()})
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """The events are what is printed."""
