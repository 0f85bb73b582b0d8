"""Clients of mutual TLS: they come with a certificate or none, with a session of before or none, and ask for a host."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from tests.support import pki


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What came of one visit: the HTTP status, 0 for a refusal; the session to resume."""

    status: int
    session: ssl.SSLSession | None
    was_resumed: bool = False


def client_context(
    place: Path, issued: pki.Issued | None, *, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    """A client of exactly this version that shows this certificate; it believes every server. Writes into ``place``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if issued is not None:
        pair = place / "client.pem"
        pair.write_text(issued.chain_pem + issued.key_pem)
        context.load_cert_chain(pair)
    return context


def visit(
    address: str, context: ssl.SSLContext, host: str, *, session: ssl.SSLSession | None = None, ask: str = ""
) -> Visit:
    """One handshake for ``host``, one request for ``ask`` (the same unless given)."""
    name, _, port = address.rpartition(":")
    try:
        with (
            socket.create_connection((name, int(port)), timeout=5) as raw,
            context.wrap_socket(raw, server_hostname=host, session=session) as connection,
        ):
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {ask or host}\r\nConnection: close\r\n\r\n".encode())
            head = connection.recv(4096)
            status = int(head.split()[1]) if head.startswith(b"HTTP/") else 0
            return Visit(status=status, session=connection.session, was_resumed=bool(connection.session_reused))
    except (ssl.SSLError, ConnectionError):
        return Visit(status=0, session=None)
