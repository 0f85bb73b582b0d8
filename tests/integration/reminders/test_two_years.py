"""Promise 7 over two simulated years: whatever happens in whatever order, each notice that is due is written once.

The oracle below says the promise a second time, in its own words and from what people did, not from our rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.errors import Rejected
from shared.usecases import answers
from shared.usecases.account_settings import change_settings
from shared.usecases.editing import edit_certificate
from shared.usecases.reminder_scan import scan
from tests.support import pki
from tests.support.fleet import Fleet, new_caller
from tests.support.reminders import add_certificate, change_certificate, expiry_events, ledger

pytestmark = pytest.mark.integration

EXAMPLES: Final = 10
DEEDS: Final = 70
LONGEST_PAUSE: Final = 21 * 24 * 60
"""Minutes; 70 deeds with pauses of 10 days and a half on average are two years."""

DAY: Final = timedelta(days=1)
LIVES: Final = (6, 47, 90, 200, 398, 3650)
"""Days: 160 hours, the limits of the CA/Browser Forum's ballot SC-081 for 2029, 2027 and 2026, and an old CA."""

PEOPLE: Final = ("ann@example.com", "bob@example.com", "eve@example.com")
NOBODY: Final = ""


@dataclass(slots=True, kw_only=True)
class Known:
    """What people did about one certificate, and whom we ought to have told what."""

    end: datetime
    life: timedelta
    contacts: tuple[str, ...]
    is_muted: bool = False
    is_acknowledged: bool = False
    snoozed_until: datetime | None = None
    is_replaced: bool = False
    told: dict[str, int] = field(default_factory=dict)

    def is_held(self, now: datetime) -> bool:
        """Held back by an answer; never in the last three days."""
        is_answered = self.is_acknowledged or (self.snoozed_until is not None and self.snoozed_until > now)
        return is_answered and self.end - 3 * DAY > now

    def nearest(self, now: datetime) -> int | None:
        """The nearest threshold that is crossed: 60, 30, 15, 7, 3, 1 and 0 whole days, and -1 for "has ended".

        Nobody is told of a threshold that is crossed in the first half of the certificate's life.
        """
        if now > self.end:
            return -1
        whole_days = math.floor((self.end - now) / DAY)
        crossed = [days for days in (60, 30, 15, 7, 3, 1, 0) if whole_days <= days]
        if not crossed or self.life < 2 * (min(crossed) + 1) * DAY:
            return None
        return min(crossed)


@dataclass(slots=True, kw_only=True)
class Oracle:
    """The account as people know it. ``ledger``: certificate, threshold, recipient; ``crossings``: what is an event."""

    certificates: dict[str, Known] = field(default_factory=dict)
    contacts: tuple[str, ...] = ()
    unsubscribed: set[str] = field(default_factory=set)
    ledger: list[tuple[str, int, str]] = field(default_factory=list)
    crossings: list[tuple[str, int]] = field(default_factory=list)

    def scan(self, now: datetime) -> None:
        for certificate_id, known in self.certificates.items():
            nearest = known.nearest(now)
            if nearest is None or known.is_muted or known.is_replaced or known.is_held(now):
                continue
            is_news = all(nearest < threshold for threshold in known.told.values())
            if nearest == -1 and not is_news and known.end < now - 30 * DAY:
                continue  # who comes so late is not told of history
            for person in self._recipients(known):
                if nearest < known.told.get(person, 99):
                    known.told[person] = nearest
                    self.ledger.append((certificate_id, nearest, person))
            if is_news:
                self.crossings.append((certificate_id, nearest))

    def _recipients(self, known: Known) -> tuple[str, ...]:
        """Its own contacts, else the account's, else nobody; whoever has unsubscribed does not count."""
        for people in (known.contacts, self.contacts):
            willing = tuple(person for person in people if person not in self.unsubscribed)
            if willing:
                return willing
        return (NOBODY,)


@dataclass(slots=True, kw_only=True)
class World:
    """The real thing and the oracle, side by side."""

    fleet: Fleet
    oracle: Oracle

    def pick(self, number: int) -> str:
        return list(self.oracle.certificates)[number % len(self.oracle.certificates)]

    def add(self, number: int) -> str:
        """A certificate of some life, somewhere in it."""
        life = LIVES[number % len(LIVES)] * DAY
        left = life * ((number * 7919) % 997 + 1) / 997
        people = _people(number // len(LIVES))
        kind = "ca" if life > 1000 * DAY else "server"
        if kind == "ca":
            left = min(left, (number % 700 + 1) * DAY)  # so that some end within the two years
        certificate_id = add_certificate(self.fleet, left=left, life=life, contacts=list(people), type=kind)
        end = self.fleet.now + left
        self.oracle.certificates[certificate_id] = Known(end=end, life=life, contacts=people)
        return certificate_id

    def replace(self, number: int) -> None:
        """By a new one, served everywhere at once."""
        old, new = self.pick(number), self.add(number)
        change_certificate(self.fleet, old, replaced_by_id=new)
        self.oracle.certificates[old].is_replaced = True

    def mute(self, number: int) -> None:
        certificate_id, is_muted = self.pick(number), number % 2 == 0
        self._edit(certificate_id, reminders_muted=is_muted)
        self.oracle.certificates[certificate_id].is_muted = is_muted

    def acknowledge(self, number: int) -> None:
        certificate_id = self.pick(number)
        with self.fleet.transaction() as session:
            answers.acknowledge(session, self.fleet.caller, certificate_id, now=self.fleet.now)
        self.oracle.certificates[certificate_id].is_acknowledged = True

    def snooze(self, number: int) -> None:
        """For some days; refused where that is beyond the floor."""
        certificate_id, until = self.pick(number), self.fleet.now + (number % 40 + 1) * DAY
        known = self.oracle.certificates[certificate_id]
        try:
            with self.fleet.transaction() as session:
                answers.snooze(session, self.fleet.caller, certificate_id, until=until, now=self.fleet.now)
        except Rejected:
            assert until > known.end - 3 * DAY
        else:
            known.snoozed_until = until

    def resume(self, number: int) -> None:
        certificate_id = self.pick(number)
        with self.fleet.transaction() as session:
            answers.resume(session, self.fleet.caller, certificate_id, now=self.fleet.now)
        known = self.oracle.certificates[certificate_id]
        known.is_acknowledged, known.snoozed_until, known.is_muted = False, None, False

    def change_contacts(self, number: int) -> None:
        certificate_id, people = self.pick(number), _people(number // 5)
        self._edit(certificate_id, contacts=list(people))
        self.oracle.certificates[certificate_id].contacts = people

    def change_account(self, number: int) -> None:
        people = _people(number)
        with self.fleet.transaction() as session:
            change_settings(
                self.fleet.context, session, self.fleet.caller, {"contacts": list(people)}, now=self.fleet.now
            )
        self.oracle.contacts = people

    def unsubscribe(self, number: int) -> None:
        """Or subscribe again."""
        person = PEOPLE[number % len(PEOPLE)]
        with self.fleet.transaction() as session:
            if person in self.oracle.unsubscribed:
                answers.subscribe_again(session, self.fleet.caller, person, now=self.fleet.now)
                self.oracle.unsubscribed.remove(person)
            else:
                answers.unsubscribe(session, self.fleet.caller, person, now=self.fleet.now)
                self.oracle.unsubscribed.add(person)

    def scan(self, number: int) -> None:
        """Once, or twice at the same instant."""
        self.oracle.scan(self.fleet.now)
        for _ in range(number % 2 + 1):
            scan(self.fleet.context, now=self.fleet.now)
        self.compare()

    def compare(self) -> None:
        account_id = self.fleet.caller.account_id
        rows = [row for row in ledger(self.fleet, with_nobody=True) if row.account_id == account_id]
        assert sorted((row.certificate_id, row.threshold, row.recipient) for row in rows) == sorted(self.oracle.ledger)
        told = [fact for fact in expiry_events(self.fleet) if fact.account_id == account_id]
        assert sorted((fact.data["certificate_id"], fact.data["threshold"]) for fact in told) == sorted(
            self.oracle.crossings
        )

    def _edit(self, certificate_id: str, **changes: object) -> None:
        with self.fleet.transaction() as session:
            edit_certificate(session, self.fleet.caller, certificate_id, changes, now=self.fleet.now)


def _people(number: int) -> tuple[str, ...]:
    """Some of them, or nobody."""
    return tuple(person for bit, person in enumerate(PEOPLE) if number >> bit & 1)


COMMON: Final = ("scan", "scan", "scan", "scan", "add")
RARE: Final = (
    *("replace", "mute", "acknowledge", "snooze", "resume"),
    *("change_contacts", "change_account", "unsubscribe"),
)
deeds = st.tuples(
    st.sampled_from(COMMON) | st.sampled_from(RARE), st.integers(0, LONGEST_PAUSE), st.integers(0, 100_000)
)


def test_over_two_years_each_notice_that_is_due_is_written_once(fleet: Fleet) -> None:
    written = 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        phases=(Phase.generate,),  # to have a failure made smaller takes minutes: add Phase.shrink
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(deeds, min_size=DEEDS, max_size=DEEDS), st.lists(st.integers(0, 100_000), min_size=3, max_size=6))
    def live(history: list[tuple[str, int, int]], first: list[int]) -> None:
        nonlocal written
        written += len(two_years(fleet, history, first).oracle.ledger)

    live()
    print(f"\n{EXAMPLES} accounts over two years, {written} notices, each written once")  # noqa: T201 - a figure


def two_years(fleet: Fleet, history: list[tuple[str, int, int]], first: list[int]) -> World:
    """An account of its own lives through what happens; the ledger is compared with the oracle's at every scan."""
    fleet.now = pki.NOW
    fleet.caller = new_caller(fleet.context, f"account-{fleet.caller.account_id[-12:]}", now=fleet.now)
    world = World(fleet=fleet, oracle=Oracle())
    for number in first:
        world.add(number)
    for deed, pause, number in history:
        fleet.pass_time(timedelta(minutes=pause))
        getattr(world, deed)(number)
    world.scan(0)
    for certificate_id in world.oracle.certificates:
        change_certificate(fleet, certificate_id, state="deleted")
    return world
