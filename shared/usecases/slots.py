"""Quota slots: how many certificates an account may hold in a region, exact under concurrency.

A slot is a deployment with ``holds_slot``: nothing is counted up or down, so nothing can drift. The count is taken
under a transaction-level advisory lock for each (account, region, type), before anything is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from shared.config.regions import Quota
from shared.models import Deployment


def reserve(session: Session, deployments: Sequence[Deployment], quotas: dict[str, Quota]) -> list[Deployment]:
    """Give each deployment of one certificate a slot in its region while there are any; returns those without one.

    Locks are taken in one global order, so that two jobs never wait for each other in a circle.
    """
    wanting = [deployment for deployment in deployments if not deployment.holds_slot]
    if not wanting:
        return []
    _lock(session, wanting)
    used = _used(session, wanting)
    refused = []
    for deployment in wanting:
        if used.get(deployment.region, 0) >= limit(quotas[deployment.region], deployment.certificate_type):
            refused.append(deployment)
        else:
            deployment.holds_slot = True
    return refused


def limit(quota: Quota, certificate_type: str) -> int:
    """The region's limit for this type."""
    return quota.ca if certificate_type == "ca" else quota.server


def _lock(session: Session, deployments: Sequence[Deployment]) -> None:
    keys = sorted({_key(deployment) for deployment in deployments})
    session.execute(
        text(
            "SELECT pg_advisory_xact_lock(k) FROM (SELECT unnest(CAST(:keys AS bigint[])) AS k ORDER BY 1) AS ordered"
        ),
        {"keys": keys},
    )


def _key(deployment: Deployment) -> int:
    name = f"slot/{deployment.account_id}/{deployment.region}/{deployment.certificate_type}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _used(session: Session, deployments: Sequence[Deployment]) -> dict[str, int]:
    first = deployments[0]
    statement = (
        select(Deployment.region, func.count())
        .where(
            Deployment.account_id == first.account_id,
            Deployment.certificate_type == first.certificate_type,
            Deployment.region.in_([deployment.region for deployment in deployments]),
            Deployment.holds_slot,
        )
        .group_by(Deployment.region)
    )
    return dict(session.execute(statement).all())
