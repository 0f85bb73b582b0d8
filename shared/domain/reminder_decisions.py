"""Who is to be told of a certificate's end now, or why nobody is. The scan, the mailer and the preview ask here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from shared.domain.answers import Hold
from shared.domain.deadlines import Deadline
from shared.domain.reminders import EXPIRED, Band, counts, crossed, next_crossing
from shared.domain.succession import Remainder

NOBODY: Final = ""
"""The recipient of the ledger row that remembers a crossing of which there was nobody to tell."""

LOOK_BACK: Final = timedelta(days=30)
"""Whoever becomes a contact so long after an expiry of which others were told is not told of it any more."""

LOOK_AGAIN: Final = timedelta(days=1)
"""A certificate that was replaced and served everywhere is looked at again: a region may have fallen back to it."""


class Silence(StrEnum):
    """Why nobody is told of a deadline now."""

    NOT_YET = "not_yet"
    """No threshold is crossed."""
    SHORT_LIVED = "short_lived"
    """The crossed threshold lies in the first half of its life (``shared.domain.reminders.YOUNG``)."""
    MUTED = "muted"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    REPLACED = "replaced"
    """And served everywhere."""
    ALREADY_TOLD = "already_told"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What decides about a valid certificate's notices.

    Attributes:
        deadlines: soonest first.
        thresholds: days before, farthest first; "expired" is always watched beside them.
        hold: what people have answered.
        is_muted: nobody is reminded of it.
        remainders: what lacks for its successor to be served in its place; ``None``: it was not replaced.
        recipients: who is to be told, each once; ``NOBODY`` alone where there is nobody.
        told: the nearest threshold of which each was told (or it was recorded that nobody was), by deadline.
    """

    deadlines: tuple[Deadline, ...]
    thresholds: tuple[int, ...]
    hold: Hold
    is_muted: bool
    remainders: tuple[Remainder, ...] | None
    recipients: tuple[str, ...]
    told: Mapping[datetime, Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """About one deadline at one moment: either ``threshold`` and ``recipients``, or ``silence``.

    Attributes:
        threshold: the nearest crossed one; ``None``: none is.
        recipients: who is to be told of it now.
        is_news: nobody has been told of this crossing before, so that it is an event, too.
        silence: why nobody is told.
        until: when that may change by itself; ``None``: not known, or never.
    """

    deadline: Deadline
    threshold: int | None = None
    recipients: tuple[str, ...] = ()
    is_news: bool = False
    silence: Silence | None = None
    until: datetime | None = None


def decide(subject: Subject, now: datetime) -> tuple[Decision, ...]:
    """What is to be done about each deadline, soonest first."""
    return tuple(_decide(subject, deadline, now) for deadline in subject.deadlines)


def held_back(subject: Subject, at: datetime, now: datetime) -> tuple[Silence, datetime | None] | None:
    """Why nobody may be told of the deadline ``at``, however near it is, and until when; ``None``: nothing is."""
    if subject.is_muted:
        return Silence.MUTED, None
    if subject.remainders == ():
        return Silence.REPLACED, None
    end = subject.hold.until(at)
    if end is None or end <= now:
        return None
    is_acknowledged = subject.hold.acknowledged_at is not None
    return (Silence.ACKNOWLEDGED if is_acknowledged else Silence.SNOOZED), end


def next_look(subject: Subject, now: datetime) -> datetime | None:
    """Nothing can become due before this instant unless somebody changes something; ``None``: never again.

    From it on, later than ``now``, the certificate is to be looked at. A mute is lifted by somebody: meanwhile time
    goes on as ever.
    """
    return min((at for deadline in subject.deadlines if (at := _next_look(subject, deadline, now))), default=None)


def _decide(subject: Subject, deadline: Deadline, now: datetime) -> Decision:
    band = crossed(deadline.validity, now, thresholds=subject.thresholds)
    if band is None or not counts(band, deadline.validity):
        return Decision(
            deadline=deadline,
            threshold=None if band is None else band.threshold,
            silence=Silence.NOT_YET if band is None else Silence.SHORT_LIVED,
            until=next_crossing(deadline.validity, now, thresholds=subject.thresholds),
        )
    held = held_back(subject, deadline.at, now)
    if held is not None:
        return Decision(deadline=deadline, threshold=band.threshold, silence=held[0], until=held[1])
    return _tell(subject, deadline, band, now)


def _tell(subject: Subject, deadline: Deadline, band: Band, now: datetime) -> Decision:
    told = subject.told.get(deadline.at, {})
    untold = _untold(subject.recipients, told, band)
    is_news = _is_news(told, band)
    is_history = band.threshold == EXPIRED and not is_news and deadline.at < now - LOOK_BACK
    if is_history or not untold:
        until = next_crossing(deadline.validity, now, thresholds=subject.thresholds)
        return Decision(deadline=deadline, threshold=band.threshold, silence=Silence.ALREADY_TOLD, until=until)
    return Decision(deadline=deadline, threshold=band.threshold, recipients=untold, is_news=is_news)


def _untold(recipients: Sequence[str], told: Mapping[str, int], band: Band) -> tuple[str, ...]:
    return tuple(each for each in recipients if each not in told or told[each] > band.threshold)


def _is_news(told: Mapping[str, int], band: Band) -> bool:
    return all(threshold > band.threshold for threshold in told.values())


def _next_look(subject: Subject, deadline: Deadline, now: datetime) -> datetime | None:
    ahead = next_crossing(deadline.validity, now, thresholds=subject.thresholds)
    band = crossed(deadline.validity, now, thresholds=subject.thresholds)
    end = subject.hold.until(deadline.at)
    if end is not None and end > now:
        return end
    is_watched = band is not None and subject.remainders == () and deadline.at > now - LOOK_BACK
    return min(ahead or now + LOOK_AGAIN, now + LOOK_AGAIN) if is_watched else ahead


def recipients_of(own: Sequence[str], general: Sequence[str], unsubscribed: Collection[str]) -> tuple[str, ...]:
    """The certificate's contacts, else the account's, else ``NOBODY``; without those who have unsubscribed."""
    for contacts in (own, general):
        left = tuple(each for each in dict.fromkeys(contacts) if each not in unsubscribed)
        if left:
            return left
    return (NOBODY,)
