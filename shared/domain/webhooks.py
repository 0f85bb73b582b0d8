"""What a receiver's answer means: delivered, try again and when, give up, or never call it again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

JITTER: Final = 0.2
"""A pause is stretched or shrunk by up to this share, so that what failed together does not return together."""

HEAD_BYTES: Final = 4_096
"""How much of a receiver's answer is kept for its owner to read."""

GONE: Final = 410
"""Standard Webhooks 1.0.0, "Deliverability": the receiver asks not to be called again."""

WARNED_FOR: Final = 0.2
"""The share of the days to being disabled after which the account is warned, and that it then has to act at least."""

ROTATION_OVERLAP: Final = timedelta(days=1)
"""How long an old secret keeps signing beside the new one, unless asked otherwise."""

REMOVED: Final = "[removed]"

_SECRETS: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\bwhs[ek]c?_[A-Za-z0-9+/=_-]{8,}|\bv1a?,[A-Za-z0-9+/=]{20,}"
    r"|\b(?:Bearer|Basic) (?=\S*[0-9=])[A-Za-z0-9+/=._~-]{8,}"
    r"|\bcertfleet_[A-Za-z0-9]{8,}",
    re.DOTALL | re.IGNORECASE,
)
"""Private keys, also when the end was cut off; webhook secrets and signatures; tokens (RFC 6750, 7617), ours too."""

_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_SUCCESS: Final = range(200, 300)


class SignatureScheme(StrEnum):
    """How an endpoint's deliveries are signed (Standard Webhooks 1.0.0, "Signature scheme")."""

    HMAC = "hmac-sha256"
    ED25519 = "ed25519"


class DeliveryState(StrEnum):
    """``pending → delivered | exhausted | cancelled``."""

    PENDING = "pending"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"
    CANCELLED = "cancelled"


class ReplayState(StrEnum):
    """``running → finished | cancelled``."""

    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class Failing(StrEnum):
    """What a failure means for the endpoint of a receiver that may have failed before."""

    BEGUN = "begun"
    KNOWN = "known"
    WARN = "warn"
    DISABLE = "disable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one try: a ``status``, or an ``error`` code when none arrived. ``head`` is the start of the body."""

    status: int | None = None
    error: str | None = None
    head: str = ""
    retry_after: str | None = None
    duration: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The delivery's next state; ``pause`` is set with ``pending`` only."""

    state: DeliveryState
    pause: timedelta | None = None
    disables_endpoint: bool = False


def judge(answer: Answer, *, attempt: int, schedule: Sequence[timedelta], chance: float, now: datetime) -> Verdict:
    """Decide after a try. Only 2xx is success; 3xx is a failure, redirects are never followed.

    Args:
        answer: what came of it.
        attempt: which try of the schedule this was, from 1.
        schedule: the pauses between tries; when they are used up, the delivery is exhausted.
        chance: a uniform random number in [0, 1), for the jitter.
        now: when the answer came, for a ``Retry-After`` that is a date.
    """
    if answer.status in _SUCCESS:
        return Verdict(state=DeliveryState.DELIVERED)
    if answer.status == GONE:
        return Verdict(state=DeliveryState.CANCELLED, disables_endpoint=True)
    if attempt > len(schedule):
        return Verdict(state=DeliveryState.EXHAUSTED)
    planned = schedule[attempt - 1] * (1 - JITTER + 2 * JITTER * chance)
    wished = min(retry_after(answer.retry_after, now=now), max(schedule))
    return Verdict(state=DeliveryState.PENDING, pause=max(planned, wished))


def after_failure(
    *, failing_since: datetime | None, warned_at: datetime | None, disable_after: timedelta, now: datetime
) -> Failing:
    """Decide after a try that failed, where none has succeeded since ``failing_since``.

    The account is warned when that has lasted for a share of ``disable_after``. The endpoint is disabled when it has
    lasted for all of it, and the warning for that share: two failures far apart, with nothing sent between them, warn.
    """
    if failing_since is None:
        return Failing.BEGUN
    if warned_at is None:
        return Failing.WARN if now - failing_since >= disable_after * WARNED_FOR else Failing.KNOWN
    end = disabled_at(failing_since=failing_since, warned_at=warned_at, disable_after=disable_after)
    return Failing.DISABLE if now >= end else Failing.KNOWN


def disabled_at(*, failing_since: datetime, warned_at: datetime, disable_after: timedelta) -> datetime:
    """From when on a failure disables the endpoint of which its account was warned."""
    return max(failing_since + disable_after, warned_at + disable_after * WARNED_FOR)


def retry_after(value: str | None, *, now: datetime) -> timedelta:
    """The pause that a ``Retry-After`` header asks for (RFC 9110 §10.2.3: seconds or a date); zero when it says none.

    Callers clamp it: it may only lengthen a pause, up to the longest of the schedule, never stop the retries.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return timedelta(seconds=int(text))
    try:
        moment = parsedate_to_datetime(text)
        return max(moment - now, timedelta(0))
    except (ValueError, TypeError, OverflowError):
        return timedelta(0)


def clean_head(raw: bytes) -> str:
    """The first 4 kB as text that is safe to store and show.

    No control characters but line feeds and tabs, and nothing that looks like a key, a token or a signature: receivers
    that fail like to print what they were sent, and what they are.
    """
    text = raw[:HEAD_BYTES].decode("utf-8", "replace")
    clean = "".join(character for character in text if character in "\n\t" or character.isprintable())
    return _SECRETS.sub(REMOVED, clean)
