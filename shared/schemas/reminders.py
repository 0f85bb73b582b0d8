"""Shapes of requests and answers about reminders: thresholds, the ledger, the preview, what is answered to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from marshmallow import fields
from marshmallow.validate import Length, OneOf, Range

from shared.domain.reminders import FARTHEST, MOST_THRESHOLDS, ReminderState
from shared.schemas.base import Answer, Body, Instant, PageQuery, email, instant, optional_text, text, unique
from shared.schemas.event_data import ChainLinkData, LackData
from shared.schemas.faults import refuse

EARLIEST: Final = 1970
LATEST: Final = 9000
"""Years of a preview: far from the ends of what clocks and databases can say."""


class SnoozeIn(Body):
    """Until when to hold reminders back."""

    until = Instant(
        required=True,
        metadata={
            "description": "A time or a date, at the latest three days before the certificate's end.",
            "example": "2030-01-31T00:00:00Z",
        },
    )


class RecipientIn(Body):
    """Whom it is about."""

    recipient = fields.String(
        required=True, validate=email, metadata={"description": "One address.", "example": "ops@example.com"}
    )


class UnsubscribedOut(Answer):
    """A recipient who wants no reminders of this account."""

    recipient = text("Their address.")
    at = instant("Since when.")


class UnsubscribedList(Answer):
    """Everybody who wants no reminders of this account."""

    items = fields.List(fields.Nested(UnsubscribedOut))


def reminder_thresholds(unset: str, **options: Any) -> fields.List[int]:
    """Days before the end at which people are told; ``unset``: what null means."""
    return fields.List(
        fields.Integer(strict=True, validate=Range(0, FARTHEST)),
        allow_none=True,
        validate=(Length(0, MOST_THRESHOLDS), unique),
        metadata={
            "description": "Days before the end at which people are told, each once; 0 is the last 24 hours. "
            f"Empty: only once it has expired, which is always told; {unset}",
            "example": [30, 7, 1],
        },
        **options,
    )


class ReminderQuery(PageQuery):
    """Filters of the list of reminders."""

    certificate = fields.String(
        load_default=None, validate=Length(1, 64), metadata={"description": "Only those about this certificate."}
    )
    state = fields.String(
        load_default=None,
        validate=OneOf([state.value for state in ReminderState]),
        metadata={"description": "Only those in this state."},
    )


class ReminderOut(Answer):
    """One notice to one recipient."""

    id = text("Reminder id.")
    certificate_id = text("What it is about.")
    name = text("What that is called.")
    not_after = instant("When that, or a certificate of its chain, ends.")
    threshold = fields.Integer(metadata={"description": "Days before the end; -1: expired."})
    recipient = optional_text("Who is told; null: there was nobody to tell, and only the event says it.")
    state = text(
        "pending, sent, failed, suppressed (no longer wanted when its turn came) or recorded (nobody to tell)."
    )
    attempt = fields.Integer(metadata={"description": "How often it was tried to send it."})
    error = optional_text("Why it could not be sent, the last time.")
    created_at = instant("When it was found to be due.")
    sent_at = instant("When the mail server took it.")
    next_attempt_at = instant("Pending: not before then; after a failure, or at the end of the quiet window.")


class ReminderPage(Answer):
    """One page of reminders."""

    items = fields.List(fields.Nested(ReminderOut))
    next_cursor = optional_text("Where the next page begins; null on the last.")


def _moment(value: datetime) -> None:
    if not EARLIEST <= value.year <= LATEST:
        raise refuse(
            "out_of_range",
            f"It is not between the years {EARLIEST} and {LATEST}.",
            hint="Give a date in that time.",
        )


class PreviewQuery(PageQuery):
    """Which moment, and where in the answer to read."""

    date = Instant(
        load_default=None,
        validate=_moment,
        metadata={"description": "A time or a date (its first moment, UTC), past or future; now if left out."},
    )


class PreviewCertificateOut(Answer):
    """A certificate, or one of its chain or bundle, that nears its end."""

    certificate_id = text("The certificate.")
    name = text("What it is called.")
    common_name = optional_text("Subject common name.")
    type = text("server or ca.")
    not_after = instant("When it ends, or what of its chain or bundle ends.")
    days_left = fields.Integer(
        metadata={"description": "Whole days from the moment to `not_after`; negative after it."}
    )
    threshold = fields.Integer(metadata={"description": "The nearest crossed threshold; -1: expired."})
    recipients = fields.List(fields.String(), metadata={"description": "Whom its reminders go to."})
    unsubscribed = fields.List(
        fields.String(), metadata={"description": "Contacts who are left out, because they have unsubscribed."}
    )
    chain_certificate = fields.Nested(
        ChainLinkData, metadata={"description": "What ends, when it is not the certificate itself."}
    )
    replaced_by = text("What took its place, when that is not served everywhere yet.")
    lacking = fields.List(fields.Nested(LackData), metadata={"description": "With `replaced_by`: where, and why."})


class PreviewDueOut(PreviewCertificateOut):
    """A certificate in a mail."""

    is_news = fields.Boolean(
        metadata={"description": "True: nobody was told of this threshold; an event says it, too."}
    )


class PreviewGroupOut(Answer):
    """Certificates of a mail that are as urgent as each other."""

    urgency = text("expired, critical, soon or plan.")
    certificates = fields.List(fields.Nested(PreviewDueOut))


class PreviewMailOut(Answer):
    """One mail."""

    recipient = text("To whom.")
    sent_at = instant("When: at the moment asked for, or at the end of the account's quiet window.")
    waits_for_quiet_window = fields.Boolean(metadata={"description": "True: it is quiet at the moment asked for."})
    groups = fields.List(fields.Nested(PreviewGroupOut), metadata={"description": "Most urgent first."})


class PreviewToldOut(Answer):
    """A notice that is in the ledger."""

    recipient = text("Who is told.")
    threshold = fields.Integer(metadata={"description": "Of which threshold."})
    state = text("pending, sent, failed or suppressed.")
    sent_at = instant("When the mail server took it.")


class PreviewSilentOut(PreviewCertificateOut):
    """A certificate of which nobody is told, though it is near its end."""

    urgency = text("expired, critical, soon or plan.")
    reason = text(
        "already_told, muted, acknowledged, snoozed, replaced (and served everywhere), short_lived (the threshold lies "
        "in the first half of its life), no_recipient or unsubscribed (everybody has)."
    )
    until = instant("When that changes by itself: the end of a hold, or the next threshold; null: not known, or never.")
    told = fields.List(fields.Nested(PreviewToldOut), metadata={"description": "The nearest notice of each recipient."})


class PreviewOut(Answer):
    """What a scan at that moment would do, with today's certificates, settings and answers."""

    date = instant("The moment.")
    mails = fields.List(fields.Nested(PreviewMailOut), metadata={"description": "About the certificates of this page."})
    silent = fields.List(fields.Nested(PreviewSilentOut))
    next_cursor = optional_text("Where the next page begins; null on the last.")
