"""Notices to an account's contacts: their kinds and states."""

from __future__ import annotations

from enum import StrEnum


class NoticeKind(StrEnum):
    """What a notice is about."""

    WEBHOOK_FAILING = "webhook_failing"
    WEBHOOK_DISABLED = "webhook_disabled"


class NoticeState(StrEnum):
    """``pending → sent | failed | suppressed``; ``recorded``: there was nobody to tell."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    RECORDED = "recorded"
