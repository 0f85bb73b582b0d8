"""Clients of the load balancers, as anybody writes them: Python's own TLS, the demo's root as the only trusted one."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Final, Self

from services.cli.demo.pki import Pair

_TIMEOUT: Final = 10.0
_PAUSE: Final = 0.02
"""Between two connections of one stream of visits: some forty a second and region, which leaves the machine air."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One connection: SHA-256 of the certificate that was shown and believed, the answer's status, or what failed."""

    fingerprint_sha256: str | None = None
    status: int | None = None
    error: str | None = None

    @property
    def is_answered(self) -> bool:
        """Whether the visitor got in."""
        return self.status == http.HTTPStatus.OK


class Visitor:
    """Knocks with SNI; believes a certificate only if it is for that name and of the demo's root.

    ``papers``: the client's own certificate and key; without them it stays anonymous.
    """

    def __init__(self, *, trust: str, papers: Pair | None = None) -> None:
        self._context = ssl.create_default_context(cadata=trust)
        if papers is not None:
            _load(self._context, papers)

    def visit(self, address: str, host: str) -> Visit:
        """Connect to ``address`` ("host:port"), shake hands for ``host``, send one request, read the answer.

        TLS 1.3 judges a client's certificate after the handshake (RFC 8446 §4.4.2.4): only an answer proves anything.
        """
        connection = _Connection(address, host, self._context)
        shown = None
        try:
            connection.connect()
            shown = hashlib.sha256(connection.sock.getpeercert(binary_form=True) or b"").hexdigest()
            connection.request("GET", "/", headers={"Host": host})
            return Visit(fingerprint_sha256=shown, status=connection.getresponse().status)
        except (OSError, http.client.HTTPException) as error:
            return Visit(fingerprint_sha256=shown, error=getattr(error, "reason", None) or type(error).__name__)
        finally:
            connection.close()


class Visits:
    """One stream of visits to each address for as long as the ``with`` block runs, each over a fresh connection."""

    def __init__(self, visitor: Visitor, host: str, *, addresses: Mapping[str, str]) -> None:
        self.made: dict[str, list[Visit]] = {region: [] for region in addresses}
        self._visitor = visitor
        self._host = host
        self._stopped = Event()
        self._threads = [
            Thread(target=self._visit, args=(region, address), daemon=True) for region, address in addresses.items()
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(_TIMEOUT)

    @property
    def all(self) -> list[Visit]:
        """Those of every region."""
        return [visit for visits in self.made.values() for visit in visits]

    def _visit(self, region: str, address: str) -> None:
        while not self._stopped.is_set():
            self.made[region].append(self._visitor.visit(address, self._host))
            self._stopped.wait(_PAUSE)


class _Connection(http.client.HTTPSConnection):
    """To one address in the name of another host."""

    def __init__(self, address: str, server_name: str, context: ssl.SSLContext) -> None:
        host, _, port = address.rpartition(":")
        super().__init__(host, int(port), timeout=_TIMEOUT, context=context)
        self._tls = context
        self._server_name = server_name

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock: ssl.SSLSocket = self._tls.wrap_socket(self.sock, server_hostname=self._server_name)


def _load(context: ssl.SSLContext, papers: Pair) -> None:
    """Python reads a key from a file only; this one is private, and gone at once."""
    with tempfile.TemporaryDirectory(prefix="certfleet-demo-") as directory:
        pair = Path(directory) / "client.pem"
        descriptor = os.open(pair, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{papers.private_key}{papers.certificate}")
        context.load_cert_chain(pair)
