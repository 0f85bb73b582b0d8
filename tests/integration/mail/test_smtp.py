"""The mailer against real SMTP servers: TLS, logins, and what goes wrong."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography.hazmat.primitives import serialization

from services.worker.mail import SmtpMailer, parse_smtp_url
from shared.config.settings import Settings
from shared.errors import Rejected, Transient
from tests.support import pki
from tests.support.digests import reminder_mail
from tests.support.dripping import dripping
from tests.support.smtp import MailServer, mail_server

SENDER = "certfleet@example.net"
PASSWORD = "p:w/ 1"  # noqa: S105 - test data
LOGIN = "me%40example.net:p%3Aw%2F%201"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's context that trust each other, for ``localhost``, by today's clock."""
    today = datetime.now(UTC)
    issued = pki.server_with_chain(
        "localhost", not_before=today - timedelta(days=1), not_after=today + timedelta(days=1)
    )
    place: Path = tmp_path_factory.mktemp("tls")
    (place / "server.pem").write_text(issued.chain_pem + issued.key_pem, encoding="ascii")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(place / "server.pem")
    client = ssl.create_default_context(cadata=issued.certificate.public_bytes(serialization.Encoding.PEM).decode())
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return server, client


def mailer(url: str, *, trusting: ssl.SSLContext | None = None, seconds: float = 5, patience: float = 30) -> SmtpMailer:
    return SmtpMailer(
        parse_smtp_url(url),
        sender=SENDER,
        tls=trusting,
        timeout=timedelta(seconds=seconds),
        patience=timedelta(seconds=patience),
    )


def test_starttls_comes_before_the_password(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    with mail_server(MailServer(password=PASSWORD), starttls=tls[0]) as server:
        mailer(f"smtp+starttls://{LOGIN}@localhost:{server.port}", trusting=tls[1]).send(reminder_mail())

    assert server.logins == [("me@example.net", PASSWORD)]
    assert len(server.mails) == 1


def test_tls_from_the_first_byte(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    with mail_server(tls=tls[0]) as server:
        mailer(f"smtps://localhost:{server.port}", trusting=tls[1]).send(reminder_mail())

    assert len(server.mails) == 1


def test_a_server_whose_certificate_is_not_trusted_gets_nothing(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    with mail_server(MailServer(password=PASSWORD), starttls=tls[0]) as server, pytest.raises(Transient):
        mailer(f"smtp+starttls://{LOGIN}@localhost:{server.port}").send(reminder_mail())

    assert (server.mails, server.logins) == ([], [])


def test_a_server_without_starttls_gets_no_password() -> None:
    with mail_server() as server, pytest.raises(Transient):
        mailer(f"smtp+starttls://{LOGIN}@localhost:{server.port}").send(reminder_mail())

    assert (server.mails, server.logins) == ([], [])


def test_a_wrong_password_can_be_put_right_and_does_not_end_the_mail(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    with mail_server(MailServer(password="other"), starttls=tls[0]) as server, pytest.raises(Transient) as caught:  # noqa: S106 - test data
        mailer(f"smtp+starttls://{LOGIN}@localhost:{server.port}", trusting=tls[1]).send(reminder_mail())

    assert PASSWORD not in str(caught.value)


def test_a_silent_server_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Transient, match="cannot be reached"):
        mailer(f"smtp://127.0.0.1:{silent.getsockname()[1]}", seconds=0.2).send(reminder_mail())


@pytest.mark.parametrize("first", [b"", b"220 mail.localhost\r\n250-"], ids=["greeting", "hello"])
def test_a_server_that_never_comes_to_an_end_is_given_up(first: bytes) -> None:
    with dripping(first) as port, pytest.raises(Transient):
        mailer(f"smtp://127.0.0.1:{port}", patience=0.3).send(reminder_mail())


class Rude(MailServer):
    """It takes the mail, and then has something against the goodbye."""

    async def handle_QUIT(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        return "421 4.3.2 Going down"


def test_what_was_taken_was_taken_whatever_the_goodbye_is_answered() -> None:
    with mail_server(Rude()) as server:
        mailer(f"smtp://127.0.0.1:{server.port}").send(reminder_mail())

    assert len(server.mails) == 1


def test_the_whole_conversation_is_shorter_than_a_lease(tmp_path: Path) -> None:
    for seconds in (5, 60, 600):
        settings = Settings(
            database_url="", redis_url="", kek_file=tmp_path, regions={}, lease=timedelta(seconds=seconds)
        )
        assert SmtpMailer.from_settings(settings).patience < settings.lease


def test_a_refused_recipient_is_told_from_one_that_is_put_off() -> None:
    with mail_server(MailServer(refuses={"ops@example.com": "550 no"})) as server:
        with pytest.raises(Rejected):
            mailer(f"smtp://127.0.0.1:{server.port}").send(reminder_mail())
        server.refuses["ops@example.com"] = "450 later"
        with pytest.raises(Transient):
            mailer(f"smtp://127.0.0.1:{server.port}").send(reminder_mail())
