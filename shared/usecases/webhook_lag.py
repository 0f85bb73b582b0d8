"""How far consumers are behind: what waits for each webhook endpoint, and for how long it has."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

MOST_COUNTED: Final = 10_000
"""Deliveries are counted up to this: a count costs what it counts."""

MOST_LOOKED_AT: Final = 1_000
"""Endpoints with something waiting that one look at the metrics goes through."""

MOST_SHOWN: Final = 20
"""Endpoints that have a gauge of their own: those that are farthest behind. Each label costs its reader for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """``pending``: deliveries that wait, ``MOST_COUNTED`` at most; ``oldest_since``: when the oldest was made."""

    pending: int
    oldest_since: datetime

    def oldest_seconds(self, now: datetime) -> float:
        """The age of the oldest."""
        return max(0.0, (now - self.oldest_since).total_seconds())


def lags(session: Session, endpoint_ids: Collection[str]) -> dict[str, Lag]:
    """Of these endpoints; those for which nothing waits are left out."""
    rows = session.execute(_OF_THESE, {"ids": list(endpoint_ids), "most": MOST_COUNTED}).all()
    return {row.id: Lag(pending=row.pending, oldest_since=row.oldest_since) for row in rows}


def farthest_behind(session: Session) -> dict[str, Lag]:
    """The ``MOST_SHOWN`` endpoints of all accounts whose oldest delivery has waited longest."""
    values = {"looked_at": MOST_LOOKED_AT, "shown": MOST_SHOWN, "most": MOST_COUNTED}
    rows = session.execute(_FARTHEST, values).all()
    return {row.id: Lag(pending=row.pending, oldest_since=row.oldest_since) for row in rows}


_OLDEST: Final = """
    SELECT created_at AS oldest_since FROM webhook_deliveries
    WHERE endpoint_id = {endpoint}.id AND next_wake_at IS NOT NULL ORDER BY created_at LIMIT 1
"""
_COUNT: Final = """
    SELECT count(*) AS pending FROM (
        SELECT 1 FROM webhook_deliveries WHERE endpoint_id = {endpoint}.id AND next_wake_at IS NOT NULL LIMIT :most
    ) AS counted
"""

_OF_THESE: Final = text(f"""
    SELECT asked.id, oldest.oldest_since, waiting.pending
    FROM unnest(CAST(:ids AS text[])) AS asked (id)
    CROSS JOIN LATERAL ({_OLDEST.format(endpoint="asked")}) AS oldest
    CROSS JOIN LATERAL ({_COUNT.format(endpoint="asked")}) AS waiting
""")  # noqa: S608 - our own text

_FARTHEST: Final = text(f"""
    WITH RECURSIVE behind AS (
        (SELECT endpoint_id AS id, 1 AS place FROM webhook_deliveries WHERE next_wake_at IS NOT NULL
         ORDER BY endpoint_id LIMIT 1)
        UNION ALL
        SELECT further.endpoint_id, behind.place + 1 FROM behind CROSS JOIN LATERAL (
            SELECT endpoint_id FROM webhook_deliveries
            WHERE next_wake_at IS NOT NULL AND endpoint_id > behind.id ORDER BY endpoint_id LIMIT 1
        ) AS further
        WHERE behind.place < :looked_at
    ), shown AS (
        SELECT behind.id, oldest.oldest_since
        FROM behind CROSS JOIN LATERAL ({_OLDEST.format(endpoint="behind")}) AS oldest
        ORDER BY oldest.oldest_since LIMIT :shown
    )
    SELECT shown.id, shown.oldest_since, waiting.pending
    FROM shown CROSS JOIN LATERAL ({_COUNT.format(endpoint="shown")}) AS waiting
""")  # noqa: S608 - our own text
"""PostgreSQL has no loose index scan: this goes from one endpoint's first delivery to the next one's."""
