"""Steps through regions: one transaction answers for what was done in some, and claims what comes next or leaves them.

Whoever works on a region holds its balancer, and for the length of a step its row: what becomes due before that is
seen here, for whoever was woken for it found the region held; whoever is woken later waits for the commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.events import log as events
from shared.usecases import balancers, circuits, deployment, deployment_plans, settlement
from shared.usecases.circuits import Fuse
from shared.usecases.context import Context
from shared.usecases.deployment_plans import Claimed, Plan
from shared.usecases.region_tools import RegionTools, Site
from shared.usecases.settlement import Delivered
from shared.usecases.stopping import rouse
from shared.wakeups import Task, WakeUp

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Somebody comes to a region, and would begin with so many deployments at once."""

    region_id: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What was delivered in a region since the last step.

    ``limit``: how many deployments may be begun next; ``None``: something that is begun already comes next.
    """

    site: Site
    delivered: Sequence[Delivered]
    limit: int | None

    def is_in(self, held: AbstractSet[tuple[str, int]]) -> bool:
        """Whether its region is among these, held under its own fencing number."""
        return (self.site.region_id, self.site.fence) in held


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What comes next in a region: deployments, or else a listener. ``is_over``: nothing does, it is no longer ours."""

    site: Site
    plans: Sequence[Plan] = ()
    listener_id: str | None = None
    is_over: bool = False


def arrive(context: Context, tools: RegionTools, arrivals: Sequence[Arrival]) -> list[Step | None]:
    """Hold each region where something is due and that nobody holds; ``None`` for the others."""
    now = tools.clock()
    limits = {each.region_id: each.limit for each in arrivals}
    with context.transaction() as session, session.no_autoflush:
        fuses = balancers.take(session, limits, now=now, until=now + context.settings.lease)
        sites = [_site(context, tools, fuse) for fuse in fuses]
        steps = _next(context, session, {site.region_id: (site, limits[site.region_id]) for site in sites}, now=now)
        events.append_to_each(session, steps.claimed.told, now=now, beside=steps.claimed.attempts)
    return [steps.by_region.pop(each.region_id, None) for each in arrivals]


def go_on(context: Context, turns: Sequence[Turn]) -> list[Step]:
    """Answer for what was delivered, and take the next step in each of the regions.

    Of two turns in one region, one is of somebody who has lost it and does not know yet: it is over for him.
    """
    clock = turns[0].site.tools.clock
    fences: dict[str, int] = {}
    for turn in turns:
        fences[turn.site.region_id] = max(turn.site.fence, fences.get(turn.site.region_id, 0))
    with context.transaction() as session, session.no_autoflush:
        kept = balancers.keep(session, fences, until=clock() + context.settings.lease)
        ours = {(region_id, fences[region_id]) for region_id in kept}
        now = clock()  # after that wait: whatever somebody made due meanwhile, and woke nobody for, is due by now
        for turn in turns:
            if turn.delivered:
                turn.site.fuse.note(session, None, now=now)
        facts = deployment.answer(session, [one for turn in turns for one in turn.delivered], now=now)
        wanted = {
            turn.site.region_id: (turn.site, turn.limit)
            for turn in turns
            if turn.limit is not None and turn.is_in(ours)
        }
        steps = _next(context, session, wanted, now=now)
        told = settlement.end_jobs(session, facts, now=now)
        for account_id, begun in steps.claimed.told.items():
            told[account_id] += begun
        events.append_to_each(session, told, now=now, beside=steps.claimed.attempts)
    return [_after(turn, steps, ours) for turn in turns]


def _after(turn: Turn, steps: _Steps, ours: AbstractSet[tuple[str, int]]) -> Step:
    if not turn.is_in(ours):
        log.warning("region_taken_over", region=turn.site.region_id, fence=turn.site.fence)
        return Step(site=turn.site, is_over=True)
    if turn.limit is None:  # something is begun already
        return Step(site=turn.site)
    return steps.by_region[turn.site.region_id]


def _site(context: Context, tools: RegionTools, fuse: Fuse) -> Site:
    return Site(
        region_id=fuse.region,
        region=context.settings.regions.get(fuse.region),
        fence=fuse.fence,
        tools=tools,
        renew=lambda: balancers.renew(context, fuse.region, fuse.fence, now=tools.clock()),
        fuse=fuse,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    by_region: dict[str, Step]
    claimed: Claimed


def _next(context: Context, session: Session, wanted: Mapping[str, tuple[Site, int]], *, now: datetime) -> _Steps:
    """Claim what is due at the sites, at most so much at each; regions where nothing comes next are left."""
    sites = [site for site, _ in wanted.values()]
    limits = {
        region_id: limit if site.fuse.is_whole() else 1
        for region_id, (site, limit) in wanted.items()
        if not (site.tools.stopping.is_asked or site.fuse.is_open(now))
    }
    claimed = deployment_plans.claim(session, sites, limits, now=now, lease=context.settings.lease)
    steps = {site.region_id: Step(site=site, plans=claimed.plans[site.region_id]) for site in sites}
    resting = [site for site in sites if not claimed.plans[site.region_id]]
    for site, due in _looks(session, resting, now=now):
        steps[site.region_id] = _at_rest(session, site, due, may_begin=site.region_id in limits, now=now)
    over = {region_id: step.site.fence for region_id, step in steps.items() if step.is_over}
    if over:
        balancers.give_back(session, over)
    return _Steps(by_region=steps, claimed=claimed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Due:
    """What is due in a region: any deployment, and the listener that was asked for first."""

    has_deployments: bool
    listener_id: str | None

    def __bool__(self) -> bool:
        return self.has_deployments or self.listener_id is not None


def _at_rest(session: Session, site: Site, due: _Due, *, may_begin: bool, now: datetime) -> Step:
    """Where no deployment was claimed: there is none, a listener is first, or nothing may be begun."""
    if due and may_begin:
        return Step(site=site, listener_id=due.listener_id)
    if due and site.fuse.is_open(now):
        count = circuits.put_off(session, site.fuse, now=now)
        log.info("region_left_alone", region=site.region_id, count=count, until=site.fuse.circuit.retry_at)
    elif due:
        rouse(session, site.region_id, now=now)
        events.wake(session, WakeUp(Task.REGION, site.region_id))
    return Step(site=site, is_over=True)


_LOOK: Final = text("""
    SELECT wanted.region,
        EXISTS (
            SELECT FROM deployments AS due WHERE due.region = wanted.region AND due.next_attempt_at <= :now
                AND (due.lease_until IS NULL OR due.lease_until <= :now)
        ) AS has_deployments,
        (
            SELECT due.id FROM listeners AS due WHERE due.region = wanted.region AND due.next_attempt_at <= :now
                AND (due.lease_until IS NULL OR due.lease_until <= :now)
            ORDER BY due.next_attempt_at, due.id LIMIT 1
        ) AS listener_id
    FROM unnest(CAST(:regions AS text[])) AS wanted (region)
""")


def _looks(session: Session, sites: Sequence[Site], *, now: datetime) -> list[tuple[Site, _Due]]:
    if not sites:
        return []
    by_region = {site.region_id: site for site in sites}
    rows = session.execute(_LOOK, {"regions": list(by_region), "now": now}).all()
    return [
        (by_region[row.region], _Due(has_deployments=row.has_deployments, listener_id=row.listener_id)) for row in rows
    ]
