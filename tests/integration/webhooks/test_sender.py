"""The way out, on real sockets: what is dialled, what is never followed, and that nothing outlasts the deadline."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.worker.webhook_http import HttpWebhookSender
from shared.domain.webhooks import HEAD_BYTES, Answer
from shared.usecases.webhook_delivery import Request
from tests.support.hostile_urls import LITERALS, NAMES
from tests.support.receiver import Receiver, Reply, running_dripper, running_receiver
from tests.support.webhook_world import LOOPBACK

DEADLINE: Final = timedelta(seconds=1)
FAR_TOO_LONG: Final = timedelta(seconds=3)


class CountingResolver:
    """Answers each look-up with the next list of addresses."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(f"{host}:{port}")
        return self.answers.pop(0)


def post(url: str, *, sender: HttpWebhookSender | None = None, deadline: timedelta = DEADLINE) -> Answer:
    request = Request(url=url, headers={"content-type": "application/json"}, body=b'{"a":1}')
    return (sender or HttpWebhookSender(LOOPBACK)).send(request, deadline=deadline)


def test_exactly_the_given_bytes_and_headers_arrive(receiver: Receiver) -> None:
    assert post(receiver.url + "?a=b").status == 204
    (received,) = receiver.received
    assert (received.method, received.path, received.body) == ("POST", "/hook?a=b", b'{"a":1}')
    assert received.headers["content-type"] == "application/json"
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.parametrize("url", LITERALS)
def test_no_hostile_url_is_dialled(url: str) -> None:
    answer = post(url, sender=HttpWebhookSender(resolver=lambda _host, _port: ("127.0.0.1",)))
    assert answer.status is None
    assert answer.error in {"invalid_url", "https_required", "address_not_allowed"}


@pytest.mark.parametrize(("url", "addresses"), NAMES.items())
def test_no_name_that_leads_astray_is_dialled(url: str, addresses: tuple[str, ...]) -> None:
    answer = post(url, sender=HttpWebhookSender(resolver=lambda _host, _port: addresses))
    assert answer.error == "address_not_allowed"


def test_a_name_is_resolved_once_so_that_it_cannot_be_rebound(receiver: Receiver) -> None:
    resolver = CountingResolver(["127.0.0.1"], ["10.0.0.1"])
    answer = post(receiver.url_for("rebind.example.com"), sender=HttpWebhookSender(LOOPBACK, resolver=resolver))
    assert answer.status == 204
    assert resolver.asked == [f"rebind.example.com:{receiver.port}"]
    assert receiver.received[0].headers["host"] == f"rebind.example.com:{receiver.port}"


def test_one_forbidden_address_among_several_forbids_all(receiver: Receiver) -> None:
    resolver = CountingResolver(["127.0.0.1", "10.0.0.1"])
    answer = post(receiver.url_for("mixed.example.com"), sender=HttpWebhookSender(LOOPBACK, resolver=resolver))
    assert answer.error == "address_not_allowed"
    assert receiver.received == []


def test_the_next_address_is_tried_when_the_first_refuses(receiver: Receiver) -> None:
    resolver = CountingResolver(["127.0.0.2", "127.0.0.1"])
    answer = post(receiver.url_for("two.example.com"), sender=HttpWebhookSender(LOOPBACK, resolver=resolver))
    assert answer.status == 204


def test_a_real_look_up_of_localhost_works(receiver: Receiver) -> None:
    networks = (*LOOPBACK, ipaddress.IPv6Network("::1/128"))
    assert post(receiver.url_for("localhost"), sender=HttpWebhookSender(networks)).status == 204


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    receiver.reply_with(Reply(status=status, headers={"location": receiver.url_for("127.0.0.1") + "/elsewhere"}))
    assert post(receiver.url).status == status
    assert len(receiver.received) == 1


def test_proxies_from_the_environment_are_ignored(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert post(receiver.url).status == 204


def timed(url: str, *, sender: HttpWebhookSender | None = None) -> Answer:
    """Post, and fail if it took much longer than the deadline."""
    started = time.monotonic()
    answer = post(url, sender=sender)
    took = timedelta(seconds=time.monotonic() - started)
    assert took < FAR_TOO_LONG
    assert DEADLINE <= answer.duration <= took
    return answer


def test_dripping_headers_are_cut_at_the_deadline(receiver: Receiver) -> None:
    receiver.reply_with(Reply(drip=True))
    assert timed(receiver.url).error == "deadline_exceeded"


def test_a_silent_receiver_is_cut_at_the_deadline(receiver: Receiver) -> None:
    receiver.reply_with(Reply(hang=True))
    assert timed(receiver.url).error == "deadline_exceeded"


def test_a_dripping_tls_handshake_is_cut_at_the_deadline() -> None:
    with running_dripper(b"\x16\x03\x03\x40\x00") as port:
        assert timed(f"https://127.0.0.1:{port}/").error == "deadline_exceeded"


def test_endless_interim_answers_are_cut_at_the_deadline() -> None:
    with running_dripper(b"HTTP/1.1 100 Continue\r\n\r\n" * 50) as port:
        assert timed(f"http://127.0.0.1:{port}/").error == "deadline_exceeded"


def test_a_dripping_body_is_cut_at_the_deadline_and_the_status_counts() -> None:
    with running_dripper(b"HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\nhello") as port:
        answer = timed(f"http://127.0.0.1:{port}/")
    assert (answer.status, answer.error, answer.head) == (200, None, "hello")


def test_a_silent_name_server_is_cut_at_the_deadline() -> None:
    over = threading.Event()

    def never(_host: str, _port: int) -> Sequence[str]:
        over.wait(30)
        return ["127.0.0.1"]

    try:
        answer = timed("https://slow.example.com/", sender=HttpWebhookSender(resolver=never))
    finally:
        over.set()
    assert answer.error == "deadline_exceeded"


def test_a_huge_body_is_cut(receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=200, body=b"x" * 20_000_000))
    answer = post(receiver.url)
    assert answer.status == 200
    assert answer.head == "x" * HEAD_BYTES
    assert answer.duration < DEADLINE


def test_the_head_is_cleaned(receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=500, body=b"oops\0\x1b[2J\xff"))
    assert post(receiver.url).head == "oops[2J\ufffd"


def test_nobody_listening_is_a_failed_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert post(f"http://127.0.0.1:{port}/").error == "connection_failed"


def test_a_name_without_an_address_is_not_resolved() -> None:
    def nothing(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    for resolver in (nothing, CountingResolver([])):
        answer = post("https://unknown.example.com/", sender=HttpWebhookSender(resolver=resolver))
        assert answer.error == "name_not_resolved"


@pytest.mark.parametrize(
    "beginning", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/9.9 banana\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200]
)
def test_something_that_is_not_http_is_a_protocol_error(beginning: bytes) -> None:
    with running_dripper(beginning) as port:
        assert post(f"http://127.0.0.1:{port}/").error == "protocol_error"


def test_retry_after_is_handed_on(receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=503, headers={"retry-after": "120"}))
    assert post(receiver.url).retry_after == "120"


def server_tls(place: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context for that name, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    pem += key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (place / "server.pem").write_bytes(pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(place / "server.pem")
    client = ssl.create_default_context(cadata=certificate.public_bytes(serialization.Encoding.PEM).decode())
    return server, client


def test_https_checks_the_certificate_against_the_name_while_dialling_the_address(tmp_path: Path) -> None:
    server, client = server_tls(tmp_path, "hooks.example.com")
    sender = HttpWebhookSender(LOOPBACK, resolver=lambda _host, _port: ["127.0.0.1"], tls=client)
    with running_receiver(tls=server) as receiver:
        assert post(receiver.url_for("hooks.example.com"), sender=sender).status == 204
        assert post(receiver.url_for("other.example.com"), sender=sender).error == "tls_failed"
        assert post(receiver.url_for("127.0.0.1"), sender=sender).error == "tls_failed"
        assert len(receiver.received) == 1


def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    server, _ = server_tls(tmp_path, "hooks.example.com")
    sender = HttpWebhookSender(LOOPBACK, resolver=lambda _host, _port: ["127.0.0.1"])
    with running_receiver(tls=server) as receiver:
        assert post(receiver.url_for("hooks.example.com"), sender=sender).error == "tls_failed"
        assert receiver.received == []
