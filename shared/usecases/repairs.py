"""Which repairs were made: kept in the deployment's evidence, so that a recovery does not make us forget them."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from shared.domain.repairs import may_repair, recent_repairs
from shared.models import Deployment

OBJECT: Final = "object"
"""The key of repairs of the staged object itself; those of a listener stand under its id."""


def take_repair(deployment: Deployment, thing: str, *, now: datetime) -> bool:
    """Whether ``thing`` may be put right once more now; counts it. The caller holds the deployment's row."""
    evidence = deployment.evidence or {}
    if "object" not in evidence:
        return False
    known = {key: _recent(times, now=now) for key, times in evidence.get("repairs", {}).items()}
    made = known.get(thing, [])
    if not may_repair(made, now=now):
        return False
    known[thing] = [*made, now]
    written = {key: [at.isoformat() for at in times] for key, times in known.items() if times}
    deployment.evidence = {**evidence, "repairs": written}
    return True


def _recent(times: list[str], *, now: datetime) -> list[datetime]:
    return recent_repairs((datetime.fromisoformat(at) for at in times), now=now)
