"""What a reminder mail says: certificates by urgency, where each is deployed, and who was told."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final, TypeVar

from sqlalchemy import or_, select, tuple_
from sqlalchemy.orm import Session

from shared.domain.answers import LinkScope
from shared.domain.certificates import title_of
from shared.domain.reminder_decisions import NOBODY
from shared.domain.reminders import Urgency, calendar_day, days_left, time_left, urgency
from shared.domain.rollout import DeploymentState, ServedState
from shared.domain.succession import Lack, Remainder
from shared.models import Account, Certificate, Deployment, Listener, Reminder
from shared.usecases.answer_links import answer_url
from shared.usecases.context import Context
from shared.usecases.mail import plain
from shared.usecases.reminder_subjects import Watched

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much of one certificate is shown; of the rest its number."""

    names: int
    regions: int
    listeners: int
    people: int


ROOMY: Final = Room(names=12, regions=40, listeners=12, people=20)
FEW: Final = 5
"""Up to so many certificates are shown at length."""

TIGHT: Final = Room(names=3, regions=4, listeners=2, people=3)
"""For a digest of many: 50 certificates with names and addresses of usual length stay below 100 kB, where mail programs
cut (Gmail: 102 kB)."""

_DELIVERY: Final = {
    DeploymentState.PENDING: "waiting to be deployed",
    DeploymentState.DEPLOYING: "being deployed",
    DeploymentState.DEPLOYED: "deployed",
    DeploymentState.FAILED: "deployment failed",
    DeploymentState.REMOVING: "being removed",
}
_LACKS: Final = {
    Lack.NOT_READY: "the new certificate is not there yet",
    Lack.OLD_SERVED: "still serves the old one",
    Lack.OLD_PRESENT: "still holds the old one",
    Lack.NEW_NOT_DEPLOYED: "the new one is not deployed",
    Lack.NEW_NOT_SERVED: "the new one is not served",
}
_SERVED: Final = {
    ServedState.NOT_CHECKED: "",
    ServedState.MATCH: "served",
    ServedState.MISMATCH: "something else is served",
    ServedState.UNREACHABLE: "not reachable at the last check",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A region that has, or should have, the certificate; ``state`` in words. ``is_wrong``: somebody should look."""

    region: str
    name: str
    state: str
    is_wrong: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One certificate of a digest. All user text is one printable line each."""

    title: str
    name: str
    names: tuple[str, ...]
    names_more: int
    issuer: str
    not_after: datetime
    days: int
    places: tuple[Place, ...]
    places_more: int
    told: tuple[str, ...]
    told_more: int
    url: str
    answer_url: str
    """Where its reader acknowledges, snoozes or mutes it: a secret of that reader."""
    listeners: tuple[str, ...] = ()
    """What clients see it on: ``shop in cn-hangzhou: www.example.com``."""
    listeners_more: int = 0
    link: str = ""
    """The subject of the certificate of the chain that ends; empty: the certificate itself."""
    lacking: tuple[str, ...] = ()
    """It was replaced, but not everywhere: ``China (Hangzhou): still serves the old one``."""
    lacking_more: int = 0

    @property
    def urgency(self) -> Urgency:
        """How loud it is."""
        return urgency(self.days)

    @property
    def sentence(self) -> str:
        """``Expires in 7 days``, ``Expired 3 days ago``, ``CN=R3 of its chain expires in 7 days``."""
        verb = "Expired" if self.days < 0 else "Expires"
        what = f"{self.link} of its chain {verb.lower()}" if self.link else verb
        return f"{what} {time_left(self.days)}"

    @property
    def date(self) -> str:
        """``30 Nov 2026, 12:00 UTC``."""
        return f"{calendar_day(self.not_after)}, {self.not_after:%H:%M} UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """Everything that one mail tells one recipient."""

    account: str
    recipient: str
    notices: tuple[Notice, ...]
    unsubscribe_url: str

    @property
    def subject(self) -> str:
        """What expires when, in one line."""
        first = self.notices[0]
        if len(self.notices) > 1:
            return self._subject_of_many()
        what = f"{first.title}: its chain" if first.link else first.title
        if first.days < 0:
            return f"{what} has expired ({calendar_day(first.not_after)})"
        return f"{what} expires {time_left(first.days)} ({calendar_day(first.not_after)})"

    @property
    def groups(self) -> tuple[tuple[Urgency, tuple[Notice, ...]], ...]:
        """The notices by urgency, most urgent first, soonest first within."""
        return tuple((level, tuple(found)) for level, found in groupby(self.notices, lambda notice: notice.urgency))

    def _subject_of_many(self) -> str:
        total, first = len(self.notices), self.notices[0]
        expired = sum(notice.days < 0 for notice in self.notices)
        if expired == total:
            return f"{total} certificates have expired"
        if expired:
            have, following = "has" if expired == 1 else "have", self.notices[expired]
            return f"{expired} of {total} certificates {have} expired, the next expires {time_left(following.days)}"
        return f"{total} certificates expire, first {time_left(first.days)} ({calendar_day(first.not_after)})"


def compose(
    context: Context, session: Session, reminders: Sequence[Reminder], watched: Mapping[str, Watched], *, now: datetime
) -> Digest:
    """The digest of these reminders, all of one account and one recipient, one a certificate and deadline.

    ``watched``: their certificates, by id.
    """
    about = {reminder.certificate_id for reminder in reminders}
    rows = session.execute(select(Certificate).where(Certificate.id.in_(about))).scalars()
    certificates = {row.id: row for row in rows}
    surroundings = _Surroundings(
        places=_places(context, session, about),
        listeners=_listeners(session, about),
        told=_told(session, reminders),
        watched=watched,
    )
    room = ROOMY if len(reminders) <= FEW else TIGHT
    notices = (
        _notice(context, certificates[reminder.certificate_id], reminder, surroundings, room=room, now=now)
        for reminder in reminders
    )
    first = reminders[0]
    return Digest(
        account=plain(session.get_one(Account, first.account_id).name),
        recipient=first.recipient,
        notices=tuple(sorted(notices, key=lambda notice: (notice.not_after, notice.url))),
        unsubscribe_url=answer_url(context, first, LinkScope.UNSUBSCRIBE, now=now),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Surroundings:
    """What is around certificates, by their id; who was told also by the deadline."""

    places: dict[str, list[Place]]
    listeners: dict[str, list[str]]
    told: dict[tuple[str, datetime], list[str]]
    watched: Mapping[str, Watched]


def _notice(
    context: Context, certificate: Certificate, reminder: Reminder, around: _Surroundings, *, room: Room, now: datetime
) -> Notice:
    subject = around.watched[certificate.id].subject
    link = next((each.link for each in subject.deadlines if each.at == reminder.not_after), None)
    lacking, lacking_more = _cut([_lack_sentence(context, each) for each in subject.remainders or ()], room.regions)
    names, names_more = _cut([plain(name) for name in certificate.names], room.names)
    places, places_more = _cut(around.places.get(certificate.id, []), room.regions)
    listeners, listeners_more = _cut(around.listeners.get(certificate.id, []), room.listeners)
    told, told_more = _cut(around.told.get((certificate.id, reminder.not_after), []), room.people)
    return Notice(
        title=plain(title_of(certificate.common_name, certificate.names, certificate.name), limit=80),
        name=plain(certificate.name),
        names=names,
        names_more=names_more,
        issuer=plain(certificate.issuer or "", limit=200),
        not_after=reminder.not_after,
        days=days_left(reminder.not_after, now),
        link=plain(link.subject, limit=200) if link else "",
        lacking=lacking,
        lacking_more=lacking_more,
        places=places,
        places_more=places_more,
        listeners=listeners,
        listeners_more=listeners_more,
        told=told,
        told_more=told_more,
        url=f"{context.settings.public_url}/certificates/{certificate.id}",
        answer_url=answer_url(context, reminder, LinkScope.CERTIFICATE, now=now),
    )


def _cut(items: Sequence[T], limit: int) -> tuple[tuple[T, ...], int]:
    """The first ones, and how many more there are."""
    return tuple(items[:limit]), max(0, len(items) - limit)


def _lack_sentence(context: Context, remainder: Remainder) -> str:
    if remainder.region is None:
        return _LACKS[remainder.lack]
    region = context.settings.regions.get(remainder.region)
    return f"{plain(region.name) if region else remainder.region}: {_LACKS[remainder.lack]}"


def _listeners(session: Session, certificate_ids: Collection[str]) -> dict[str, list[str]]:
    """The listeners that show it, or that know clients by it."""
    statement = (
        select(Listener)
        .where(
            or_(Listener.server_certificate_id.in_(certificate_ids), Listener.ca_certificate_id.in_(certificate_ids)),
            Listener.deleted_at.is_(None),
        )
        .order_by(Listener.region, Listener.name)
    )
    found: dict[str, list[str]] = {}
    for listener in session.execute(statement).scalars():
        hosts = plain(", ".join(listener.hosts), limit=120)
        line = f"{plain(listener.name)} in {listener.region}: {hosts}"
        for certificate_id in {listener.server_certificate_id, listener.ca_certificate_id or ""} & set(certificate_ids):
            found.setdefault(certificate_id, []).append(line)
    return found


def _places(context: Context, session: Session, certificate_ids: Iterable[str]) -> dict[str, list[Place]]:
    statement = (
        select(Deployment)
        .where(Deployment.certificate_id.in_(certificate_ids), Deployment.state != DeploymentState.REMOVED)
        .order_by(Deployment.certificate_id, Deployment.region)
    )
    places: dict[str, list[Place]] = {}
    for deployment in session.execute(statement).scalars():
        places.setdefault(deployment.certificate_id, []).append(_place(context, deployment))
    for found in places.values():
        found.sort(key=lambda place: not place.is_wrong)  # what somebody should look at is never among "and 3 more"
    return places


def _place(context: Context, deployment: Deployment) -> Place:
    region = context.settings.regions.get(deployment.region)
    served = _SERVED[ServedState(deployment.served)]
    state = _DELIVERY[DeploymentState(deployment.state)]
    return Place(
        region=deployment.region,
        name=plain(region.name) if region else deployment.region,
        state=f"{state}, {served}" if served else state,
        is_wrong=deployment.state == DeploymentState.FAILED
        or deployment.served in {ServedState.MISMATCH, ServedState.UNREACHABLE},
    )


def _told(session: Session, reminders: Sequence[Reminder]) -> dict[tuple[str, datetime], list[str]]:
    """Everybody who is told of the same deadline at the same threshold, by certificate and deadline."""
    wanted = [(reminder.certificate_id, reminder.not_after, reminder.threshold) for reminder in reminders]
    statement = (
        select(Reminder.certificate_id, Reminder.not_after, Reminder.recipient)
        .where(tuple_(Reminder.certificate_id, Reminder.not_after, Reminder.threshold).in_(wanted))
        .where(Reminder.recipient != NOBODY)
        .order_by(Reminder.certificate_id, Reminder.recipient)
    )
    told: dict[tuple[str, datetime], list[str]] = {}
    for certificate_id, not_after, recipient in session.execute(statement):
        told.setdefault((certificate_id, not_after), []).append(recipient)
    return told
