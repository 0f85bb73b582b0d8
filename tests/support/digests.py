"""Builders of reminder digests, for tests that look at mails without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from shared.usecases.mail import Mail, Template, message_id
from shared.usecases.reminder_digest import Digest, Notice, Place

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def notice(**overrides: Any) -> Notice:
    days = overrides.get("days", 7)
    values: dict[str, Any] = {
        "title": "api.example.com",
        "name": "Public API",
        "names": ("api.example.com", "api.example.net"),
        "names_more": 0,
        "issuer": "CN=Example Issuing CA 3,O=Example Trust Services,C=DE",
        "not_after": NOW + timedelta(days=days, hours=1),
        "days": days,
        "places": (Place(region="cn-hangzhou", name="China (Hangzhou)", state="deployed, served"),),
        "places_more": 0,
        "told": ("ops@example.com",),
        "told_more": 0,
        "url": "https://certfleet.example.net/certificates/crt_01",
        "answer_url": "https://certfleet.example.net/answer/one.signed",
    }
    return Notice(**values | overrides)


def digest(*notices: Notice, **overrides: Any) -> Digest:
    values: dict[str, Any] = {
        "account": "default",
        "recipient": "ops@example.com",
        "notices": notices or (notice(),),
        "unsubscribe_url": "https://certfleet.example.net/answer/two.signed",
    }
    return Digest(**values | overrides)


def reminder_mail(content: Digest | None = None, **overrides: Any) -> Mail:
    content = content or digest()
    values: dict[str, Any] = {
        "recipient": content.recipient,
        "subject": content.subject,
        "template": Template.REMINDER,
        "content": content,
        "message_id": message_id("reminder", ["rem_1"], sender="certfleet@example.net"),
        "at": NOW,
        "unsubscribe_url": content.unsubscribe_url,
    }
    return Mail(**values | overrides)
