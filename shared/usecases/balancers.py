"""One writer per load balancer: whoever works on a region holds its lease, and writes under its fencing number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from sqlalchemy import or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.models import Balancer
from shared.usecases.clock import Clock
from shared.usecases.context import Context

_TABLE: Final[Any] = Balancer


@contextmanager
def writing(
    context: Context, region: str, *, clock: Clock, leaving: Callable[[Session], None] = lambda _session: None
) -> Iterator[int | None]:
    """Hold the region's balancer; yields the fencing number, or ``None`` at once when somebody else holds it.

    ``leaving`` runs in the transaction that gives it back: whoever finds it held before that has written what it came
    for, and is seen there; whoever comes later waits for the commit, and gets it.

    A holder that dies is followed when its lease has run out (``settings.lease``). One that is only slow is followed
    then, too, and finds its number outdated: :func:`renew` says so, and so does the balancer's own record.
    """
    fence = _take(context, region, now=clock())
    try:
        yield fence
    finally:
        if fence is not None:
            with context.transaction() as session:
                _give_back(session, region, fence)
                leaving(session)


def renew(context: Context, region: str, fence: int, *, now: datetime) -> bool:
    """Hold it for another lease; False when somebody else holds it by now."""
    with context.transaction() as session:
        statement = (
            update(_TABLE)
            .where(_TABLE.region == region, _TABLE.fence == fence)
            .values(lease_until=now + context.settings.lease)
        )
        return session.execute(statement.returning(_TABLE.fence)).first() is not None


def is_held(session: Session, region: str, *, now: datetime) -> bool:
    """Whether somebody is writing there at this moment."""
    statement = select(_TABLE.region).where(_TABLE.region == region, _TABLE.lease_until > now)
    return session.execute(statement).first() is not None


def _take(context: Context, region: str, *, now: datetime) -> int | None:
    until = now + context.settings.lease
    statement = insert(_TABLE).values(region=region, fence=1, lease_until=until)
    taken = statement.on_conflict_do_update(
        index_elements=[_TABLE.region],
        set_={"fence": _TABLE.fence + 1, "lease_until": until},
        where=or_(_TABLE.lease_until.is_(None), _TABLE.lease_until <= now),
    )
    with context.transaction() as session:
        return session.execute(taken.returning(_TABLE.fence)).scalar_one_or_none()


def _give_back(session: Session, region: str, fence: int) -> None:
    session.execute(update(_TABLE).where(_TABLE.region == region, _TABLE.fence == fence).values(lease_until=None))
