"""Ownership of rows: claim with a lease and a fence, give back, find what is due and unowned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, and_, case, func, or_, select, text, update
from sqlalchemy.orm import Session

from shared.models.jobs import Deployment, Job
from shared.models.listeners import Listener
from shared.models.notices import Notice
from shared.models.reminders import Reminder
from shared.models.sources import Acquisition, SourceCatalogue
from shared.models.webhook_replays import WebhookReplay
from shared.models.webhooks import WebhookDelivery

LeasedRow = (
    Job | Deployment | Listener | WebhookDelivery | WebhookReplay | Notice | Reminder | Acquisition | SourceCatalogue
)
Row = TypeVar(
    "Row", Job, Deployment, Listener, WebhookDelivery, WebhookReplay, Notice, Reminder, Acquisition, SourceCatalogue
)

WAKE_AGAIN: Final = timedelta(seconds=30)
"""How long the sweep gives a wake-up before it sends another: a backlog must not multiply its own messages."""


def claim(session: Session, model: type[LeasedRow], row_id: str, *, now: datetime, lease: timedelta) -> int | None:
    """Own the row until ``now + lease`` if it is due and nobody owns it.

    Returns:
        The fencing number to write with, or ``None`` when there is nothing to do here.
    """
    table: Any = model
    statement = (
        update(table)
        .where(
            table.id == row_id,
            is_free(table, now),
        )
        .values(fence=table.fence + 1, lease_until=now + lease, next_wake_at=now + lease)
        .returning(table.fence)
        .execution_options(synchronize_session=False)
    )
    return session.execute(statement).scalar_one_or_none()


def claim_due(
    session: Session, limits: Mapping[str, int], *, now: datetime, lease: timedelta
) -> dict[str, list[Deployment]]:
    """Own, until ``now + lease``, the deployments that have been due longest in each region, oldest first.

    ``limits``: at most how many, by region; whoever asks holds the regions' balancers, and for now their rows
    (``shared/usecases/balancers.py``). None that became due after a listener of its region: what was asked for first is
    done first. Only first attempts go together: one that kills its worker takes others with it once, and never again.
    What has been due longest of all decides which of the two it is, so that neither waits for the other for ever.
    """
    if not limits:
        return {}
    values = {"regions": list(limits), "limits": list(limits.values()), "now": now, "until": now + lease}
    claimed: dict[str, list[Deployment]] = {region: [] for region in limits}
    for row in session.execute(_CLAIM_DUE, values).scalars():
        claimed[row.region].append(row)
    for rows in claimed.values():
        rows.sort(key=lambda row: (row.next_attempt_at, row.id))
    return claimed


_DUE_LONGEST: Final = """
    SELECT wanted.region, due.id, due.attempt FROM wanted CROSS JOIN LATERAL (
        SELECT deployments.id, deployments.attempt FROM deployments
        WHERE deployments.region = wanted.region AND {which}
          AND deployments.next_attempt_at <= wanted.first_listener
          AND (deployments.lease_until IS NULL OR deployments.lease_until <= :now)
        ORDER BY deployments.next_attempt_at, deployments.id
        LIMIT {most} FOR NO KEY UPDATE SKIP LOCKED
    ) AS due
"""

_CLAIM_DUE: Final = (
    select(Deployment)
    .from_statement(
        text(f"""
    WITH wanted AS (
        SELECT asked.region, asked.most, coalesce(min(listeners.next_attempt_at), :now) AS first_listener
        FROM unnest(CAST(:regions AS text[]), CAST(:limits AS bigint[])) AS asked (region, most)
        LEFT JOIN listeners ON listeners.region = asked.region AND listeners.next_attempt_at <= :now
            AND (listeners.lease_until IS NULL OR listeners.lease_until <= :now)
        GROUP BY asked.region, asked.most
    ), longest AS ({_DUE_LONGEST.format(which="true", most="1")}
    ), first_attempts AS ({_DUE_LONGEST.format(which="deployments.attempt = 0", most="wanted.most")}
        WHERE wanted.region IN (SELECT longest.region FROM longest WHERE longest.attempt = 0)
    )
    UPDATE deployments SET fence = fence + 1, lease_until = :until, next_wake_at = :until
    WHERE id IN (SELECT longest.id FROM longest UNION SELECT first_attempts.id FROM first_attempts)
    RETURNING deployments.*
""")  # noqa: S608 - our own text
    )
    .execution_options(populate_existing=True)
)


def is_free(model: Any, now: datetime) -> ColumnElement[bool]:
    """The row is due, and nobody owns it."""
    return and_(model.next_attempt_at <= now, or_(model.lease_until.is_(None), model.lease_until <= now))


def owned(session: Session, model: type[Row], row_id: str, *, fence: int) -> Row | None:
    """The row, locked for the transaction, if ``fence`` is still the newest; else ``None`` (a stale owner)."""
    statement = (
        select(model)
        .where(model.id == row_id, model.fence == fence)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return session.execute(statement).scalar_one_or_none()


def due(row: LeasedRow, at: datetime, *, wake_at: datetime | None = None) -> None:
    """Give the row back: due at ``at``; the sweep wakes it then, or at ``wake_at`` when a wake-up is being sent now."""
    row.next_attempt_at = at
    row.next_wake_at = wake_at or at
    row.lease_until = None


def finished(row: LeasedRow) -> None:
    """The row is final: never due again."""
    row.next_attempt_at = None
    row.next_wake_at = None
    row.lease_until = None


def take_unowned(session: Session, model: type[LeasedRow], *, now: datetime, limit: int) -> list[str]:
    """Ids of rows that are due and unowned, oldest first; each is not named again for ``WAKE_AGAIN``.

    Any number of sweeps may run at once: rows are skipped while another sweep holds them.
    """
    table: Any = model
    found = (
        select(table.id)
        .where(table.next_wake_at <= now)
        .order_by(table.next_wake_at)
        .limit(limit)
        .with_for_update(key_share=True, skip_locked=True)
        .cte("found")  # PostgreSQL runs it once: a sub-query that locks may be run again for each row of the join
    )
    statement = (
        update(table)
        .where(table.id.in_(select(found.c.id)))
        .values(next_wake_at=now + WAKE_AGAIN)
        .returning(table.id)
        .execution_options(synchronize_session=False)
    )
    return list(session.execute(statement).scalars())


@dataclass(frozen=True, slots=True, kw_only=True)
class Farthest:
    """How far ahead the times of one kind of row can lie: what lies farther was written by a clock that went back.

    ``lease``: of a claim. ``pause``: of a retry, at most. ``first``: of a row that nobody has tried yet.
    """

    lease: timedelta
    pause: timedelta
    first: timedelta


def pull_back(session: Session, model: type[LeasedRow], farthest: Farthest, *, now: datetime, is_certain: bool) -> int:
    """Make rows due now whose times lie farther ahead than they can; returns how many.

    An owner that may still live keeps its row for one more lease. Without ``is_certain`` (that the clock went back)
    only rows beyond every possible time are looked at, by index: normally none.
    """
    table: Any = model
    pause = case((table.attempt == 0, farthest.first), else_=farthest.pause)
    is_leased_too_long = table.lease_until > now + farthest.lease
    is_due_too_late = table.next_attempt_at > now + pause
    expected = func.greatest(now, table.next_attempt_at, table.lease_until)
    beyond = min(farthest.lease, farthest.first) if is_certain else max(farthest.lease, farthest.pause, farthest.first)
    statement = (
        update(table)
        .where(
            table.next_wake_at > now + beyond,
            or_(is_leased_too_long, is_due_too_late, table.next_wake_at > expected + WAKE_AGAIN),
        )
        .values(
            next_attempt_at=case((is_due_too_late, now), else_=table.next_attempt_at),
            lease_until=case((is_leased_too_long, now + farthest.lease), else_=table.lease_until),
            next_wake_at=case(
                (is_leased_too_long, now + farthest.lease),
                (table.lease_until > now, table.lease_until),
                (is_due_too_late, now),
                else_=func.greatest(now, table.next_attempt_at),
            ),
        )
        .returning(table.id)
        .execution_options(synchronize_session=False)
    )
    return len(session.execute(statement).all())
