"""Small real TLS servers on loopback: certificates by name, client CAs, versions, answers; and hostile ones."""

from __future__ import annotations

import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from cryptography import x509
from OpenSSL import SSL

from tests.support.pki import Issued, to_pem

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

HANDSHAKE_RECORD: Final = 22
SERVER_KEY_EXCHANGE: Final = 12
_RECORD_HEADER: Final = 5
_LONGEST_JOIN: Final = 10.0

Handler = Callable[[socket.socket], None]
"""What a server does with an accepted connection, which is closed afterwards."""


@contextmanager
def listening(handler: Handler, *, family: socket.AddressFamily = socket.AF_INET) -> Iterator[str]:
    """Serve every connection by ``handler``, each in a thread; the address is "127.0.0.1:port" or "[::1]:port"."""
    host = "::1" if family is socket.AF_INET6 else "127.0.0.1"
    listener = socket.create_server((host, 0), family=family)
    server = _Server(listener, handler)
    accepting = threading.Thread(target=server.accept, daemon=True, name="tls-server")
    accepting.start()
    try:
        yield f"{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    finally:
        server.stop()
        accepting.join(_LONGEST_JOIN)


class _Server:
    def __init__(self, listener: socket.socket, handler: Handler) -> None:
        self._listener = listener
        self._handler = handler
        self._open: list[socket.socket] = []

    def accept(self) -> None:
        """Until the listener is shut down."""
        with self._listener, suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True, name="tls-connection").start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, SSL.Error):
            self._handler(connection)

    def stop(self) -> None:
        """End the listener and whatever is still being served."""
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@dataclass(kw_only=True)
class TlsServer:
    """How to serve; :meth:`serve` is the handler.

    ``certificates``: by server name; ``""`` is what everybody else gets, and must be there. ``client_ca``: demand a
    certificate of these, and say so unless ``names_its_cas`` is False; ``trusts_everybody``: only look at what comes.
    ``lowest``, ``highest``: the versions spoken. ``answer``: what is sent, piece by piece, to a request.

    What came, one entry a handshake: ``names`` (SNI), ``clients`` (their certificates), ``requests``.
    """

    certificates: Mapping[str, Issued]
    client_ca: tuple[Issued, ...] = ()
    names_its_cas: bool = True
    trusts_everybody: bool = False
    lowest: int = SSL.TLS1_2_VERSION
    highest: int = SSL.TLS1_3_VERSION
    answer: Iterable[bytes] = (OK,)
    requests: list[bytes] = field(default_factory=list)
    names: list[bytes | None] = field(default_factory=list)
    clients: list[x509.Certificate | None] = field(default_factory=list)

    def serve(self, connection: socket.socket) -> None:
        """Shake hands, read one request, send the answer."""
        tls = SSL.Connection(self._contexts[""], connection)
        tls.set_accept_state()
        tls.do_handshake()
        self.names.append(tls.get_servername())
        self.clients.append(tls.get_peer_certificate(as_cryptography=True))
        self.requests.append(tls.recv(8192))
        for piece in self.answer:
            tls.sendall(piece)
        tls.shutdown()

    @cached_property
    def _contexts(self) -> dict[str, SSL.Context]:
        return {name: self._context(issued) for name, issued in self.certificates.items()}

    def _choose(self, tls: SSL.Connection) -> None:
        name = (tls.get_servername() or b"").decode()
        tls.set_context(self._contexts.get(name, self._contexts[""]))

    def _context(self, issued: Issued) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        context.set_min_proto_version(self.lowest)
        context.set_max_proto_version(self.highest)
        context.set_session_id(b"certfleet-test")
        context.set_tlsext_servername_callback(self._choose)
        context.use_certificate(issued.certificate)
        context.use_privatekey(issued.key)  # type: ignore[arg-type] # DSA and Edwards keys: OpenSSL takes them
        for one in issued.above:
            context.add_extra_chain_cert(one)
        if self.client_ca:
            self._demand(context)
        return context

    def _demand(self, context: SSL.Context) -> None:
        if self.trusts_everybody:
            context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        else:
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(to_pem(*(one.certificate for one in self.client_ca)))
            file.flush()
            context.load_verify_locations(file.name)
            if self.names_its_cas:
                context.load_client_ca(file.name.encode())


def sending(*pieces: bytes) -> Handler:
    """Say this, whatever is asked, and close."""

    def serve(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        _drain(connection)

    return serve


def pouring(piece: bytes) -> Handler:
    """Say this over and over until the client has enough."""

    def serve(connection: socket.socket) -> None:
        while True:
            connection.sendall(piece)

    return serve


def dripping(beginning: bytes, *, every: float = 0.02) -> Handler:
    """Say one byte of this now and then, and zeroes after it, until the client has enough."""

    def serve(connection: socket.socket) -> None:
        connection.settimeout(every)
        for position in range(1_000_000):
            connection.send(beginning[position : position + 1] or b"\0")
            with suppress(TimeoutError):
                if not connection.recv(8192):
                    return

    return serve


def silent(connection: socket.socket) -> None:
    """Read, and never answer."""
    _drain(connection)


def closing_at_once(connection: socket.socket) -> None:
    """End in good order before anything was said."""
    connection.shutdown(socket.SHUT_RDWR)


def resetting(connection: socket.socket) -> None:
    """End by RST once the client has spoken."""
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _drain(connection: socket.socket) -> None:
    while connection.recv(8192):
        pass


def relaying(address: str, alter: Callable[[bytes], bytes]) -> Handler:
    """Stand between client and the server at ``address``; ``alter`` sees each TLS record that the server sends.

    An empty result ends the connection there.
    """
    host, _, port = address.rpartition(":")

    def serve(connection: socket.socket) -> None:
        with ExitStack() as stack:
            server = stack.enter_context(closing(socket.create_connection((host, int(port)))))
            upward = threading.Thread(target=_pump, args=(connection, server), daemon=True, name="tls-relay")
            upward.start()
            for record in _records(server):
                altered = alter(record)
                if not altered:
                    # the other thread still reads, so closing alone would end nothing
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                connection.sendall(altered)

    return serve


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(8192):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


def _records(source: socket.socket) -> Iterator[bytes]:
    """RFC 8446 §5.1: a type, two bytes of version, two of length, and so many bytes."""
    with source.makefile("rb") as stream:
        while len(header := stream.read(_RECORD_HEADER)) == _RECORD_HEADER:
            yield header + stream.read(int.from_bytes(header[3:]))


def with_a_wrong_signature(record: bytes) -> bytes:
    """A TLS 1.2 record in which the signature at the end of ServerKeyExchange is another (RFC 5246 §7.4.3)."""
    if record[0] != HANDSHAKE_RECORD:
        return record
    altered = bytearray(record)
    position = _RECORD_HEADER
    while position + 4 <= len(altered):
        end = position + 4 + int.from_bytes(altered[position + 1 : position + 4])
        if altered[position] == SERVER_KEY_EXCHANGE and end <= len(altered):
            altered[end - 1] ^= 1
        position = end
    return bytes(altered)
