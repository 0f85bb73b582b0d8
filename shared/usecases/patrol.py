"""The patrol: knocks at every bound listener again and again, and has put right what a region wants put right."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.config.regions import Region
from shared.domain.listeners import ListenerState
from shared.domain.rollout import ServedState
from shared.domain.served import Expected, Verdict
from shared.events import log as events
from shared.models import Balancer, Certificate, Listener
from shared.usecases import proofs
from shared.usecases.context import Context
from shared.usecases.periodic import Periodic, note_run
from shared.usecases.region_tools import RegionTools
from shared.usecases.repairs import put_listener_right
from shared.wakeups import Task, WakeUp

BATCH: Final = 1000
"""Listeners a tick; the next tick, seconds later, takes the rest."""

EARLIEST: Final = 0.8
"""A listener's next turn comes after 80 to 100 % of the period, by chance: those bound together do not stay so."""

SOON: Final = timedelta(seconds=5)
"""Until another look, where work was going on during the first."""

CONFIRM_AFTER: Final = timedelta(seconds=1)
"""From a look that finds a new mismatch to the second one; its task holds a thread meanwhile."""

_LISTENERS: Final[Any] = Listener
_BALANCERS: Final[Any] = Balancer


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Who writes to a balancer: nobody did between two looks when they are equal and nobody is at it."""

    fence: int
    is_at_work: bool


def tick(context: Context, *, now: datetime) -> int:
    """Wake a look at each listener and region whose turn it is; returns how many.

    Any number of beats may run it at once: a row's next turn is written in the transaction that takes it, so that it
    is woken once; a look that never happens comes round with the next period.
    """
    every = context.settings.patrol_every
    with context.transaction() as session:
        _pull_back(session, every, now=now)
        regions = [WakeUp(Task.PATROL_REGION, each) for each in _take_regions(context, session, now=now)]
        listeners = [WakeUp(Task.PATROL_LISTENER, each) for each in _take_listeners(session, every, now=now)]
        wake_ups = [*listeners, *regions]  # what clients meet is told first; rows are taken by the lock order
        events.wake(session, *wake_ups)
        note_run(session, Periodic.PATROL, now=now, count=len(wake_ups))
    return len(wake_ups)


def look_at_listener(context: Context, tools: RegionTools, listener_id: str) -> None:
    """Knock at one listener and write down what clients get. Safe to call at any time.

    What is found while somebody writes to the balancer proves nothing against the listener: it is looked at again
    soon. A change of the listener in between is never overwritten.
    """
    with context.transaction() as session:
        plan = _plan(context, session, listener_id, now=tools.clock())
    if plan is None:
        return
    verdict = _confirmed(tools, plan)
    now = tools.clock()
    is_repaired = False
    with context.transaction() as session:
        listener = proofs.hold(session, listener_id)
        if listener is None or not _is_as_planned(session, listener, plan, verdict, now=now):
            _again(session, listener_id, at=now + SOON)
            return
        facts = proofs.record(session, listener, verdict, now=now, every=context.settings.patrol_every)
        if verdict.state is ServedState.MISMATCH and plan.region.repair:
            is_repaired = put_listener_right(session, listener, now=now)
        events.append(session, listener.account_id, facts, now=now)
    if is_repaired:
        look_soon(context, plan.region.id, now=now)


def writer_of(session: Session, region_id: str, *, now: datetime) -> Writer:
    """Who writes to the region's balancer now."""
    statement = select(Balancer.fence, Balancer.lease_until).where(Balancer.region == region_id)
    found = session.execute(statement).one_or_none()
    if found is None:
        return Writer(fence=0, is_at_work=False)
    return Writer(fence=found.fence, is_at_work=found.lease_until is not None and found.lease_until > now)


def look_soon(context: Context, region_id: str, *, now: datetime) -> None:
    """Have the region's balancer asked again soon, not only after a period."""
    with context.transaction() as session:
        statement = update(_BALANCERS).where(_BALANCERS.region == region_id)
        session.execute(statement.values(next_patrol_at=now + SOON))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    region: Region
    hosts: tuple[str, ...]
    expected: Expected
    revision: int
    writer: Writer
    is_known_mismatch: bool


def _pull_back(session: Session, every: timedelta, *, now: datetime) -> None:
    """A turn that lies farther ahead than any can was written by a clock that went back: it comes now."""
    farthest = now + max(every, SOON)
    for column in (_BALANCERS.next_patrol_at, _LISTENERS.next_probe_at):
        statement = update(column.class_).where(column > farthest).values({column: now})
        session.execute(statement.execution_options(synchronize_session=False))


def _take_listeners(session: Session, every: timedelta, *, now: datetime) -> list[str]:
    found = (
        select(Listener.id)
        .where(Listener.next_probe_at <= now)
        .order_by(Listener.next_probe_at)
        .limit(BATCH)
        .with_for_update(key_share=True, skip_locked=True)
        .scalar_subquery()
    )
    statement = (
        update(_LISTENERS)
        .where(_LISTENERS.id.in_(found))
        .values(next_probe_at=now + every * (EARLIEST + (1 - EARLIEST) * func.random()))
        .returning(_LISTENERS.id)
        .execution_options(synchronize_session=False)
    )
    return list(session.execute(statement).scalars())


def _take_regions(context: Context, session: Session, *, now: datetime) -> list[str]:
    """Declared regions whose turn it is; a balancer that nobody wrote to yet gets its row here."""
    if not context.settings.regions:
        return []
    following = now + context.settings.patrol_every
    rows = [{"region": each, "fence": 0, "next_patrol_at": following} for each in sorted(context.settings.regions)]
    statement = insert(_BALANCERS).values(rows)
    taken = statement.on_conflict_do_update(
        index_elements=[_BALANCERS.region],
        set_={"next_patrol_at": following},
        where=or_(_BALANCERS.next_patrol_at.is_(None), _BALANCERS.next_patrol_at <= now),
    )
    return list(session.execute(taken.returning(_BALANCERS.region)).scalars())


def _plan(context: Context, session: Session, listener_id: str, *, now: datetime) -> _Plan | None:
    """``None``: there is nothing to look at now."""
    listener = session.get(Listener, listener_id)
    if listener is None or listener.next_probe_at is None:
        return None
    region = context.settings.regions.get(listener.region)
    if listener.state in {ListenerState.DELETED, ListenerState.FAILED} or region is None:
        _again(session, listener_id, at=None if region else now + context.settings.patrol_every)
        return None
    if listener.state != ListenerState.BOUND:
        _again(session, listener_id, at=now + SOON)
        return None
    if _is_fresh(listener, context.settings.patrol_every, now=now):
        return None
    ca_id = listener.ca_certificate_id
    return _Plan(
        region=region,
        hosts=tuple(listener.hosts),
        expected=proofs.expected_of(
            session.get_one(Certificate, listener.server_certificate_id),
            session.get_one(Certificate, ca_id) if ca_id else None,
        ),
        revision=listener.revision,
        is_known_mismatch=listener.served == ServedState.MISMATCH,
        writer=writer_of(session, listener.region, now=now),
    )


def _confirmed(tools: RegionTools, plan: _Plan) -> Verdict:
    """What clients get; a mismatch that is new is believed at a second look, after a balancer has had time to settle.

    Without it, a balancer that is still bringing a replacement to its last thread would raise a false alarm.
    """
    verdict = proofs.prove(tools.prober, plan.region, plan.hosts, plan.expected)
    if verdict.state is not ServedState.MISMATCH or plan.is_known_mismatch:
        return verdict
    time.sleep(min(tools.settling, CONFIRM_AFTER).total_seconds())
    return proofs.prove(tools.prober, plan.region, plan.hosts, plan.expected)


def _is_fresh(listener: Listener, every: timedelta, *, now: datetime) -> bool:
    """Proven since it was woken for: a queue that fell behind holds several messages about each listener."""
    checked_at = listener.served_checked_at
    return checked_at is not None and abs(now - checked_at) < every / 2


def _is_as_planned(session: Session, listener: Listener, plan: _Plan, verdict: Verdict, *, now: datetime) -> bool:
    if listener.state != ListenerState.BOUND or listener.revision != plan.revision:
        return False
    writer = writer_of(session, listener.region, now=now)
    return verdict.state is ServedState.MATCH or (writer == plan.writer and not writer.is_at_work)


def _again(session: Session, listener_id: str, *, at: datetime | None) -> None:
    statement = update(_LISTENERS).where(_LISTENERS.id == listener_id, _LISTENERS.next_probe_at.is_not(None))
    session.execute(statement.values(next_probe_at=at).execution_options(synchronize_session=False))
