"""An orderly end: nothing new is begun, and what is held is given back, so that others go on at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shared.events.log import wake
from shared.models import Balancer, Deployment, Listener, leases
from shared.usecases.context import Context
from shared.wakeups import Task, WakeUp

_TABLES: Final[tuple[Any, ...]] = (Deployment, Listener)


class Stopping:
    """Whether this process has been asked to end, and which regions it holds meanwhile. Thread-safe."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._held: dict[str, int] = {}

    @property
    def is_asked(self) -> bool:
        """Whether to begin nothing more."""
        return self._asked.is_set()

    @property
    def held(self) -> dict[str, int]:
        """The fencing number of each region that is being worked on."""
        return dict(self._held)

    def ask(self) -> None:
        """From now on, nothing more is begun."""
        self._asked.set()

    @contextmanager
    def holding(self, region: str, fence: int) -> Iterator[None]:
        """Remember the region for as long as it is worked on."""
        self._held[region] = fence
        try:
            yield
        finally:
            if self._held.get(region) == fence:  # another thread of ours has it since our lease ran out
                del self._held[region]


def rouse(session: Session, region: str, *, now: datetime) -> None:
    """Have the next sweep wake what is due in the region and nobody's.

    A wake-up alone may be taken by the very process that ends: its connection still waits for one.
    """
    for table in _TABLES:
        statement = update(table).where(table.region == region, leases.is_free(table, now)).values(next_wake_at=now)
        session.execute(statement.execution_options(synchronize_session=False))


def hand_back(context: Context, stopping: Stopping, *, now: datetime) -> list[str]:
    """Give up every region that is still being worked on, its rows too, and wake somebody else; returns which.

    For a process that ends in the next moment: what its threads still write is refused by their fences.
    """
    given = []
    for region, fence in stopping.held.items():
        with context.transaction() as session:
            if _give_back(session, region, fence, now=now):
                given.append(region)
                wake(session, WakeUp(Task.REGION, region))
    return given


def _give_back(session: Session, region: str, fence: int, *, now: datetime) -> bool:
    """The rows of a region are only ever owned by its one writer: while that is us, they are ours."""
    ours = select(Balancer).where(Balancer.region == region, Balancer.fence == fence).with_for_update(key_share=True)
    balancer = session.execute(ours).scalar_one_or_none()
    if balancer is None:
        return False
    balancer.lease_until = None
    session.flush()
    for table in _TABLES:
        statement = update(table).where(table.region == region, table.lease_until > now).values(lease_until=None)
        session.execute(statement.execution_options(synchronize_session=False))
    rouse(session, region, now=now)
    return True
