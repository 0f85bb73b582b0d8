"""Eighty days of reminders by two beats: killed with signal 9, out for days, with a mail server that is away for hours.

Whatever happens, each notice that was due is in the ledger once, and a kill costs at most one mail that is sent twice.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import psycopg
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import func, select

from shared.domain.reminders import EXPIRED
from shared.models import Reminder
from tests.support import pki
from tests.support.fleet import Fleet, build_fleet
from tests.support.killable import Workers
from tests.support.mail_worker import Orders, mail_workers
from tests.support.reminders import add_certificate, expiry_events, ledger
from tests.support.smtp import MailServer, mail_server
from tests.support.stack import wait_until

DAYS: Final = 80
"""Something happens every third day."""
CERTIFICATES: Final = 50
PEOPLE: Final = tuple(f"person-{number}@example.com" for number in range(8))
WHAT_HAPPENS: Final = (
    "nothing",
    "missed",
    "killed",
    "killed",
    "killed in mid-send",
    "killed in mid-send",
    "no mail server",
)
LONGEST_LIFE: Final = 0.25
"""Seconds that a worker lives before it is killed: from before its scan to after its last mail."""
OUTAGE: Final = (0, 4, 9)
"""Hours; at the last one the mail server is back."""
LEASE: Final = timedelta(minutes=2)
"""So much later whoever was killed owns nothing any more: the workers' clocks are put ahead, nobody waits."""
SEED: Final = 20261127

DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)
Due = tuple[str, int, str]
"""Certificate, threshold, recipient."""

pytestmark = pytest.mark.integration


@dataclass(kw_only=True)
class Witness(MailServer):
    """A mail server that can be told to have the next mail's notices held when it has taken it.

    The worker then has the 250 and waits for the rows into which it is about to write that it has sent the mail.
    """

    database_url: str
    is_holding: bool = False
    held: psycopg.Connection | None = None
    has_said_goodbye: threading.Event = field(default_factory=threading.Event)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        reply = await super().handle_DATA(server, session, envelope)
        if self.is_holding and self.held is None:
            self.held = psycopg.connect(self.database_url)
            rows = "SELECT id FROM reminders WHERE message_id = %s FOR UPDATE"
            self.held.execute(rows, [str(self.mails[-1]["Message-ID"])])
        return reply

    async def handle_QUIT(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        if self.held is not None:
            self.has_said_goodbye.set()
        return "221 Bye"

    @contextmanager
    def holding(self) -> Iterator[None]:
        self.is_holding = True
        self.has_said_goodbye.clear()
        try:
            yield
        finally:
            self.is_holding = False
            if self.held is not None:
                self.held.close()
            self.held = None


@dataclass(kw_only=True)
class Story:
    """Two workers, the mail server, and what ought to be in the ledger by now."""

    fleet: Fleet
    server: Witness
    beats: Sequence[Workers]
    chance: random.Random
    ends: dict[str, datetime]
    contacts: dict[str, list[str]]
    due: set[Due] = field(default_factory=set)
    crossings: set[tuple[str, int]] = field(default_factory=set)
    kills: Counter[str] = field(default_factory=Counter)

    def expect(self, at: datetime) -> None:
        """A scan at this time finds the nearest crossed threshold, unless that or a nearer one was found before."""
        for certificate_id, end in self.ends.items():
            days = (end - at) // DAY
            crossed = [threshold for threshold in (60, 30, 15, 7, 3, 1, 0) if days <= threshold]
            nearest = EXPIRED if days < 0 else min(crossed, default=None)
            known = [threshold for one, threshold in self.crossings if one == certificate_id]
            if nearest is not None and nearest < min(known, default=99):
                self.crossings.add((certificate_id, nearest))
                self.due |= {(certificate_id, nearest, person) for person in self.contacts[certificate_id]}

    def wait_for(self, *states: str) -> None:
        """Until the ledger holds what is due, in these states; what waits has been tried."""
        waiting = func.count().filter(
            Reminder.state.not_in(states) | (Reminder.state == "pending") & Reminder.error.is_(None)
        )
        statement = select(func.count(), waiting).where(Reminder.recipient != "")

        def is_so() -> bool:
            with self.fleet.transaction() as session:
                found, unsettled = session.execute(statement).one()
                return bool(found >= len(self.due) and not unsettled)

        wait_until(is_so, seconds=60, otherwise=lambda: Counter(row.state for row in ledger(self.fleet)))

    def run(self, ahead: timedelta, *states: str) -> None:
        """Both beats, until nothing more happens."""
        for beat in self.beats:
            beat.start(ahead=ahead)
        self.wait_for(*states)
        for beat in self.beats:
            beat.kill()


@pytest.fixture
def story(database_url: str, tmp_path: Path) -> Iterator[Story]:
    fleet = build_fleet(database_url, tmp_path)
    chance = random.Random(SEED)  # noqa: S311 - what happens when, reproducibly
    server = Witness(database_url=database_url)
    with mail_server(server):
        pass  # it has a port from now on
    orders = Orders(
        database_url=database_url,
        kek_file=str(tmp_path / "keks.json"),
        smtp_url=f"smtp://127.0.0.1:{server.port}",
        began=time.time(),
    )
    ends, contacts = {}, {}
    for number in range(CERTIFICATES):
        left = chance.randrange(-2, DAYS + 30) * DAY + chance.randrange(24) * HOUR + timedelta(minutes=40)
        people = chance.sample(PEOPLE, chance.randint(1, 3))
        certificate_id = add_certificate(fleet, left=left, contacts=people, common_name=f"s{number}.example.com")
        ends[certificate_id], contacts[certificate_id] = pki.NOW + left, people
    with ExitStack() as stack:
        beats = [stack.enter_context(mail_workers(orders)) for _ in range(2)]
        yield Story(fleet=fleet, server=server, beats=beats, chance=chance, ends=ends, contacts=contacts)
    fleet.context.database.close()


@pytest.mark.timeout(300)
def test_every_due_notice_is_in_the_ledger_once_and_a_kill_costs_at_most_one_duplicate(story: Story) -> None:
    days = Counter[str]()
    for day in range(0, DAYS, 3):
        ahead = day * DAY + story.chance.randrange(60) * HOUR
        what = story.chance.choice(WHAT_HAPPENS) if 0 < day < DAYS - 3 else "nothing"
        days[what] += 1
        if what == "no mail server":
            stay_without_mail_server(story, ahead)
        elif what != "missed":
            live_through(story, ahead, what)
    rows = ledger(story.fleet)
    assert sorted((row.certificate_id, row.threshold, row.recipient) for row in rows) == sorted(story.due)
    assert len(expiry_events(story.fleet)) == len(story.crossings)
    sent = Counter(str(mail["Message-ID"]) for mail in story.server.mails)
    duplicates = sent.total() - len(sent)
    assert set(sent) == {row.message_id for row in rows if row.state == "sent"}
    assert_only_the_overtaken_were_not_sent(story)
    assert story.kills["in mid-send"] <= duplicates <= story.kills.total()
    print(f"\n{DAYS} days ({', '.join(f'{what}: {count}' for what, count in sorted(days.items()))}), two beats")  # noqa: T201 - figures
    print(f"{len(story.due)} notices due, {len(rows)} in the ledger, {len(story.crossings)} events;")  # noqa: T201 - figures
    print(f"{story.kills.total()} kills, {story.kills['in mid-send']} of them between the server's 250 and the commit;")  # noqa: T201 - figures
    print(f"{sent.total()} mails, {duplicates} of them sent a second time, each with the Message-ID of the first")  # noqa: T201 - figures


def live_through(story: Story, ahead: timedelta, what: str) -> None:
    story.expect(pki.NOW + ahead)
    with mail_server(story.server):
        if what == "killed":
            kill_both_at_random(story, ahead)
        elif what == "killed in mid-send":
            kill_in_mid_send(story, ahead)
        story.run(ahead + LEASE, "sent", "suppressed")


def kill_both_at_random(story: Story, ahead: timedelta) -> None:
    for beat in story.beats:
        beat.start(ahead=ahead)
    time.sleep(story.chance.uniform(0, LONGEST_LIFE))  # the point at which they are killed
    for beat in story.beats:
        beat.kill()
        story.kills["at random"] += 1


def kill_in_mid_send(story: Story, ahead: timedelta) -> None:
    """One beat, killed when the mail server has taken a mail and our row does not say so yet; if there is a mail."""
    known = {(row.certificate_id, row.threshold, row.recipient) for row in ledger(story.fleet)}
    if not story.due - known:
        return
    with story.server.holding():
        story.beats[0].start(ahead=ahead)
        assert story.server.has_said_goodbye.wait(30)
        story.beats[0].kill()
        story.kills["in mid-send"] += 1


def stay_without_mail_server(story: Story, ahead: timedelta) -> None:
    *away, back = OUTAGE
    for hours in away:
        story.expect(pki.NOW + ahead + hours * HOUR)
        story.run(ahead + hours * HOUR, "pending", "sent", "suppressed")
    live_through(story, ahead + back * HOUR, "nothing")


def assert_only_the_overtaken_were_not_sent(story: Story) -> None:
    """Whoever was not sent a notice, because no mail could be sent, was sent a nearer one."""
    rows = ledger(story.fleet)
    sent = {(row.certificate_id, row.recipient, row.threshold) for row in rows if row.state == "sent"}
    for row in rows:
        assert row.state == "sent" or any(
            (row.certificate_id, row.recipient, nearer) in sent for nearer in range(EXPIRED, row.threshold)
        )
