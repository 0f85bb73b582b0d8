"""Work through a region: whatever is due there, one after the other, as the only writer of its load balancer.

A wake-up names one row; whoever holds the region does every other row that is due there as well, and a wake-up that
finds the region held ends at once. So a region occupies one thread, however much is to be done and however slow it is,
and no other region waits for it.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from shared.models import Deployment, Listener, leases
from shared.usecases import balancers, circuits
from shared.usecases.binding import work_on_listener
from shared.usecases.circuits import Fuse
from shared.usecases.context import Context
from shared.usecases.deployment import work_on_deployments
from shared.usecases.region_tools import RegionTools, Site
from shared.usecases.stopping import rouse
from shared.wakeups import Task, WakeUp

log = structlog.get_logger(__name__)

BATCH: Final = 32
"""Deployments that are claimed together at most; fewer where the last ones were slow: all fit well into one lease."""

STOPS_WITHIN: Final = timedelta(seconds=5)
"""A process that is to end finishes the batch that it has begun: one is to take no longer than this."""


def work_in_region_of(context: Context, tools: RegionTools, model: type[Deployment | Listener], row_id: str) -> None:
    """As :func:`work_in_region`, the region told by one of its rows."""
    with context.transaction() as session:
        region_id = session.execute(select(model.region).where(model.id == row_id)).scalar_one_or_none()
    if region_id is not None:
        work_in_region(context, tools, region_id)


def work_in_region(context: Context, tools: RegionTools, region_id: str) -> None:
    """Do what is due in the region, until nothing is; returns at once when nothing is, or somebody else is at it.

    Safe to call at any time. What becomes due between our last look and our giving the region back is looked for once
    more: its own wake-up may have found the region held. A process that is to end finishes what it has begun, gives the
    region back, and wakes somebody else for the rest.
    """
    due: list[Fuse] = []

    def look(session: Session) -> None:
        due[:] = _look(session, region_id, now=tools.clock())
        if due and tools.stopping.is_asked:
            rouse(session, region_id, now=tools.clock())

    with context.transaction() as session:
        look(session)
    while due and not tools.stopping.is_asked:
        fuse = due.pop()
        with balancers.writing(context, region_id, clock=tools.clock, leaving=look) as fence:
            if fence is None or not _work(context, tools, fence, fuse):
                return
    if due:
        context.publisher.publish([WakeUp(Task.REGION, region_id)])


def _look(session: Session, region_id: str, *, now: datetime) -> list[Fuse]:
    """The region's circuit, if something is due there and may be tried; what may not is put off."""
    if not _is_anything_due(session, region_id, now=now):
        return []
    fuse = circuits.load(session, region_id)
    if not fuse.is_open(now):
        return [fuse]
    count = circuits.put_off(session, fuse, now=now)
    log.info("region_left_alone", region=region_id, count=count, until=fuse.circuit.retry_at)
    return []


def _work(context: Context, tools: RegionTools, fence: int, fuse: Fuse) -> bool:
    """Whether we were its writer to the end."""
    region_id = fuse.region
    site = Site(
        region_id=region_id,
        region=context.settings.regions.get(region_id),
        fence=fence,
        tools=tools,
        renew=lambda: balancers.renew(context, region_id, fence, now=tools.clock()),
        fuse=fuse,
    )
    with tools.stopping.holding(region_id, fence):
        return _work_until_done(context, site, fuse)


def _work_until_done(context: Context, site: Site, fuse: Fuse) -> bool:
    tools, region_id = site.tools, site.region_id
    limit = 1
    renew_at = tools.clock() + context.settings.lease / 3
    while not (tools.stopping.is_asked or fuse.is_open(tools.clock())):
        if tools.clock() >= renew_at:
            if not _is_still_ours(site):
                return False
            renew_at = tools.clock() + context.settings.lease / 3
        began = time.monotonic()
        if done := work_on_deployments(context, site, limit=limit):
            limit = _fitting((time.monotonic() - began) / done, context.settings.lease) if fuse.is_whole() else 1
            continue
        with context.transaction() as session:
            listener_id = _next_listener(session, region_id, now=tools.clock())
        if listener_id is None:
            return True
        if not _is_still_ours(site):
            return False
        work_on_listener(context, site, listener_id)
    return True


def _fitting(seconds_each: float, lease: timedelta) -> int:
    """How many deployments that take so long fit into a third of the lease, after which it is renewed, and a stop."""
    seconds = min(lease / 3, STOPS_WITHIN).total_seconds()
    return max(1, min(BATCH, int(seconds / max(seconds_each, 0.001))))


def _is_still_ours(site: Site) -> bool:
    if site.renew():
        return True
    log.warning("region_taken_over", region=site.region_id, fence=site.fence)
    return False


def _next_listener(session: Session, region_id: str, *, now: datetime) -> str | None:
    statement = select(Listener.id).where(Listener.region == region_id, leases.is_free(Listener, now))
    return session.execute(statement.order_by(Listener.next_attempt_at, Listener.id).limit(1)).scalar_one_or_none()


def _is_anything_due(session: Session, region_id: str, *, now: datetime) -> bool:
    statement = select(
        or_(*(exists().where(row.region == region_id, leases.is_free(row, now)) for row in (Deployment, Listener)))
    )
    return bool(session.execute(statement).scalar_one())
