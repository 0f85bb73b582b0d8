"""The message that is sent: headers, both forms, nothing of a user's text unescaped."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.worker.mail import Server, SmtpMailer, build_message, parse_smtp_url
from shared.config.settings import Settings
from shared.errors import Misconfigured, Rejected, Transient
from shared.usecases.mail import message_id, plain
from shared.usecases.reminder_digest import TIGHT, Place
from shared.usecases.reminder_mail import DIGEST
from tests.support.digests import digest, notice, reminder_mail
from tests.support.hostile_texts import HOSTILE_TEXTS

SENDER = "Certfleet <certfleet@example.net>"
HEADERS = [
    *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
    *("List-Unsubscribe", "List-Unsubscribe-Post", "MIME-Version", "Content-Type"),
]


def part(message: EmailMessage, subtype: str) -> str:
    body = message.get_body((subtype,))
    assert body is not None
    content = body.get_content()
    assert isinstance(content, str)
    return content


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail", Server(scheme="smtp", host="mail", port=25)),
        ("smtp://127.0.0.1:2525", Server(scheme="smtp", host="127.0.0.1", port=2525)),
        ("smtp://[::1]:2525", Server(scheme="smtp", host="::1", port=2525)),
        ("smtp+starttls://mail", Server(scheme="smtp+starttls", host="mail", port=587)),
        ("smtps://me%40x:p%3Aw@mail", Server(scheme="smtps", host="mail", port=465, user="me@x", password="p:w")),  # noqa: S106 - test data
    ],
)
def test_the_url_names_server_security_and_login(url: str, server: Server) -> None:
    assert parse_smtp_url(url) == server


@pytest.mark.parametrize("url", ["mail:25", "http://mail", "smtp://", "smtp://mail:port", "smtp://u:hunter2@[bad"])
def test_a_url_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        parse_smtp_url(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_server_keeps_its_password_out_of_its_representation() -> None:
    assert "hunter2" not in repr(parse_smtp_url("smtps://me:hunter2@mail"))


def test_the_headers_say_who_when_and_that_a_machine_writes() -> None:
    message = build_message(reminder_mail(), sender=SENDER)

    assert message["From"] == SENDER
    assert message["To"] == "ops@example.com"
    assert message["Subject"] == "api.example.com expires in 7 days (30 Nov 2026)"
    assert message["Date"] == "Mon, 23 Nov 2026 12:00:00 +0000"
    assert message["Message-ID"].endswith("@example.net>")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["List-Unsubscribe"] == "<https://certfleet.example.net/answer/two.signed>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message.get_content_type() == "multipart/alternative"
    assert [each.get_content_type() for each in message.iter_parts()] == ["text/plain", "text/html"]


def test_a_long_address_to_unsubscribe_stays_one_readable_line() -> None:
    url = f"https://certfleet.example.net/answer/{'x' * 200}.{'y' * 43}"

    raw = build_message(reminder_mail(unsubscribe_url=url), sender=SENDER).as_bytes()

    assert f"\r\nList-Unsubscribe: <{url}>\r\n".encode() in raw


def test_one_click_is_offered_over_https_only() -> None:
    message = build_message(reminder_mail(unsubscribe_url="http://127.0.0.1:8080/answer/x"), sender=SENDER)

    assert message["List-Unsubscribe"] == "<http://127.0.0.1:8080/answer/x>"
    assert "List-Unsubscribe-Post" not in message


def test_no_address_to_unsubscribe_can_add_a_header() -> None:
    with pytest.raises(ValueError, match="linefeed"):
        build_message(reminder_mail(unsubscribe_url="https://x/\r\nBcc: evil@example.com"), sender=SENDER)


def test_each_certificate_has_one_link_to_it_one_to_answer_and_its_listeners() -> None:
    content = digest(notice(listeners=("shop in cn-hangzhou: www.example.com",), listeners_more=2))
    message = build_message(reminder_mail(content), sender=SENDER)

    for subtype in ("plain", "html"):
        text = part(message, subtype)
        for words in (
            "https://certfleet.example.net/certificates/crt_01",
            "https://certfleet.example.net/answer/one.signed",
            "https://certfleet.example.net/answer/two.signed",
            "shop in cn-hangzhou: www.example.com",
            "and 2 more",
        ):
            assert text.count(words) == 1, words


def test_every_line_of_the_message_is_short_ascii_with_crlf() -> None:
    content = digest(notice(name="Größe 很长 " * 40, names=tuple(f"n{n}.example.com" for n in range(12))))

    raw = build_message(reminder_mail(content), sender=SENDER).as_bytes()

    assert raw.isascii()
    assert all(len(line) <= 998 and b"\n" not in line for line in raw.split(b"\r\n"))


def test_a_digest_of_many_stays_below_what_mail_programs_cut() -> None:
    """With names, addresses and regions of usual length; Gmail cuts at 102 kB."""
    one = notice(
        names=tuple(f"service-{n}.department.example.com" for n in range(TIGHT.names)),
        names_more=97,
        places=(
            Place(region="cn-hangzhou", name="China (Hangzhou)", state="deployed, not reachable at the last check"),
        )
        * TIGHT.regions,
        places_more=36,
        listeners=("shop in cn-hangzhou: service-1.department.example.com",) * TIGHT.listeners,
        listeners_more=10,
        told=tuple(f"firstname.lastname.{n}@department.example.com" for n in range(TIGHT.people)),
        told_more=17,
        answer_url="https://certfleet.example.net/answer/" + "a" * 170,
    )

    html = part(build_message(reminder_mail(digest(*[one] * DIGEST)), sender=SENDER), "html")

    assert len(html.encode()) < 102_000


def test_a_reminder_wraps_on_a_phone_however_long_its_names_are() -> None:
    """The subject of a certificate of the chain once reached beyond its card."""
    html = part(build_message(reminder_mail(digest(notice(link="CN=" + "x" * 150))), sender=SENDER), "html")

    assert "nowrap" not in html
    assert "overflow-wrap: anywhere" in html.split(".left {")[1].split("}")[0]


HOSTILE = 'x"><script>alert(1)</script><a href=https://evil.example>'


def test_the_html_form_escapes_what_users_wrote() -> None:
    content = digest(
        notice(title=HOSTILE, name=HOSTILE, names=(HOSTILE,), issuer=HOSTILE, told=(HOSTILE,)), account=HOSTILE
    )

    html = part(build_message(reminder_mail(content), sender=SENDER), "html")

    assert "<script" not in html
    assert "<a href=https://evil" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("text", ["a\x00b", *HOSTILE_TEXTS])
def test_user_text_cannot_add_a_header_or_a_line(text: str) -> None:
    assert plain(text).isprintable()
    message = build_message(reminder_mail(subject=text), sender=SENDER)
    received = message_from_bytes(message.as_bytes(), policy=policy.default)

    assert received.keys() == message.keys() == HEADERS
    assert received["Subject"].isprintable()


PIECES = ("=?", "?=", "utf-8", "?q?", "=0A", "Bcc: x@y.example", " ", "=", "ü", "\r\n", "a" * 70)


@given(st.lists(st.sampled_from(PIECES)))
def test_no_text_of_their_pieces_can_either(pieces: list[str]) -> None:
    text = "".join(pieces)
    received = message_from_bytes(build_message(reminder_mail(subject=text), sender=SENDER).as_bytes())

    assert received.keys() == HEADERS
    assert plain(plain(text)) == plain(text)


@pytest.mark.parametrize("recipient", ["a@b.c\r\nBcc: x@y.z", "a@b.c, x@y.z", "Me <a@b.c>", "", "a b@c.d", "ü@b.c"])
def test_what_is_no_plain_address_is_refused_before_anything_is_sent(recipient: str) -> None:
    mailer = SmtpMailer(Server(scheme="smtp", host="256.0.0.1", port=1), sender=SENDER)

    with pytest.raises(Rejected) as caught:
        mailer.send(reminder_mail(recipient=recipient))
    assert caught.value.code == "recipient_refused"


@pytest.mark.parametrize("sender", ["", "Certfleet", "a@b.c\r\nBcc: x@y.z", "Certfleet <no one>", "a@b.c, x@y.z"])
def test_a_sender_who_is_none_is_refused_when_the_worker_starts(sender: str, tmp_path: Path) -> None:
    settings = Settings(database_url="", redis_url="", kek_file=tmp_path, regions={}, mail_from=sender)

    with pytest.raises(Misconfigured, match="CERTFLEET_MAIL_FROM"):
        SmtpMailer.from_settings(settings)


def test_without_a_mail_server_mail_waits() -> None:
    with pytest.raises(Transient, match="No mail server"):
        SmtpMailer(None, sender=SENDER).send(reminder_mail())


def test_a_message_id_depends_on_the_notices_and_not_on_their_order() -> None:
    ids = {message_id("reminder", each, sender=SENDER) for each in (["a", "b"], ["b", "a"])}

    assert len(ids) == 1
    assert ids.pop().endswith("@example.net>")
    assert message_id("reminder", ["a"], sender=SENDER) != message_id("reminder", ["b"], sender=SENDER)


@pytest.mark.parametrize(
    ("days", "subject"),
    [
        ((7,), "api.example.com expires in 7 days (30 Nov 2026)"),
        ((1,), "api.example.com expires in 1 day (24 Nov 2026)"),
        ((0,), "api.example.com expires in less than a day (23 Nov 2026)"),
        ((-3,), "api.example.com has expired (20 Nov 2026)"),
        ((1, 7, 30), "3 certificates expire, first in 1 day (24 Nov 2026)"),
        ((-3, 7, 30), "1 of 3 certificates has expired, the next expires in 7 days"),
        ((-3, -2, 30), "2 of 3 certificates have expired, the next expires in 30 days"),
        ((-3, -2), "2 certificates have expired"),
    ],
)
def test_the_subject_says_what_expires_when(days: tuple[int, ...], subject: str) -> None:
    assert digest(*(notice(days=each) for each in days)).subject == subject


def test_urgency_is_said_in_words_too() -> None:
    content = digest(*(notice(days=each) for each in (-3, 0, 7, 30)))
    message = build_message(reminder_mail(content), sender=SENDER)

    for words in ("expired", "urgent: 1 day or less", "soon: 15 days or less", "plan ahead"):
        assert words in part(message, "plain").lower()
        assert words in part(message, "html").lower()


@pytest.mark.parametrize("form", ["txt", "html"])
def test_the_templates_are_package_data(form: str) -> None:
    assert (resources.files("services.worker") / "templates" / f"reminder.{form}").is_file()
