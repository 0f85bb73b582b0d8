"""Lanes in the database: what is on its way to a receiver, what is next, and what the receiver has shown.

Whoever claims a delivery holds its lane's row, so that of any number of workers nobody counts what another one is about
to send. A claim counts leases: those of a worker that died end by themselves.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Row, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.config.settings import Settings
from shared.domain.lanes import FIRST_REST, Lane, Limits, Pace, callback_lane
from shared.domain.network_policy import parse_url
from shared.models import WebhookLane


class Standing(StrEnum):
    """What whoever comes to a lane finds there."""

    IDLE = "idle"
    """Nothing is due."""
    FULL = "full"
    """As much is on its way as may be; whoever brought it there goes on with the rest."""
    RESTING = "resting"
    OPEN = "open"
    TRIAL = "trial"
    """Open, but only to the threads that are kept for such receivers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A lane as it is found, and what to do there. ``account_id``: whose delivery is due; none without one."""

    lane: Lane
    standing: Standing
    account_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery that is ours for now. ``has_more``: another one of the lane is due as well, and room for it."""

    delivery_id: str
    fence: int
    has_more: bool


def limits_of(settings: Settings) -> Limits:
    """What the operator has set."""
    first = settings.webhook_retry_schedule[0] if settings.webhook_retry_schedule else FIRST_REST
    return Limits(
        most_at_once=settings.webhook_at_once,
        timeout=settings.webhook_timeout,
        first_rest=min(first, FIRST_REST, settings.webhook_rest),
        longest_rest=settings.webhook_rest,
    )


def lane_of_callback(account_id: str, url: str) -> str:
    """The lane of a ``callback_url`` that has been checked."""
    target = parse_url(url)
    return callback_lane(account_id, target.host, target.port)


def look(session: Session, lane_id: str, *, limits: Limits, now: datetime) -> Sight:
    """Whether to work in the lane.

    Nothing is locked: whoever finds it full need not wait, because those who work there look again when they have left.
    """
    row = session.execute(_LOOK, {"lane": lane_id, "now": now}).one()
    lane = Lane() if row.pace is None else value_of(row)
    standing = _standing(lane, row.busy, has_due=row.account_id is not None, limits=limits, now=now)
    return Sight(lane=lane, standing=standing, account_id=row.account_id)


def shown(session: Session, lane_ids: Collection[str]) -> dict[str, Lane]:
    """What the receivers behind these lanes have shown; those that were never tried are left out."""
    rows = session.execute(select(WebhookLane).where(WebhookLane.id.in_(lane_ids))).scalars()
    return {row.id: value_of(row) for row in rows}


def hold(session: Session, lane_id: str) -> WebhookLane:
    """The lane's row, locked until the commit."""
    locked = select(WebhookLane).where(WebhookLane.id == lane_id).with_for_update(key_share=True)
    found = session.execute(locked.execution_options(populate_existing=True)).scalar_one_or_none()
    if found is not None:
        return found
    session.execute(insert(WebhookLane).values(id=lane_id, pace=Pace.NEW, failures=0).on_conflict_do_nothing())
    return session.execute(locked).scalar_one()


def value_of(row: WebhookLane | Row[Any]) -> Lane:
    """What the row says."""
    return Lane(pace=Pace(row.pace), failures=row.failures, rests_until=row.rests_until)


def keep(row: WebhookLane, lane: Lane) -> None:
    """Write it down."""
    row.pace, row.failures, row.rests_until = lane.pace, lane.failures, lane.rests_until


def forget(session: Session, lane_id: str) -> None:
    """The receiver behind the lane is another one now, or was mended: what was shown counts no more."""
    statement = update(WebhookLane).where(WebhookLane.id == lane_id)
    session.execute(statement.values(pace=Pace.NEW, failures=0, rests_until=None))


def end_rest(session: Session, lane_id: str) -> None:
    """Somebody asks for a try now."""
    session.execute(update(WebhookLane).where(WebhookLane.id == lane_id).values(rests_until=None))


def claim_next(
    session: Session, lane_id: str, lane: Lane, *, limits: Limits, now: datetime, lease: timedelta
) -> Claimed | None:
    """Own the lane's next delivery until ``now + lease``, if one is due and not too many are on their way.

    The caller holds the lane's row. Next is the retry that is due longest, then what was never tried, by sequence, and
    then what is replayed, by sequence. After a failure what was never tried comes before a retry: an event that its
    receiver cannot take must not keep others waiting.
    """
    values = {
        "lane": lane_id,
        "now": now,
        "until": now + lease,
        "width": lane.width(limits),
        "retry": 2 if lane.failures % 2 else 0,
    }
    row = session.execute(_CLAIM, values).one_or_none()
    return None if row is None else Claimed(delivery_id=row.id, fence=row.fence, has_more=row.has_more)


def wake_after_rest(session: Session, lane_id: str, *, rests_until: datetime) -> None:
    """Let the sweep wake the lane when the rest is over, if something is due then."""
    session.execute(_WAKE_AFTER_REST, {"lane": lane_id, "until": rests_until})


def end_pauses(session: Session, lane_id: str, *, now: datetime) -> None:
    """The receiver is back: what was tried in vain is due now, in the order of the events."""
    session.execute(_END_PAUSES, {"lane": lane_id, "now": now})


def _standing(lane: Lane, busy: int, *, has_due: bool, limits: Limits, now: datetime) -> Standing:
    if not has_due:
        return Standing.IDLE
    if lane.is_resting(now):
        return Standing.RESTING
    if busy >= lane.width(limits):
        return Standing.FULL
    return Standing.TRIAL if lane.is_tried_out() else Standing.OPEN


_FREE: Final = "lane = :lane AND next_attempt_at <= :now AND (lease_until IS NULL OR lease_until <= :now)"
_UNTRIED: Final = f"{_FREE} AND next_wake_at IS NOT NULL AND attempt = 0"
_RETRIES: Final = f"{_FREE} AND next_wake_at IS NOT NULL AND attempt > 0"
_BUSY: Final = "SELECT count(*) FROM webhook_deliveries WHERE lane = :lane AND lease_until > :now"

_LOOK: Final = text(f"""
    SELECT lane.pace, lane.failures, lane.rests_until, ({_BUSY}) AS busy,
           coalesce(
               (SELECT account_id FROM webhook_deliveries WHERE {_UNTRIED} ORDER BY is_replay, sequence LIMIT 1),
               (SELECT account_id FROM webhook_deliveries WHERE {_RETRIES} ORDER BY next_attempt_at LIMIT 1)
           ) AS account_id
    FROM (SELECT 1) AS one LEFT JOIN webhook_lanes AS lane ON lane.id = :lane
""")  # noqa: S608 - our own text

_TWO: Final = "LIMIT 2 FOR NO KEY UPDATE SKIP LOCKED"

_CLAIM: Final = text(f"""
    WITH busy AS ({_BUSY}
    ), retries AS (
        SELECT id, :retry AS turn, row_number() OVER () AS place FROM (
            SELECT id FROM webhook_deliveries WHERE {_RETRIES} ORDER BY next_attempt_at {_TWO}
        ) AS due
    ), untried AS (
        SELECT id, 1 AS turn, row_number() OVER () AS place FROM (
            SELECT id FROM webhook_deliveries WHERE {_UNTRIED} ORDER BY is_replay, sequence {_TWO}
        ) AS due
    ), due AS (SELECT * FROM retries UNION ALL SELECT * FROM untried
    ), chosen AS (SELECT id FROM due ORDER BY turn, place LIMIT 1)
    UPDATE webhook_deliveries SET fence = fence + 1, lease_until = :until, next_wake_at = :until
    FROM chosen, busy WHERE webhook_deliveries.id = chosen.id AND busy.count < :width
    RETURNING webhook_deliveries.id, fence,
              (SELECT count(*) FROM due) > 1 AND busy.count + 1 < :width AS has_more
""")  # noqa: S608 - our own text

_WAITING: Final = "lane = :lane AND next_wake_at IS NOT NULL AND lease_until IS NULL"
_ONE: Final = "LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED"

_WAKE_AFTER_REST: Final = text(f"""
    WITH retry AS (
        SELECT id FROM webhook_deliveries WHERE {_WAITING} AND attempt > 0 ORDER BY next_attempt_at {_ONE}
    ), untried AS (
        SELECT id FROM webhook_deliveries WHERE {_WAITING} AND attempt = 0 ORDER BY is_replay, sequence {_ONE}
    )
    UPDATE webhook_deliveries SET next_wake_at = :until
    WHERE id IN (SELECT id FROM retry UNION ALL SELECT id FROM untried)
      AND next_attempt_at <= :until AND next_wake_at > :until
""")  # noqa: S608 - our own text

_END_PAUSES: Final = text("""
    UPDATE webhook_deliveries AS delivery
    SET next_attempt_at = CAST(:now AS timestamptz) + (waiting.place - waiting.count) * interval '1 microsecond',
        next_wake_at = CAST(:now AS timestamptz) + interval '10 seconds'
    FROM (
        SELECT id, row_number() OVER (ORDER BY sequence) AS place, count(*) OVER () AS count FROM (
            SELECT id, sequence FROM webhook_deliveries
            WHERE lane = :lane AND next_wake_at IS NOT NULL AND attempt > 0 AND lease_until IS NULL
            ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
        ) AS tried
    ) AS waiting
    WHERE delivery.id = waiting.id
""")
"""A microsecond apart, so that whoever takes what is due longest takes them in the order of the events."""
