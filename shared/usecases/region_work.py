"""Work through a region: whatever is due there, one after the other, as the only writer of its load balancer.

A wake-up names the region; whoever holds it does every row that is due there, and a wake-up that finds the region held
ends at once. So a region occupies one thread, however much is to be done and however slow it is, and no other region
waits for it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Final

from sqlalchemy import select

from shared.models import Deployment, Listener
from shared.usecases import balancers, steps
from shared.usecases.binding import work_on_listener
from shared.usecases.context import Context
from shared.usecases.deployment import work_on
from shared.usecases.region_tools import RegionTools, Site
from shared.usecases.settlement import Delivered
from shared.usecases.steps import Arrival, Step, Turn

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

    Safe to call at any time. A process that is to end finishes what it has begun, leaves the region, and wakes somebody
    else for the rest.
    """
    arrival = Arrival(region_id=region_id, limit=1)
    step = tools.arrivals.ask(arrival, partial(steps.arrive, context, tools))
    if step is None or step.is_over:
        return
    with tools.stopping.holding(region_id, step.site.fence), _left_when_it_fails(context, step.site):
        while not step.is_over:
            step = _take(context, step)


def _take(context: Context, step: Step) -> Step:
    """Do what the step says, while the region is ours; the next one."""
    began = time.monotonic()
    if step.listener_id is not None:
        work_on_listener(context, step.site, step.listener_id)
    plans = deque(step.plans)
    delivered: list[Delivered] = []
    while plans:
        delivered = work_on(context, step.site, plans)
        if plans and not _is_ours_still(context, step.site, delivered):
            return Step(site=step.site, is_over=True)
    seconds_each = (time.monotonic() - began) / max(len(step.plans), 1)
    return _go_on(context, step.site, delivered, limit=_fitting(seconds_each, context.settings.lease))


def _is_ours_still(context: Context, site: Site, delivered: Sequence[Delivered]) -> bool:
    """Before another call to the balancer, which need not know its newest writer: what is delivered is answered."""
    if not delivered:
        return site.renew()
    return not _go_on(context, site, delivered, limit=None).is_over


def _go_on(context: Context, site: Site, delivered: Sequence[Delivered], *, limit: int | None) -> Step:
    turn = Turn(site=site, delivered=delivered, limit=limit)
    step: Step = site.tools.turns.ask(turn, partial(steps.go_on, context))
    return step


@contextmanager
def _left_when_it_fails(context: Context, site: Site) -> Iterator[None]:
    """The last step leaves the region; without it, nobody would come before the lease has run out."""
    try:
        yield
    except BaseException:
        with context.transaction() as session:
            balancers.give_back(session, {site.region_id: site.fence})
        raise


def _fitting(seconds_each: float, lease: timedelta) -> int:
    """How many deployments that take so long fit into a third of the lease, after which it is renewed, and a stop."""
    seconds = min(lease / 3, STOPS_WITHIN).total_seconds()
    return max(1, min(BATCH, int(seconds / max(seconds_each, 0.001))))
