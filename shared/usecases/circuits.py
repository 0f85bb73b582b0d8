"""A region's circuit breaker in its balancer's row: every worker sees the same, and it survives all of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Row, update
from sqlalchemy.orm import Session

from shared.domain.circuits import Circuit, CircuitState
from shared.errors import CertfleetError
from shared.models import Balancer, Deployment, Listener, leases

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Fuse:
    """The circuit while its region is worked on: loaded once, written when it changes, by ``fence`` only."""

    region: str
    fence: int
    circuit: Circuit

    def note(self, session: Session, error: Exception | None, *, now: datetime) -> None:
        """An attempt ended, with this error or well. Call it first: balancers come first in the lock order."""
        following = self.circuit.after(error, now=now)
        if following == self.circuit:
            return
        values = {
            "silences": following.failures,
            "circuit_opened_at": following.opened_at,
            "circuit_retry_at": following.retry_at,
            "circuit_error": _shown(error) if error and following.opened_at else None,
        }
        mine = (Balancer.region == self.region, Balancer.fence == self.fence)
        session.execute(update(Balancer).where(*mine).values(values))
        if (self.circuit.opened_at is None) != (following.opened_at is None):
            log.warning("circuit_opened" if following.opened_at else "circuit_closed", region=self.region)
        self.circuit = following

    def is_open(self, now: datetime) -> bool:
        """Whether nothing may be tried now."""
        return self.circuit.state(now) is CircuitState.OPEN

    def is_whole(self) -> bool:
        """Whether nothing failed lately: then several may be tried at once."""
        return self.circuit == Circuit()


def _shown(error: Exception) -> dict[str, Any]:
    """For everybody: the error's own message may name an account's objects."""
    code = error.code if isinstance(error, CertfleetError) else "unreachable"
    return {
        "code": code,
        "message": "The load balancer does not answer. It is tried again by itself.",
        "retryable": True,
    }


def put_off(session: Session, fuse: Fuse, *, now: datetime) -> int:
    """Whatever is due in the region waits for its next try, no attempt used up; returns how many rows."""
    count = 0
    for model in (Deployment, Listener):
        table: Any = model
        waiting = update(table).where(table.region == fuse.region, leases.is_free(table, now))
        later = {"next_attempt_at": fuse.circuit.retry_at, "next_wake_at": fuse.circuit.retry_at}
        done = session.execute(waiting.values(later).returning(table.id).execution_options(synchronize_session=False))
        count += len(done.all())
    return count


def document(row: Balancer | None, *, now: datetime) -> dict[str, Any]:
    """As a region's health shows it."""
    circuit = circuit_of(row) if row else Circuit()
    return {"state": circuit.state(now), "opened_at": circuit.opened_at, "retry_at": circuit.retry_at}


def circuit_of(row: Balancer | Row[Any]) -> Circuit:
    """As the row says."""
    return Circuit(failures=row.silences, opened_at=row.circuit_opened_at, retry_at=row.circuit_retry_at)
