"""One digest a recipient, by a real SMTP server; failures wait or end, each for itself."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import time, timedelta
from email.message import EmailMessage
from threading import Barrier

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from services.worker.mail import SmtpMailer, parse_smtp_url
from shared.domain.reminders import DAY
from shared.domain.rollout import DeploymentState
from shared.models import Reminder
from shared.usecases import account_settings
from shared.usecases.mail import Mail
from shared.usecases.reminder_digest import FEW, TIGHT
from shared.usecases.reminder_mail import DIGEST, GIVE_UP, send
from shared.usecases.reminder_scan import scan
from shared.usecases.sweep import sweep
from shared.wakeups import Task
from tests.support.fleet import Fleet, new_caller
from tests.support.reminders import (
    OPS,
    add_certificate,
    add_deployment,
    change_account,
    change_certificate,
    change_deployment,
    ledger,
)
from tests.support.smtp import MailServer, mail_server

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as running:
        yield running


def mailer_for(server: MailServer) -> SmtpMailer:
    return SmtpMailer(parse_smtp_url(f"smtp://127.0.0.1:{server.port}"), sender="Certfleet <certfleet@example.net>")


def run_mails(fleet: Fleet, server: MailServer, *, after: timedelta = timedelta(0)) -> None:
    """Send whatever was woken."""
    woken, fleet.room.waiting = list(fleet.room.waiting), type(fleet.room.waiting)()
    for wake in woken:
        if wake.task is Task.MAIL:
            send(fleet.context, mailer_for(server), wake.id, now=fleet.now + after)


def sweep_and_send(fleet: Fleet, server: MailServer, *, after: timedelta) -> None:
    sweep(fleet.context, now=fleet.now + after)
    run_mails(fleet, server, after=after)


def text_of(mail: EmailMessage, subtype: str = "plain") -> str:
    part = mail.get_body((subtype,))
    assert part is not None
    content = part.get_content()
    assert isinstance(content, str)
    return content.replace("\r\n", "\n")


def states(fleet: Fleet) -> list[str]:
    return sorted(row.state for row in ledger(fleet))


def test_one_recipient_gets_one_mail_about_everything(fleet: Fleet, server: MailServer) -> None:
    add_certificate(fleet, left=-2 * DAY, common_name="old.example.com", names=["old.example.com"])
    add_certificate(fleet, left=7 * DAY, common_name="api.example.com", names=["api.example.com"])
    add_certificate(fleet, left=40 * DAY, common_name="www.example.com")
    scan(fleet.context, now=fleet.now)

    run_mails(fleet, server)

    (mail,) = server.mails
    assert mail["To"] == OPS
    assert mail["Subject"] == "1 of 3 certificates has expired, the next expires in 7 days"
    text = text_of(mail)
    order = [text.index(words) for words in ("EXPIRED", "old.example.com", "SOON", "api.example.com", "PLAN AHEAD")]
    assert order == sorted(order)
    assert states(fleet) == ["sent"] * 3
    assert {row.message_id for row in ledger(fleet)} == {mail["Message-ID"]}


def test_the_mail_says_what_expires_when_where_it_is_deployed_and_who_was_told(
    fleet: Fleet, server: MailServer
) -> None:
    certificate_id = add_certificate(
        fleet,
        left=7 * DAY,
        common_name="api.example.com",
        names=["api.example.com", "api2.example.com"],
        contacts=[OPS, "boss@example.com"],
    )
    add_deployment(fleet, certificate_id, "eu-central-1", state=DeploymentState.DEPLOYED, served="match")
    add_deployment(fleet, certificate_id, "us-west-1", state=DeploymentState.FAILED, served="not_checked")
    add_deployment(fleet, certificate_id, "cn-hangzhou", state=DeploymentState.REMOVED, served="not_checked")
    scan(fleet.context, now=fleet.now)

    run_mails(fleet, server)

    (mail,) = server.to(OPS)
    assert mail["Subject"] == "api.example.com expires in 7 days (22 Jan 2026)"
    for text in (text_of(mail), text_of(mail, "html")):
        for words in (
            "Expires in 7 days",
            "22 Jan 2026, 12:00 UTC",
            "api2.example.com",
            "boss@example.com",
            "deployed, served",
            "deployment failed",
            f"http://127.0.0.1:8080/certificates/{certificate_id}",
        ):
            assert words in text
        assert "cn-hangzhou" not in text
    assert len(server.to("boss@example.com")) == 1


class Picky(MailServer):
    """Takes no mail that mentions ``spam.example.com``."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        assert isinstance(envelope.content, bytes)
        if b"spam.example.com" in envelope.content:
            return "554 5.7.1 Refused as spam"
        return await super().handle_DATA(server, session, envelope)


def test_what_no_server_takes_costs_nobody_another_notice(fleet: Fleet) -> None:
    bad = add_certificate(fleet, left=7 * DAY, names=["spam.example.com"])
    names = [f"www{number}.example.com" for number in range(9)]
    for name in names:
        add_certificate(fleet, left=7 * DAY, names=[name])
    scan(fleet.context, now=fleet.now)

    with mail_server(Picky()) as picky:
        while any(wake.task is Task.MAIL for wake in fleet.room.waiting):
            run_mails(fleet, picky)

    assert [row.certificate_id for row in ledger(fleet) if row.state != "sent"] == [bad]
    assert {row.state for row in ledger(fleet)} == {"sent", "failed"}
    texts = [text_of(mail) for mail in picky.mails]
    assert [sum(name in text for text in texts) for name in names] == [1] * len(names)
    assert len(texts) < len(names)


def test_a_notice_that_cannot_be_written_holds_no_other_back(fleet: Fleet, server: MailServer) -> None:
    add_certificate(fleet, left=7 * DAY)
    bad = add_certificate(fleet, left=6 * DAY)
    add_deployment(fleet, bad, "eu-central-1", state=DeploymentState.DEPLOYED, served="match")
    change_deployment(fleet, bad, "eu-central-1", served="of a later release")
    scan(fleet.context, now=fleet.now)

    while any(wake.task is Task.MAIL for wake in fleet.room.waiting):
        run_mails(fleet, server)

    assert len(server.mails) == 1
    assert states(fleet) == ["pending", "sent"]
    sweep_and_send(fleet, server, after=GIVE_UP + HOUR)
    assert states(fleet) == ["failed", "sent"]


def test_what_waits_for_the_morning_after_a_failure_is_another_mail_than_what_went_at_night(
    fleet: Fleet, server: MailServer
) -> None:
    """Mailboxes drop a second mail of the same Message-ID."""
    change_account(fleet, quiet_from=time(13), quiet_until=time(20))
    add_certificate(fleet, left=DAY)
    add_certificate(fleet, left=7 * DAY)
    scan(fleet.context, now=fleet.now)
    server.refuses[OPS] = "451 Later"
    run_mails(fleet, server)
    server.refuses.clear()

    sweep_and_send(fleet, server, after=2 * HOUR)
    sweep_and_send(fleet, server, after=9 * HOUR)

    assert states(fleet) == ["sent", "sent"]
    night, morning = server.mails
    assert night["Message-ID"] != morning["Message-ID"]


def test_accounts_share_no_mail(fleet: Fleet, server: MailServer) -> None:
    other = new_caller(fleet.context, "other", now=fleet.now)
    add_certificate(fleet, left=5 * DAY)
    add_certificate(fleet, left=5 * DAY, account_id=other.account_id)
    scan(fleet.context, now=fleet.now)

    run_mails(fleet, server)

    assert len(server.to(OPS)) == 2


def test_a_second_wake_up_sends_nothing(fleet: Fleet, server: MailServer) -> None:
    add_certificate(fleet, left=5 * DAY)
    scan(fleet.context, now=fleet.now)
    (row,) = ledger(fleet)

    for _ in range(2):
        send(fleet.context, mailer_for(server), row.id, now=fleet.now)

    assert len(server.mails) == 1


def test_workers_that_are_woken_for_every_notice_at_once_send_one_mail(fleet: Fleet, server: MailServer) -> None:
    for _ in range(6):
        add_certificate(fleet, left=5 * DAY)
    scan(fleet.context, now=fleet.now)
    start = Barrier(6)

    def wake(row: Reminder) -> None:
        start.wait(10)
        send(fleet.context, mailer_for(server), row.id, now=fleet.now)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(wake, ledger(fleet)))

    assert [mail["Subject"] for mail in server.mails] == ["6 certificates expire, first in 5 days (20 Jan 2026)"]


def test_a_mail_server_that_was_away_gets_the_mail_once_when_it_is_back(fleet: Fleet) -> None:
    add_certificate(fleet, left=5 * DAY)
    add_certificate(fleet, left=6 * DAY)
    scan(fleet.context, now=fleet.now)
    with mail_server() as gone:
        pass
    run_mails(fleet, gone)
    assert states(fleet) == ["pending"] * 2
    assert {row.error for row in ledger(fleet)} == {"The mail server cannot be reached."}

    with mail_server(MailServer(port=gone.port)) as back:
        for minutes in range(20, 80, 20):
            sweep_and_send(fleet, back, after=minutes * MINUTE)

    assert len(back.mails) == 1
    assert states(fleet) == ["sent"] * 2


def test_a_bad_recipient_fails_alone_and_for_good(fleet: Fleet, server: MailServer) -> None:
    add_certificate(fleet, left=5 * DAY, contacts=[OPS, "gone@example.com"])
    server.refuses["gone@example.com"] = "550 5.1.1 No such user"
    scan(fleet.context, now=fleet.now)

    run_mails(fleet, server)
    sweep_and_send(fleet, server, after=60 * MINUTE)

    assert [mail["To"] for mail in server.mails] == [OPS]
    failed = {row.recipient: (row.state, row.error, row.attempt) for row in ledger(fleet)}
    assert failed[OPS] == ("sent", None, 1)
    assert failed["gone@example.com"] == ("failed", "The mail server refused the recipient (550).", 1)


@pytest.mark.parametrize("reply", ["451 4.7.1 Greylisted, try again", "452 4.2.2 Mailbox full"])
def test_a_recipient_that_is_put_off_is_tried_again(fleet: Fleet, server: MailServer, reply: str) -> None:
    add_certificate(fleet, left=5 * DAY)
    server.refuses[OPS] = reply
    scan(fleet.context, now=fleet.now)
    run_mails(fleet, server)
    assert states(fleet) == ["pending"]

    server.refuses.clear()
    sweep_and_send(fleet, server, after=20 * MINUTE)

    assert len(server.mails) == 1
    assert states(fleet) == ["sent"]


def test_a_mail_that_is_refused_for_its_content_is_not_sent_again(fleet: Fleet, server: MailServer) -> None:
    add_certificate(fleet, left=5 * DAY)
    server.refuses_data = "554 5.7.1 Looks like spam"
    scan(fleet.context, now=fleet.now)

    run_mails(fleet, server)

    (row,) = ledger(fleet)
    assert (row.state, row.error) == ("failed", "The mail server refused the mail (554).")


def test_mail_that_cannot_be_sent_for_days_is_given_up(fleet: Fleet) -> None:
    add_certificate(fleet, left=-DAY)
    scan(fleet.context, now=fleet.now)
    with mail_server() as gone:
        pass
    run_mails(fleet, gone)

    sweep_and_send(fleet, gone, after=GIVE_UP - MINUTE)
    assert states(fleet) == ["pending"]
    sweep_and_send(fleet, gone, after=GIVE_UP + 20 * MINUTE)

    assert states(fleet) == ["failed"]


@dataclass
class DyingMailer:
    """Stands for a worker that is killed after the mail server's answer and before the commit."""

    inner: SmtpMailer
    sent: list[Mail] = field(default_factory=list)

    def send(self, mail: Mail) -> None:
        self.inner.send(mail)
        self.sent.append(mail)
        raise KeyboardInterrupt


def test_a_worker_killed_between_the_servers_answer_and_the_commit_causes_one_recognisable_duplicate(
    fleet: Fleet, server: MailServer
) -> None:
    add_certificate(fleet, left=5 * DAY)
    scan(fleet.context, now=fleet.now)
    first = ledger(fleet)[0]
    with pytest.raises(KeyboardInterrupt):
        send(fleet.context, DyingMailer(mailer_for(server)), first.id, now=fleet.now)
    add_certificate(fleet, left=6 * DAY)
    scan(fleet.context, now=fleet.now + 2 * MINUTE)

    for minutes in (3, 4, 5):
        sweep_and_send(fleet, server, after=minutes * MINUTE)

    ids = [mail["Message-ID"] for mail in server.mails]
    assert len(ids) == 3
    assert len(set(ids)) == 2
    assert states(fleet) == ["sent"] * 2


@pytest.mark.parametrize("change", [{"reminders_muted": True}, {"state": "deleted"}, {"replaced_by_id": "self"}])
def test_a_notice_that_nobody_needs_any_more_is_not_sent(
    fleet: Fleet, server: MailServer, change: dict[str, object]
) -> None:
    certificate_id = add_certificate(fleet, left=5 * DAY)
    scan(fleet.context, now=fleet.now)
    if "replaced_by_id" in change:
        change = {"replaced_by_id": add_certificate(fleet, left=300 * DAY)}
    change_certificate(fleet, certificate_id, **change)

    run_mails(fleet, server)

    assert server.mails == []
    assert states(fleet) == ["suppressed"]


def test_a_notice_that_waited_too_long_gives_way_to_the_nearer_one(fleet: Fleet, server: MailServer) -> None:
    add_certificate(fleet, left=5 * DAY)
    scan(fleet.context, now=fleet.now)
    fleet.room.waiting.clear()
    scan(fleet.context, now=fleet.now + 2 * DAY)

    sweep_and_send(fleet, server, after=2 * DAY)

    assert [mail["Subject"] for mail in server.mails] == ["www.example.com expires in 3 days (20 Jan 2026)"]
    assert sorted((row.threshold, row.state) for row in ledger(fleet)) == [(3, "sent"), (7, "suppressed")]


def test_a_mail_about_many_says_less_of_each_and_first_where_something_is_wrong(
    fleet: Fleet, server: MailServer
) -> None:
    for number in range(FEW + 1):
        names = [f"n{each}.example.com" for each in range(TIGHT.names + 2)]
        certificate_id = add_certificate(fleet, left=5 * DAY, common_name="n0.example.com", names=names)
        if number == 0:
            for region in range(TIGHT.regions + 1):
                add_deployment(
                    fleet, certificate_id, f"region-{region}", state=DeploymentState.DEPLOYED, served="match"
                )
            add_deployment(fleet, certificate_id, "z-region", state=DeploymentState.FAILED, served="not_checked")
    scan(fleet.context, now=fleet.now)

    run_mails(fleet, server)

    text = text_of(server.mails[0])
    assert text.count("n2.example.com and 2 more\n") == FEW + 1
    assert "z-region: deployment failed\n    region-0: deployed, served\n" in text
    assert "region-2: deployed, served\n    and 2 more\n" in text


def test_who_was_told_is_said_once_where_a_certificate_and_its_chain_end(fleet: Fleet, server: MailServer) -> None:
    chain = [
        {
            "subject": subject,
            "fingerprint_sha256": "cd" * 32,
            "not_before": (fleet.now - 900 * DAY).isoformat(),
            "not_after": (fleet.now + left).isoformat(),
        }
        for subject, left in (("CN=www.example.com", 5 * DAY), ("CN=Intermediate", 2 * DAY))
    ]
    add_certificate(fleet, left=5 * DAY, chain=chain)
    scan(fleet.context, now=fleet.now)

    run_mails(fleet, server)

    (mail,) = server.mails
    assert text_of(mail).count(f"Told:         {OPS}\n") == 2


def test_more_than_a_mail_can_hold_becomes_a_second_mail(fleet: Fleet, server: MailServer) -> None:
    for _ in range(DIGEST + 1):
        add_certificate(fleet, left=5 * DAY)
    scan(fleet.context, now=fleet.now)

    run_mails(fleet, server)
    sweep_and_send(fleet, server, after=MINUTE)

    assert len(server.mails) == 2
    assert states(fleet) == ["sent"] * (DIGEST + 1)


def test_in_the_quiet_window_only_what_is_urgent_is_mailed_and_the_rest_at_its_end_in_one_mail(
    fleet: Fleet, server: MailServer
) -> None:
    """The fleet's now is 12:00 in UTC: 20:00 in Shanghai."""
    change_account(fleet, time_zone="Asia/Shanghai", quiet_from=time(20), quiet_until=time(8))
    add_certificate(fleet, left=2 * DAY - MINUTE, common_name="urgent.example.com")
    for name in ("a.example.com", "b.example.com"):
        add_certificate(fleet, left=7 * DAY, common_name=name)
    scan(fleet.context, now=fleet.now)

    run_mails(fleet, server)
    sweep_and_send(fleet, server, after=12 * HOUR - MINUTE)
    assert [mail["Subject"] for mail in server.mails] == ["urgent.example.com expires in 1 day (17 Jan 2026)"]
    assert states(fleet) == ["pending", "pending", "sent"]

    sweep_and_send(fleet, server, after=12 * HOUR)
    assert [mail["Subject"] for mail in server.mails[1:]] == ["2 certificates expire, first in 6 days (22 Jan 2026)"]
    assert states(fleet) == ["sent"] * 3


def test_a_time_zone_that_this_machine_does_not_know_holds_nothing_back(fleet: Fleet, server: MailServer) -> None:
    change_account(fleet, time_zone="Mars/Olympus", quiet_from=time(8), quiet_until=time(20))
    add_certificate(fleet, left=7 * DAY)
    scan(fleet.context, now=fleet.now)

    run_mails(fleet, server)

    assert states(fleet) == ["sent"]


def test_a_window_that_is_lifted_holds_nothing_back_any_more(fleet: Fleet, server: MailServer) -> None:
    change_account(fleet, quiet_from=time(8), quiet_until=time(20))
    add_certificate(fleet, left=7 * DAY)
    scan(fleet.context, now=fleet.now)
    run_mails(fleet, server)
    with fleet.transaction() as session:
        account_settings.change_settings(fleet.context, session, fleet.caller, {"quiet_window": None}, now=fleet.now)

    sweep_and_send(fleet, server, after=MINUTE)

    assert states(fleet) == ["sent"]


def test_a_clock_that_went_back_asks_the_quiet_window_again_and_sends_nothing_within_it(
    fleet: Fleet, server: MailServer
) -> None:
    change_account(fleet, quiet_from=time(8), quiet_until=time(20))
    add_certificate(fleet, left=7 * DAY)
    scan(fleet.context, now=fleet.now)
    run_mails(fleet, server)
    sweep(fleet.context, now=fleet.now + HOUR)

    sweep_and_send(fleet, server, after=MINUTE)
    assert (states(fleet), server.mails) == (["pending"], [])
    sweep_and_send(fleet, server, after=8 * HOUR)
    assert states(fleet) == ["sent"]


def test_a_mail_that_is_tried_again_in_the_quiet_window_waits_for_its_end(fleet: Fleet, server: MailServer) -> None:
    change_account(fleet, quiet_from=time(12, 1), quiet_until=time(20))
    add_certificate(fleet, left=7 * DAY)
    scan(fleet.context, now=fleet.now)
    server.refuses[OPS] = "451 4.3.0 later"
    run_mails(fleet, server)
    server.refuses.clear()

    sweep_and_send(fleet, server, after=HOUR)
    assert states(fleet) == ["pending"]
    sweep_and_send(fleet, server, after=8 * HOUR)
    assert states(fleet) == ["sent"]


def test_the_mail_says_which_certificate_of_the_chain_ends_and_which_regions_still_have_the_old_one(
    fleet: Fleet, server: MailServer
) -> None:
    chain = [
        {
            "subject": subject,
            "fingerprint_sha256": "cd" * 32,
            "not_before": (fleet.now - 900 * DAY).isoformat(),
            "not_after": (fleet.now + left).isoformat(),
        }
        for subject, left in (("CN=www.example.com", 90 * DAY), ("CN=Issuing CA", 7 * DAY))
    ]
    old = add_certificate(fleet, left=90 * DAY, chain=chain)
    change_certificate(fleet, old, replaced_by_id=add_certificate(fleet, left=300 * DAY))
    add_deployment(fleet, old, "eu-central-1", state=DeploymentState.DEPLOYED, served="match")
    scan(fleet.context, now=fleet.now)

    run_mails(fleet, server)

    (mail,) = server.mails
    assert mail["Subject"] == "www.example.com: its chain expires in 7 days (22 Jan 2026)"
    for text in (text_of(mail), text_of(mail, "html")):
        assert "CN=Issuing CA of its chain expires in 7 days" in text
        assert "Replaced, but not everywhere" in text
        assert "still holds the old one" in text
