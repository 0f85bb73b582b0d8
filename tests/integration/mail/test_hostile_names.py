"""Whatever certificates, accounts and listeners are called: the mail has our headers, our lines and our links."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from services.worker.mail import SmtpMailer, parse_smtp_url
from shared.domain.reminders import DAY
from shared.domain.rollout import DeploymentState
from shared.models import Account
from shared.usecases.reminder_mail import send
from shared.usecases.reminder_scan import scan
from tests.support.fleet import Fleet, build_fleet
from tests.support.hostile_texts import HOSTILE_TEXTS
from tests.support.reminders import add_certificate, add_deployment, add_listener, ledger
from tests.support.smtp import MailServer, mail_server

LOOKALIKE = "\u0440\u0430\u0443\u0440\u0430l.com"
PUBLIC = "http://127.0.0.1:8080/"


@pytest.fixture
def fleet(database_url: str, tmp_path: Path) -> Iterator[Fleet]:
    built = build_fleet(database_url, tmp_path)
    yield built
    built.context.database.close()


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as running:
        yield running


class Page(HTMLParser):
    """The tags of a page and where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links |= {value or "" for name, value in attributes if name in ("href", "src")}


def the_mail(fleet: Fleet, server: MailServer, text: str, *, to: str) -> EmailMessage:
    """A reminder of a certificate of which everything is called like this."""
    with fleet.transaction() as session:
        session.get_one(Account, fleet.caller.account_id).name = text
    called: dict[str, Any] = {
        "name": text,
        "common_name": text,
        "names": [text, "ok.example.com"],
        "issuer": text,
        "tags": {text: text},
    }
    certificate_id = add_certificate(fleet, left=5 * DAY, contacts=[to], **called)
    add_deployment(fleet, certificate_id, "cn-hangzhou", state=DeploymentState.DEPLOYED, served="match")
    add_listener(fleet, certificate_id, "cn-hangzhou", served="match", name=text)
    scan(fleet.context, now=fleet.now)
    mailer = SmtpMailer(parse_smtp_url(f"smtp://127.0.0.1:{server.port}"), sender="certfleet@example.net")
    (notice,) = (row for row in ledger(fleet) if row.recipient == to)
    send(fleet.context, mailer, notice.id, now=fleet.now)
    (mail,) = server.to(to)
    return mail


def body(mail: EmailMessage, subtype: str) -> str:
    part = mail.get_body((subtype,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def test_names_add_no_header_no_line_no_markup_and_no_link(fleet: Fleet, server: MailServer) -> None:
    usual = the_mail(fleet, server, "usual", to="usual@example.com")

    for number, text in enumerate(HOSTILE_TEXTS):
        mail = the_mail(fleet, server, text, to=f"ops-{number}@example.com")

        assert mail.keys() == usual.keys(), text
        assert mail["Subject"].isprintable(), text
        lines = body(mail, "plain").split("\n")
        assert len(lines) == len(body(usual, "plain").split("\n")), text
        assert all(line.isprintable() for line in lines), text
        page = Page(body(mail, "html"))
        assert page.tags == Page(body(usual, "html")).tags, text
        assert all(link.startswith(PUBLIC) for link in page.links), text
    assert len(server.mails) == 1 + len(HOSTILE_TEXTS)


def test_a_common_name_that_clients_do_not_go_by_is_no_headline(fleet: Fleet, server: MailServer) -> None:
    """A look-alike of paypal.com, in Cyrillic letters."""
    add_certificate(fleet, left=5 * DAY, common_name=LOOKALIKE, names=["shop.example.com"], contacts=["a@example.com"])
    scan(fleet.context, now=fleet.now)
    mailer = SmtpMailer(parse_smtp_url(f"smtp://127.0.0.1:{server.port}"), sender="certfleet@example.net")

    send(fleet.context, mailer, ledger(fleet)[0].id, now=fleet.now)

    (mail,) = server.to("a@example.com")
    assert mail["Subject"] == "shop.example.com expires in 5 days (20 Jan 2026)"
