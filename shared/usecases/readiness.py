"""Is everything there that the service needs: the database, its migrations, the broker, a living scheduler?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from shared.models import revisions
from shared.usecases.context import Context
from shared.usecases.periodic import last_runs, silent

BROKER_SECONDS: Final = 0.5
_TRIES: Final = 2
_AT_ONCE: Final = 0.5
"""Seconds: who refuses is asked once more, who is silent is not."""


class Readiness(StrEnum):
    """``degraded``: requests are accepted and none is lost, but they may have to wait."""

    OK = "ok"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at."""

    ok: bool
    detail: str
    last_run_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All checks by name. Only the database decides between ``degraded`` and ``unavailable``."""

    checks: dict[str, Check]

    @property
    def status(self) -> Readiness:
        """The worst of them."""
        if not self.checks["database"].ok:
            return Readiness.UNAVAILABLE
        return Readiness.OK if all(check.ok for check in self.checks.values()) else Readiness.DEGRADED


def check_readiness(context: Context, *, now: datetime) -> Report:
    """Look at everything, in about two seconds at worst, whether database and broker refuse or are silent."""
    return Report(checks={**_database_checks(context, now=now), "broker": _broker(context)})


def _database_checks(context: Context, *, now: datetime) -> dict[str, Check]:
    """All that the database knows in one transaction. A connection that it closed meanwhile is worth a second try."""
    began = time.monotonic()
    for _ in range(_TRIES):
        try:
            with context.database.impatient().session() as session:
                migrated = _migrations(session)
                scheduler = _scheduler(context, session, now=now)
            return {"database": Check(ok=True, detail="It answers."), "migrations": migrated, "scheduler": scheduler}
        except SQLAlchemyError:
            if time.monotonic() - began > _AT_ONCE:
                break
    away = Check(ok=False, detail="The database does not answer.")
    return {"database": away, "migrations": away, "scheduler": away}


def _migrations(session: Session) -> Check:
    is_newest = revisions.newest() == set(session.execute(text("SELECT version_num FROM alembic_version")).scalars())
    return Check(ok=is_newest, detail="At the newest." if is_newest else "Not at the newest: run the migrations.")


def _broker(context: Context) -> Check:
    """Away, it delays the work until the next sweep that reaches it; it loses nothing."""
    if not context.settings.redis_url.startswith(("redis://", "rediss://", "unix://")):
        return Check(ok=True, detail="Not a Redis: not checked.")
    client = redis.Redis.from_url(
        context.settings.redis_url,
        socket_connect_timeout=BROKER_SECONDS,
        socket_timeout=BROKER_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        client.ping()
    except (redis.RedisError, OSError):
        return Check(ok=False, detail="It does not answer. Requests are kept and done once it is back.")
    finally:
        client.close()
    return Check(ok=True, detail="It answers.")


def _scheduler(context: Context, session: Session, *, now: datetime) -> Check:
    """Each periodic task by name: a beat may be alive whose patrol nobody does."""
    runs = last_runs(session)
    quiet = silent(runs, context.settings, now=now)
    oldest = min((run for run in runs.values() if run is not None), default=None)
    if not quiet:
        return Check(ok=True, detail="Every periodic task runs.", last_run_at=oldest)
    words = ", ".join(f"{name} (last run: {_moment(runs[name])})" for name in quiet)
    return Check(ok=False, detail=f"Silent for too long: {words}. Are beat and the workers alive?", last_run_at=oldest)


def _moment(at: datetime | None) -> str:
    return "never" if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"
