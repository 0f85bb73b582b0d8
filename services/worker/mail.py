"""SMTP: turns a mail into a message, text and HTML, and hands it to the operator's mail server."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from email import policy
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import Policy
from email.utils import format_datetime, parseaddr
from typing import Final, Self
from urllib.parse import unquote, urlsplit

import jinja2

from services.worker.patience import ended_after
from shared.config.settings import Settings
from shared.domain.addresses import is_address
from shared.errors import Misconfigured, Rejected, Transient
from shared.usecases.mail import Mail, plain

TIMEOUT: Final = timedelta(seconds=10)
"""For each step of the conversation."""

PATIENCE: Final = timedelta(seconds=40)
"""For all of it, also with a server that says a word every few seconds: the notices are ours for one lease (60 s), and
after that somebody else sends the mail again. RFC 5321 §4.5.3.2 would wait for minutes at each step; but a mail that is
put off comes later, and one that two are sending comes twice."""

PORTS: Final = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
"""RFC 5321 §4.5.4.2, RFC 6409 §3.1, RFC 8314 §7.3."""

READY: Final = 220
"""The greeting of a server that takes mail (RFC 5321 §4.3.2)."""

PERMANENT: Final = 500
"""SMTP replies from here on are final (RFC 5321 §4.2.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A mail server as the operator names it."""

    scheme: str
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


def parse_smtp_url(url: str) -> Server:
    """``smtp://``, ``smtp+starttls://`` or ``smtps://`` ``[user:password@]host[:port]``, percent-encoded where needed.

    Raises:
        Misconfigured: it is none of these; the URL is not repeated, because it may carry a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _bad_url() from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise _bad_url()
    return Server(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port or PORTS[parts.scheme],
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


class SmtpMailer:
    """A :class:`~shared.usecases.mail.Mailer` over SMTP: one connection a mail, so that a bad one disturbs no other."""

    def __init__(
        self,
        server: Server | None,
        *,
        sender: str,
        tls: ssl.SSLContext | None = None,
        timeout: timedelta = TIMEOUT,
        patience: timedelta = PATIENCE,
    ) -> None:
        self._server = server
        self._sender = sender
        self._tls = tls or ssl.create_default_context()
        self._timeout = min(timeout, patience)
        self.patience = patience

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """As the operator has set it; without ``SMTP_URL`` every mail waits.

        Raises:
            Misconfigured: ``SMTP_URL`` is not one, or ``CERTFLEET_MAIL_FROM`` no address.
        """
        if not _is_sender(settings.mail_from):
            raise Misconfigured(("CERTFLEET_MAIL_FROM: takes ops@example.com or Name <ops@example.com>.",))
        server = parse_smtp_url(settings.smtp_url) if settings.smtp_url else None
        return cls(server, sender=settings.mail_from, patience=min(PATIENCE, settings.lease * 2 / 3))

    def send(self, mail: Mail) -> None:
        """Send it (see the port)."""
        if self._server is None:
            raise Transient("No mail server is configured.", code="smtp_not_configured", hint="Set SMTP_URL.")
        if not is_address(mail.recipient):
            raise Rejected("The recipient is not an e-mail address.", code="recipient_refused")
        message = build_message(mail, sender=self._sender)
        with _translated(), self._connected(self._server) as connection:
            connection.send_message(message, from_addr=parseaddr(self._sender)[1], to_addrs=[mail.recipient])

    @contextmanager
    def _connected(self, server: Server) -> Iterator[smtplib.SMTP]:
        connection = self._new_connection(server)
        with ended_after(self.patience, lambda: connection.sock):
            try:
                _greet(connection, server)
                if server.scheme == "smtp+starttls":
                    connection.starttls(context=self._tls)
                if server.user:
                    connection.login(server.user, server.password)
                yield connection
            finally:
                _say_goodbye(connection)

    def _new_connection(self, server: Server) -> smtplib.SMTP:
        """Not connected yet: what connects can be ended."""
        seconds = self._timeout.total_seconds()
        here = socket.gethostname()  # smtplib's own choice asks the DNS, for as long as the DNS likes
        if server.scheme == "smtps":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(local_hostname=here, timeout=seconds, context=self._tls)
        else:
            connection = smtplib.SMTP(local_hostname=here, timeout=seconds)
        connection._host = server.host  # type: ignore[attr-defined] # noqa: SLF001 - only its constructor sets it: whose certificate is expected
        return connection


def _greet(connection: smtplib.SMTP, server: Server) -> None:
    code, answer = connection.connect(server.host, server.port)
    if code != READY:
        raise smtplib.SMTPConnectError(code, answer)


def _say_goodbye(connection: smtplib.SMTP) -> None:
    """Whatever is answered changes nothing: by now the mail was taken, or it was not (RFC 5321 §4.1.1.10)."""
    with suppress(smtplib.SMTPException, OSError):
        if connection.sock is not None:
            connection.quit()
    connection.close()


def build_message(mail: Mail, *, sender: str) -> EmailMessage:
    """The message, text first and HTML as its alternative (RFC 2046 §5.1.4).

    ``EmailMessage`` refuses line breaks in headers, whatever they are made of; the templates escape what users wrote.
    """
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = Address(addr_spec=mail.recipient)
    message["Subject"] = plain(mail.subject, limit=200)
    message["Date"] = format_datetime(mail.at)
    message["Message-ID"] = mail.message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: no vacation notices, please
    if mail.unsubscribe_url is not None:
        message["List-Unsubscribe"] = f"<{mail.unsubscribe_url}>"  # RFC 2369 §3.2
    if (mail.unsubscribe_url or "").startswith("https:"):
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"  # RFC 8058 §3.1: for https only
    message.set_content(_render(mail, "txt"), cte="quoted-printable")
    message.add_alternative(_render(mail, "html"), subtype="html", cte="quoted-printable")
    return message


class _Unfolded(UnstructuredHeader, BaseHeader):
    """A header without blanks to fold it at: the library would encode it as if it were not ASCII."""

    max_count = 1

    def fold(self, *, policy: Policy) -> str:
        """The line as it is; it may have 998 characters (RFC 5322 §2.1.1)."""
        return f"{self.name}: {self}{policy.linesep}"


_HEADERS: Final = HeaderRegistry()
_HEADERS.map_to_type("list-unsubscribe", _Unfolded)
_POLICY: Final = policy.SMTP.clone(header_factory=_HEADERS)

_TEMPLATES: Final = jinja2.Environment(
    loader=jinja2.PackageLoader("services.worker", "templates"),
    autoescape=jinja2.select_autoescape(("html",)),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _render(mail: Mail, form: str) -> str:
    return _TEMPLATES.get_template(f"{mail.template}.{form}").render(mail=mail, content=mail.content)


@contextmanager
def _translated() -> Iterator[None]:
    """The mail server's answers in our words. Its text may quote what we sent, so only the number is kept."""
    try:
        yield
    except smtplib.SMTPRecipientsRefused as error:
        code = max(code for code, _ in error.recipients.values())
        if code >= PERMANENT:
            raise Rejected(f"The mail server refused the recipient ({code}).", code="recipient_refused") from error
        raise Transient(f"The mail server cannot take mail for the recipient now ({code}).") from error
    except smtplib.SMTPDataError as error:
        if error.smtp_code >= PERMANENT:
            raise Rejected(f"The mail server refused the mail ({error.smtp_code}).", code="mail_refused") from error
        raise Transient(f"The mail server cannot take the mail now ({error.smtp_code}).") from error
    except smtplib.SMTPResponseException as error:
        raise Transient(f"The mail server does not work with us ({error.smtp_code}).") from error
    except (smtplib.SMTPException, OSError) as error:
        raise Transient("The mail server cannot be reached.") from error


def _is_sender(text: str) -> bool:
    _, address = parseaddr(text)
    return text.isprintable() and is_address(address) and text.endswith((address, f"<{address}>"))


def _bad_url() -> Misconfigured:
    return Misconfigured(
        ("SMTP_URL: takes smtp://, smtp+starttls:// or smtps:// with [user:password@]host[:port], percent-encoded.",)
    )
