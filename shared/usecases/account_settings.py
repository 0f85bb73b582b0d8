"""What an account says of itself: name, contacts, when its people are reminded, and how it renews."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from shared.domain.quiet_hours import QuietWindow
from shared.models import Account


def quiet_window(account: Account) -> QuietWindow | None:
    """When its people want no mail that is not urgent; ``None``: at no time."""
    if account.quiet_from is None or account.quiet_until is None:
        return None
    return QuietWindow(begins=account.quiet_from, ends=account.quiet_until, zone=ZoneInfo(account.time_zone))
