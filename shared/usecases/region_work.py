"""Work through a region: whatever is due there, one after the other, as the only writer of its load balancer.

A wake-up names one row; whoever holds the region does every other row that is due there as well, and a wake-up that
finds the region held ends at once. So a region occupies one thread, however much is to be done and however slow it is,
and no other region waits for it.
"""

from __future__ import annotations

from datetime import datetime

import structlog
from sqlalchemy import literal, or_, select
from sqlalchemy.orm import Session

from shared.models import Deployment, Listener
from shared.usecases import balancers
from shared.usecases.binding import work_on_listener
from shared.usecases.context import Context
from shared.usecases.deployment import work_on_deployment
from shared.usecases.region_tools import RegionTools, Site

log = structlog.get_logger(__name__)


def work_in_region_of(context: Context, tools: RegionTools, model: type[Deployment | Listener], row_id: str) -> None:
    """Do what is due in the row's region, that row included. Safe to call at any time."""
    with context.transaction() as session:
        region_id = session.execute(select(model.region).where(model.id == row_id)).scalar_one_or_none()
    if region_id is not None:
        work_through(context, tools, region_id)


def work_through(context: Context, tools: RegionTools, region_id: str) -> None:
    """Do what is due in the region, until nothing is; returns at once when somebody else is at it.

    What becomes due between our last look and our giving the region back is looked for once more: its own wake-up
    may have found the region held.
    """
    while True:
        with balancers.writing(context, region_id, clock=tools.clock) as fence:
            if fence is None or not _work(context, tools, region_id, fence):
                return
        with context.transaction() as session:
            if _next(session, region_id, now=tools.clock()) is None:
                return


def _work(context: Context, tools: RegionTools, region_id: str, fence: int) -> bool:
    """Whether we were its writer to the end."""
    site = Site(
        region_id=region_id,
        region=context.settings.regions.get(region_id),
        fence=fence,
        tools=tools,
        renew=lambda: balancers.renew(context, region_id, fence, now=tools.clock()),
    )
    while True:
        with context.transaction() as session:
            found = _next(session, region_id, now=tools.clock())
        if found is None:
            return True
        if not site.renew():
            log.warning("region_taken_over", region=region_id, fence=fence)
            return False
        kind, row_id = found
        if kind == Deployment.__tablename__:
            work_on_deployment(context, site, row_id)
        else:
            work_on_listener(context, site, row_id)


def _next(session: Session, region_id: str, *, now: datetime) -> tuple[str, str] | None:
    """The row that has been due longest and that nobody owns: its table and id."""
    due = [
        select(literal(model.__tablename__).label("kind"), model.id, model.next_attempt_at.label("due_at")).where(
            model.region == region_id,
            model.next_attempt_at <= now,
            or_(model.lease_until.is_(None), model.lease_until <= now),
        )
        for model in (Deployment, Listener)
    ]
    both = due[0].union_all(due[1]).subquery()
    row = session.execute(select(both.c.kind, both.c.id).order_by(both.c.due_at, both.c.id).limit(1)).first()
    return (row[0], row[1]) if row else None
