"""One writer per load balancer: whoever works on a region holds its lease, and writes under its fencing number."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from sqlalchemy import or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.events.log import wake
from shared.models import Balancer
from shared.usecases.circuits import Fuse, circuit_of
from shared.usecases.clock import Clock
from shared.usecases.context import Context
from shared.wakeups import Task, WakeUp

_TABLE: Final[Any] = Balancer


@contextmanager
def writing(context: Context, region: str, *, clock: Clock) -> Iterator[int | None]:
    """Hold the region's balancer; yields the fencing number, or ``None`` at once when somebody else holds it.

    A holder that dies is followed when its lease has run out (``settings.lease``). One that is only slow is followed
    then, too, and finds its number outdated: :func:`renew` says so, and so does the balancer's own record.
    """
    fence = _take(context, region, now=clock())
    try:
        yield fence
    finally:
        if fence is not None:
            with context.transaction() as session:
                give_back(session, {region: fence})
                wake(session, WakeUp(Task.REGION, region))  # nobody was woken for what became due meanwhile


def renew(context: Context, region: str, fence: int, *, now: datetime) -> bool:
    """Hold it for another lease; False when somebody else holds it by now."""
    with context.transaction() as session:
        return region in keep(session, {region: fence}, until=now + context.settings.lease)


def is_held(session: Session, region: str, *, now: datetime) -> bool:
    """Whether somebody is writing there at this moment."""
    statement = select(_TABLE.region).where(_TABLE.region == region, _TABLE.lease_until > now)
    return session.execute(statement).first() is not None


def unattended(session: Session, regions: Collection[str], *, now: datetime) -> list[str]:
    """Those of the regions where somebody has to be woken for what this transaction makes due, in their order.

    The others' holders look once more after its commit: their next step waits for it at the row that is locked here.
    A row that a step has locked is not waited for: that step may have looked already. Ask this last.
    """
    attended = set(session.execute(_ATTENDED, {"regions": sorted(regions), "now": now}).scalars())
    return sorted(set(regions) - attended)


def take(session: Session, regions: Collection[str], *, now: datetime, until: datetime) -> list[Fuse]:
    """Hold those of the regions' balancers where something is due and that nobody holds; each one's fence and circuit.

    Their rows stay locked until the commit, in order of the regions. Whoever is woken for one of them meanwhile waits
    for that, and gets it if it was given back.
    """
    values = {"regions": sorted(set(regions)), "now": now, "until": until}
    return [
        Fuse(region=row.region, fence=row.fence, circuit=circuit_of(row))
        for row in session.execute(_TAKE, values).all()
    ]


def keep(session: Session, fences: Mapping[str, int], *, until: datetime) -> set[str]:
    """Hold them until then, and their rows until the commit; those that somebody else holds by now are left out."""
    return set(session.execute(_KEEP, {**_listed(fences), "until": until}).scalars())


def give_back(session: Session, fences: Mapping[str, int]) -> None:
    """Hold them no longer.

    Whoever is to be sure that nothing is left undone keeps them first, and looks between the two: what is due then is
    seen, and whoever is woken for what becomes due later waits for the commit.
    """
    session.execute(_GIVE_BACK, _listed(fences))


def _listed(fences: Mapping[str, int]) -> dict[str, list[Any]]:
    return {"regions": list(fences), "fences": list(fences.values())}


_IS_DUE: Final = """EXISTS (
    SELECT FROM {table} AS due
    WHERE due.region = wanted.region AND due.next_attempt_at <= :now
      AND (due.lease_until IS NULL OR due.lease_until <= :now)
)"""

_TAKE: Final = text(f"""
    INSERT INTO balancers AS known (region, fence, lease_until)
    SELECT wanted.region, 1, CAST(:until AS timestamptz)
    FROM unnest(CAST(:regions AS text[])) AS wanted (region)
    WHERE {_IS_DUE.format(table="deployments")} OR {_IS_DUE.format(table="listeners")}
    ORDER BY wanted.region
    ON CONFLICT (region) DO UPDATE SET fence = known.fence + 1, lease_until = excluded.lease_until
    WHERE known.lease_until IS NULL OR known.lease_until <= :now
    RETURNING region, fence, silences, circuit_opened_at, circuit_retry_at
""")  # noqa: S608 - names of our own tables

_ATTENDED: Final = text("""
    SELECT region FROM balancers WHERE region = ANY(:regions) AND lease_until > :now
    FOR NO KEY UPDATE SKIP LOCKED
""")

_MINE: Final = """
    WITH mine AS (
        SELECT held.region FROM balancers AS held
        JOIN unnest(CAST(:regions AS text[]), CAST(:fences AS bigint[])) AS own (region, fence)
          ON held.region = own.region AND held.fence = own.fence
        ORDER BY held.region FOR NO KEY UPDATE OF held
    )
"""
"""In order of the regions: two who hold several rows would wait for each other otherwise."""

_KEEP: Final = text(f"""{_MINE}
    UPDATE balancers SET lease_until = :until FROM mine WHERE balancers.region = mine.region
    RETURNING balancers.region
""")  # noqa: S608 - our own words

_GIVE_BACK: Final = text(f"""{_MINE}
    UPDATE balancers SET lease_until = NULL FROM mine WHERE balancers.region = mine.region
""")  # noqa: S608 - our own words


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
