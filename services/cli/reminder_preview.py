"""How ``certfleet reminders preview`` says what would be sent, and what would not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from shared.domain.reminders import EXPIRED, calendar_day, time_left
from shared.usecases.reminder_preview import Preview

Document = dict[str, Any]

_REASONS: Final = {
    "already_told": "everybody was told of this threshold, or a nearer one",
    "muted": "muted",
    "acknowledged": "acknowledged",
    "snoozed": "snoozed",
    "replaced": "replaced, and served everywhere",
    "short_lived": "the threshold lies in the first half of its life",
    "no_recipient": "nobody to tell: neither it nor the account has contacts",
    "unsubscribed": "everybody has unsubscribed",
}


def preview_lines(account: str, preview: Preview) -> Iterator[str]:
    """Line by line, for one account."""
    yield f"Account {account}, at {preview.at:%Y-%m-%d %H:%M} UTC"
    if not preview.mails:
        yield "  No mail."
    for mail in preview.mails:
        when = (
            f"{mail['sent_at']:%Y-%m-%d %H:%M} UTC, after the quiet window" if mail["waits_for_quiet_window"] else "now"
        )
        yield f"  Mail to {mail['recipient']} ({when}):"
        for group in mail["groups"]:
            for certificate in group["certificates"]:
                yield f"    {group['urgency']:<9}{_certificate(certificate)}; threshold {_threshold(certificate)}"
                yield from _lacking(certificate)
    if preview.silent:
        yield "  Near, and nobody is told:"
    for silent in preview.silent:
        until = f" until {silent['until']:%Y-%m-%d %H:%M} UTC" if silent["until"] else ""
        yield f"    {silent['urgency']:<9}{_certificate(silent)}: {_REASONS[silent['reason']]}{until}"
        for told in silent["told"]:
            sent = f"at {told['sent_at']:%Y-%m-%d %H:%M} UTC" if told["sent_at"] else "not mailed"
            yield f"             {told['recipient']}: {told['state']}, {sent}"
    if preview.next_cursor is not None:
        yield "  More certificates are near than are shown; GET /v1/reminders/preview pages through all of them."


def _certificate(certificate: Document) -> str:
    title = certificate["common_name"] or certificate["name"]
    link = certificate.get("chain_certificate")
    what = f"{title} ({link['subject']} of its chain)" if link else title
    verb = "expired" if certificate["days_left"] < 0 else "expires"
    return f"{what} {verb} {time_left(certificate['days_left'])} ({calendar_day(certificate['not_after'])})"


def _threshold(certificate: Document) -> str:
    return "expired" if certificate["threshold"] == EXPIRED else f"{certificate['threshold']} days"


def _lacking(certificate: Document) -> Iterator[str]:
    for each in certificate.get("lacking", ()):
        yield f"             replaced, but {each.get('region', 'everywhere')}: {each['lack'].replace('_', ' ')}"
