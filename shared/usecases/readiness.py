"""Is everything there that the service needs: the database, its migrations, the broker, a living scheduler?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import redis
from alembic.script import ScriptDirectory
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from shared.errors import Transient
from shared.models import PeriodicRun
from shared.models.database import alembic_config
from shared.usecases.context import Context

BROKER_SECONDS: Final = 0.5
SILENCE: Final = timedelta(seconds=60)
"""A scheduler that ran nothing for so long, and for five of its intervals, is taken for dead."""


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
    """Look at everything, in about half a second at worst when the broker is silent."""
    return Report(
        checks={
            "database": _asked(lambda: _database(context)),
            "migrations": _asked(lambda: _migrations(context)),
            "broker": _broker(context),
            "scheduler": _asked(lambda: _scheduler(context, now=now)),
        }
    )


def _asked(question: Callable[[], Check]) -> Check:
    try:
        return question()
    except (Transient, SQLAlchemyError):
        return Check(ok=False, detail="The database does not answer.")


def _database(context: Context) -> Check:
    with context.transaction() as session:
        session.execute(text("SELECT 1"))
    return Check(ok=True, detail="It answers.")


def _migrations(context: Context) -> Check:
    scripts = ScriptDirectory.from_config(alembic_config(context.settings.database_url))
    with context.transaction() as session:
        found = set(session.execute(text("SELECT version_num FROM alembic_version")).scalars())
    is_newest = found == set(scripts.get_heads())
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


def _scheduler(context: Context, *, now: datetime) -> Check:
    with context.transaction() as session:
        last = session.execute(select(func.max(PeriodicRun.last_run_at))).scalar_one()
    patience = max(SILENCE, 5 * context.settings.sweep_every)
    if last is None or now - last > patience:
        return Check(ok=False, detail="No periodic task has run lately: is the beat alive?", last_run_at=last)
    return Check(ok=True, detail="It runs.", last_run_at=last)
