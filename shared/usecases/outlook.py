"""What an account should know at a glance: what ends when, and what somebody should look at. All counted in SQL."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Interval, and_, case, func, literal, or_, select
from sqlalchemy.orm import Session

from shared.domain.certificates import CertificateState
from shared.domain.circuits import CircuitState
from shared.domain.listeners import ListenerState
from shared.domain.rollout import ServedState
from shared.models import Certificate, Listener, WebhookEndpoint
from shared.usecases.region_contents import Contents
from shared.usecases.tokens import Caller
from shared.usecases.webhooks import DISABLED_BY_OWNER

WEEK: Final = timedelta(weeks=1)
WEEKS: Final = 53
"""A year and the rest of its last week."""

EXPIRED: Final = -1
"""The week of everything that has expired."""

_NEARLY_FULL: Final = 0.8
"""Of a quota: from here on the next batch may not fit."""


class Urgency(StrEnum):
    """How soon a certificate ends, as the console's badges say it."""

    EXPIRED = "expired"
    WEEK = "week"
    MONTH = "month"
    LATER = "later"


UP_TO: Final = {Urgency.WEEK: timedelta(days=7), Urgency.MONTH: timedelta(days=30)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """So many certificates end in the week that begins ``week`` weeks from now (``EXPIRED``; ``WEEKS``: or later)."""

    week: int
    urgency: Urgency
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Counts of what somebody should look at; each is 0 while all is well."""

    failed: int
    drifting: int
    mismatching: int
    unreachable: int
    sick_regions: int
    full_quotas: int
    failing_webhooks: int


def endings(session: Session, caller: Caller, *, now: datetime) -> list[Ending]:
    """The account's valid certificates that were not replaced, by week and urgency, in order of time."""
    left = Certificate.not_after - literal(now)
    week = func.floor(func.date_part("epoch", left) / WEEK.total_seconds())  # not extract(): that is numeric, and slow
    bounded = func.least(func.greatest(week, EXPIRED), WEEKS).label("week")
    urgency = _urgency(left).label("urgency")
    statement = (
        select(bounded, urgency, func.count())
        .where(
            Certificate.account_id == caller.account_id,
            Certificate.state == CertificateState.VALID,
            Certificate.replaced_by_id.is_(None),
            Certificate.not_after.is_not(None),
        )
        .group_by("week", "urgency")
    )
    found = [
        Ending(week=int(at), urgency=Urgency(how), count=count) for at, how, count in session.execute(statement).all()
    ]
    order = list(Urgency)
    return sorted(found, key=lambda one: (one.week, order.index(one.urgency)))


def by_urgency(found: Iterable[Ending]) -> dict[Urgency, int]:
    """Added up; every urgency is there."""
    sums = dict.fromkeys(Urgency, 0)
    for one in found:
        sums[one.urgency] += one.count
    return sums


def attention(
    session: Session, caller: Caller, *, contents: Iterable[Contents], regions: Iterable[dict[str, Any]]
) -> Attention:
    """What is wrong: from what is counted already (``region_contents``, ``list_regions``), and two statements."""
    inside, declared = list(contents), list(regions)
    served = _served(session, caller)
    return Attention(
        failed=sum(one.failed for one in inside),
        drifting=sum(one.drifting for one in inside),
        mismatching=served.get(ServedState.MISMATCH, 0),
        unreachable=served.get(ServedState.UNREACHABLE, 0),
        sick_regions=sum(_is_sick(one["health"]) for one in declared),
        full_quotas=sum(_is_tight(usage) for one in declared for usage in one["quota"].values()),
        failing_webhooks=_failing_webhooks(session, caller),
    )


def _urgency(left: ColumnElement[Any]) -> ColumnElement[Any]:
    bounds = [(left <= literal(most, Interval()), urgency.value) for urgency, most in UP_TO.items()]
    expired = (left < literal(timedelta(0), Interval()), Urgency.EXPIRED.value)
    return case(expired, *bounds, else_=Urgency.LATER.value)


def _served(session: Session, caller: Caller) -> dict[str, int]:
    statement = (
        select(Listener.served, func.count())
        .where(
            Listener.account_id == caller.account_id,
            Listener.deleted_at.is_(None),
            Listener.state != ListenerState.FAILED,
        )
        .group_by(Listener.served)
    )
    return {row[0]: row[1] for row in session.execute(statement)}


def _is_sick(health: dict[str, Any]) -> bool:
    is_left_alone: bool = health["circuit"]["state"] != CircuitState.CLOSED
    return is_left_alone or health["state"] == "failing"


def _is_tight(usage: dict[str, int]) -> bool:
    return 0 < usage["used"] >= usage["limit"] * _NEARLY_FULL


def _failing_webhooks(session: Session, caller: Caller) -> int:
    """Those that fail now, and those that were disabled for it."""
    given_up = and_(WebhookEndpoint.enabled.is_(False), WebhookEndpoint.disabled_reason != DISABLED_BY_OWNER)
    statement = select(func.count()).where(
        WebhookEndpoint.account_id == caller.account_id,
        WebhookEndpoint.deleted_at.is_(None),
        WebhookEndpoint.job_id.is_(None),
        or_(and_(WebhookEndpoint.enabled, WebhookEndpoint.failing_since.is_not(None)), given_up),
    )
    return session.execute(statement).scalar_one()
