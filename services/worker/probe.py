"""The eyes of served truth: knocks at a listener as a client does, and says what was shown and answered.

OpenSSL works on memory; the socket is read and written here, so that every wait ends when the time is up, and every
byte is counted, whatever drips in. Nothing is verified: what is shown is compared by fingerprint (``judge``).
"""

from __future__ import annotations

import hashlib
import queue
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto

from shared.crypto.certificates import TITLE_LIMIT
from shared.crypto.seams import Unreadable, library_call
from shared.domain.served import Client, Handshake
from shared.domain.validation import visible
from shared.usecases.proof import PATIENCE

T = TypeVar("T")

USER_AGENT: Final = "certfleet-probe/1"

MOST_BYTES: Final = 1024 * 1024
"""Read from one connection at most; the largest handshake that OpenSSL takes part in is a tenth of that."""

MOST_HEAD_BYTES: Final = 64 * 1024
"""Of the answer, interim answers (1xx) included."""

_CIPHERS: Final = b"ALL:!aNULL:!eNULL:!PSK:!SRP:!kRSA:@SECLEVEL=0"
"""Everything that a certificate takes part in, weak ones too: what is served is to be seen, not approved of. Without
``kRSA``: there the server proves that it holds the key only when it is too late to see why a client is refused."""

_PROTOCOL: Final = b"HTTP/1."
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n")
_LONGEST_STATUS_LINE: Final = 8 * 1024
_READ_SIZE: Final = 16 * 1024
_END_OF_HEAD: Final = re.compile(rb"\r?\n\r?\n")
_INTERIM: Final = frozenset(range(100, 200)) - {101}
"""After 101, nothing follows in HTTP (RFC 9110 §15.2.2)."""

_ASKABLE: Final = re.compile(r"[!-.0-~]{1,255}")
"""Visible ASCII without a slash, as long as OpenSSL's SNI may be: nothing that ends a header line."""

_KEY_PROVEN: Final = b"SSLv3/TLS read server done"
"""OpenSSL's name of the state in which a client of TLS 1.2 has verified the server's signature with the certificate's
key (RFC 5246 §7.4.3) and is asked for its own certificate. In TLS 1.3 the handshake is done before it is refused."""

_FATAL: Final = 2
_ALERTS: Final = {
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}
"""RFC 8446 §6."""


class TlsProber:
    """A :class:`shared.usecases.proof.Prober`. Thread-safe; keeps no connection and no session."""

    def __init__(self, *, patience: timedelta = PATIENCE) -> None:
        self._patience = patience
        self._contexts = {client: _context(client) for client in Client}

    def handshake(self, address: str, *, host: str, client: Client, sni: bool = True) -> Handshake:
        """See the port. ``address``: "host:port", an IPv6 address in brackets."""
        clock = _Clock(self._patience)
        nothing = Handshake(host=host, sni=sni, client=client, reached=False)
        try:
            _check_askable(host)
            dialled = _dial(parse_address(address), clock)
        except TimeoutError:
            return replace(nothing, error=f"nothing answered at {visible(address)} in time", timed_out=True)
        except (OSError, ValueError) as error:
            return replace(nothing, error=_sentence(error))
        with dialled:
            return _Knock(dialled, self._contexts[client], clock).make(replace(nothing, reached=True))


def parse_address(address: str) -> tuple[str, int]:
    """Split "host:port" or "[IPv6 address]:port".

    Raises:
        ValueError: it is neither; the message is a sentence for people.
    """
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    is_number = port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 2**16
    if not bare or not is_number or bracketed != (":" in bare) or not bare.isprintable():
        raise ValueError(f"{visible(address)!r} is not an address: host:port, or [IPv6 address]:port")
    return bare, int(port)


def _check_askable(host: str) -> None:
    if not _ASKABLE.fullmatch(host):
        raise ValueError(f"no server can be asked for the name {visible(host)!r}")


class _Clock:
    """The wall-clock time that one knock has."""

    def __init__(self, patience: timedelta) -> None:
        self._end = time.monotonic() + patience.total_seconds()

    def left(self) -> float:
        """Seconds, more than none.

        Raises:
            TimeoutError: the time is up.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time is up")
        return left


class _Ended(Exception):
    """The connection gave all that it will; the text says how it ended."""


@dataclass(slots=True)
class _Trace:
    """What OpenSSL told on the way: how far the handshake came, and the alert that the server sent."""

    is_key_proven: bool = False
    is_done: bool = False
    alert_name: str | None = None

    def note(self, connection: SSL.Connection, where: int, code: int) -> None:
        """Called by OpenSSL at every step (SSL_CTX_set_info_callback(3)); an alert's code is level and description."""
        if where & SSL.SSL_CB_HANDSHAKE_DONE:
            self.is_done = True
        if self.is_done or connection.get_state_string() == _KEY_PROVEN:
            self.is_key_proven = True
        if where & SSL.SSL_CB_ALERT and where & SSL.SSL_CB_READ and code >> 8 == _FATAL:
            self.alert_name = _ALERTS.get(code & 0xFF, str(code & 0xFF))


@lru_cache(maxsize=1)
def _foreign_certificate() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Made once a process, trusted by nobody; the key never leaves the process."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Certfleet probe {secrets.token_hex(8)}")])
    today = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=3650))
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    return builder.sign(key, hashes.SHA256()), key


def _context(client: Client) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_VERSION)
    context.set_cipher_list(_CIPHERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_RENEGOTIATION)
    context.set_verify(SSL.VERIFY_NONE)
    context.set_info_callback(lambda connection, where, code: connection.get_app_data().note(connection, where, code))
    if client is Client.FOREIGN:
        certificate, key = _foreign_certificate()
        context.use_certificate(certificate)
        context.use_privatekey(key)
    return context


def _dial(place: tuple[str, int], clock: _Clock) -> socket.socket:
    """Connect to the first address that answers; each gets its share of the time that is left."""
    host, port = place
    addresses = _addresses(host, port, clock)
    failure: OSError = OSError("the name has no address")
    for position, address in enumerate(addresses):
        share = clock.left() / (len(addresses) - position)
        try:
            return socket.create_connection((address, port), timeout=share)
        except OSError as error:
            failure = error
    raise failure


def _addresses(host: str, port: int, clock: _Clock) -> list[str]:
    """All addresses of a name, each once, in the system's order; an address is its own."""
    try:
        return [str(ip_address(host))]
    except ValueError:
        return _within(clock, lambda: _resolved(host, port))


def _resolved(host: str, port: int) -> list[str]:
    return list(dict.fromkeys(str(place[0]) for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def _within(clock: _Clock, look_up: Callable[[], list[str]]) -> list[str]:
    """Do it in a thread that may be left behind: name look-ups cannot be interrupted."""
    results: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            found: list[str] | Exception = look_up()
        except Exception as error:  # noqa: BLE001 - handed over and raised where it is waited for
            found = error
        results.put(found)

    threading.Thread(target=run, daemon=True, name="probe-resolver").start()
    try:
        found = results.get(timeout=clock.left())
    except queue.Empty:
        raise TimeoutError("the name server does not answer") from None
    if isinstance(found, Exception):
        raise found
    return found


def _sentence(error: Exception) -> str:
    match error:
        case UnicodeError():
            return "the address is no name that can be looked up"
        case socket.gaierror():
            return f"the name cannot be looked up ({error.strerror})"
        case OSError():
            return f"the connection failed ({error.strerror or error})"
        case _:
            return str(error)


class _Knock:
    """One connection: handshake, request, the answer's status."""

    def __init__(self, dialled: socket.socket, context: SSL.Context, clock: _Clock) -> None:
        self._socket = dialled
        self._clock = clock
        self._bytes_left = MOST_BYTES
        self._trace = _Trace()
        self._tls = SSL.Connection(context, None)
        self._tls.set_app_data(self._trace)
        self._tls.set_connect_state()

    def make(self, begun: Handshake) -> Handshake:
        """Go as far as the server lets us."""
        if begun.sni:
            self._tls.set_tlsext_host_name(begun.host.encode("ascii"))
        ended = self._ask(begun)
        chain, subject = self._chain()
        names = self._client_ca_names() if chain else ()
        return replace(ended, chain=chain, subject=subject, client_ca_names=names, alert=self._trace.alert_name)

    def _ask(self, begun: Handshake) -> Handshake:
        try:
            self._driven(self._tls.do_handshake)
            self._request(begun.host)
            return replace(begun, status=self._status())
        except TimeoutError:
            return replace(begun, timed_out=True, error="the server did not answer in time")
        except _Ended as ended:
            return replace(begun, error=str(ended))
        except OSError as error:
            return replace(begun, error=f"the connection broke ({error.strerror or error})")

    def _request(self, host: str) -> None:
        head = (
            f"HEAD / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        )
        self._driven(lambda: self._tls.sendall(head.encode("ascii")))

    def _status(self) -> int:
        """The status of the final answer; interim ones (1xx) are passed over (RFC 9110 §15.2)."""
        head = b""
        taken = 0
        while True:
            status, head = _final_status(head)
            if status is not None:
                return status
            if taken > MOST_HEAD_BYTES:
                raise _Ended("the server's answer does not come to an end")
            piece = self._driven(lambda: self._tls.recv(_READ_SIZE))
            head += piece
            taken += len(piece)

    def _driven(self, step: Callable[[], T]) -> T:
        """Take one step of TLS, carrying bytes to and fro until it is done.

        Raises:
            _Ended: by the server, or because what it sent is not TLS.
            TimeoutError: the time is up.
            OSError: the connection broke.
        """
        while True:
            try:
                result = step()
            except SSL.WantReadError:
                self._flush()
                self._feed()
            except SSL.Error as error:
                self._flush()
                raise _Ended(self._reason(error)) from None
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        """Send what OpenSSL wants sent. A server that has closed may have said why before: that is still read."""
        with suppress(SSL.WantReadError, BrokenPipeError, ConnectionResetError):
            while True:
                waiting = self._tls.bio_read(_READ_SIZE)
                self._socket.settimeout(self._clock.left())
                self._socket.sendall(waiting)

    def _feed(self) -> None:
        """Receive something, or tell OpenSSL that nothing more comes."""
        if self._bytes_left <= 0:
            raise _Ended(f"the server sent more than {MOST_BYTES} bytes")
        self._socket.settimeout(self._clock.left())
        received = self._socket.recv(min(_READ_SIZE, self._bytes_left))
        self._bytes_left -= len(received)
        if received:
            self._tls.bio_write(received)
        else:
            self._tls.bio_shutdown()

    def _reason(self, error: SSL.Error) -> str:
        if self._trace.alert_name is not None:
            return f"the server closed the connection (alert {self._trace.alert_name})"
        if isinstance(error, SSL.ZeroReturnError | SSL.SysCallError):
            return f"the server closed the connection {self._phase()}"
        return f"what the server sent {self._phase()} is not TLS as we speak it ({_library_reason(error)})"

    def _phase(self) -> str:
        return "without an answer" if self._trace.is_done else "during the handshake"

    def _chain(self) -> tuple[tuple[str, ...], str | None]:
        """What was shown, if the server has proven that it holds the key: else it shows what is anybody's."""
        shown = (self._tls.get_peer_cert_chain() or []) if self._trace.is_key_proven else []
        encoded = [crypto.dump_certificate(crypto.FILETYPE_ASN1, one) for one in shown]
        return tuple(hashlib.sha256(der).hexdigest() for der in encoded), _subject(encoded[0]) if encoded else None

    def _client_ca_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_name(one.der()) for one in self._tls.get_client_ca_list()))


def _final_status(head: bytes) -> tuple[int | None, bytes]:
    """The final answer's status if it has come, and what is still to be understood.

    Raises:
        _Ended: this is not HTTP/1.
    """
    while (line := _STATUS_LINE.match(head)) is not None:
        status = int(line[1])
        if status not in _INTERIM:
            return status, head
        end = _END_OF_HEAD.search(head)
        if end is None:
            return None, head
        head = head[end.end() :]
    if b"\n" in head or len(head) > _LONGEST_STATUS_LINE or not _may_begin(head):
        raise _Ended("what the server answered is not HTTP/1")
    return None, head


def _may_begin(head: bytes) -> bool:
    return head.startswith(_PROTOCOL) or _PROTOCOL.startswith(head)


def _library_reason(error: SSL.Error) -> str:
    """OpenSSL's words for the last of its errors; they hold nothing that the server sent."""
    entries = error.args[0] if error.args else ()
    texts = [str(entry[-1]) for entry in entries if isinstance(entry, tuple) and entry and entry[-1]]
    return texts[-1] if texts else "no reason given"


def _subject(der: bytes) -> str:
    try:
        with library_call():
            return _shown(x509.load_der_x509_certificate(der).subject)
    except Unreadable:
        return "(unreadable)"


def _name(der: bytes) -> str:
    try:
        with library_call():
            return _shown(x509.Name.from_bytes(der))
    except Unreadable:
        return f"(unreadable, SHA-256 {hashlib.sha256(der).hexdigest()})"


def _shown(name: x509.Name) -> str:
    """Spelled as :class:`shared.domain.certificates.CertificateFacts` spells it, so that both can be compared."""
    return visible(name.rfc4514_string(), limit=TITLE_LIMIT)
