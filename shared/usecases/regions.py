"""Look at the regions: what they take, how much of the quota is used, how recent deployments went."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, func, not_, null, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from shared.config.regions import Region
from shared.domain.certificates import CertificateType
from shared.domain.rollout import DeploymentState
from shared.errors import NotFound
from shared.models import Balancer, Deployment
from shared.usecases import circuits
from shared.usecases.context import Context
from shared.usecases.driver_registry import capabilities_of
from shared.usecases.key_policies import effective_key_policy
from shared.usecases.tokens import Caller

NOT_THE_REGIONS_FAULT: Final = ("certificate_rejected", "quota_exceeded", "invalid_material", "in_use", "cancelled")
"""Errors of a deployment that say nothing about the region's health."""

Outcome = tuple[datetime, dict[str, Any] | None]


def list_regions(context: Context, session: Session, caller: Caller, *, now: datetime) -> list[dict[str, Any]]:
    """Every declared region as this account sees it, in the operator's order."""
    used = _used_slots(session, caller)
    successes = _last_successes(session, caller)
    failures = _last_failures(session, caller)
    balancers = {row.region: row for row in session.execute(select(Balancer)).scalars()}
    return [
        {
            **_document(region, used),
            "health": _health(successes.get(region.id), failures.get(region.id), balancers.get(region.id), now=now),
        }
        for region in context.settings.regions.values()
    ]


def get_region(context: Context, session: Session, caller: Caller, region_id: str, *, now: datetime) -> dict[str, Any]:
    """One of them.

    Raises:
        NotFound: none of that id is declared.
    """
    for document in list_regions(context, session, caller, now=now):
        if document["id"] == region_id:
            return document
    raise NotFound("There is no such region.", hint="GET /v1/regions lists them.")


def _document(region: Region, used: dict[tuple[str, str], int]) -> dict[str, Any]:
    capabilities = capabilities_of(region)
    limits = {"server": region.quota.server, "ca": region.quota.ca}
    return {
        "id": region.id,
        "name": region.name,
        "driver": region.driver,
        "listener_address": region.listener_address,
        "key_policy": sorted(effective_key_policy(region)),
        "ca_key_policy": sorted(effective_key_policy(region, CertificateType.CA)),
        "listeners": capabilities.listeners if capabilities else None,
        "mutual_auth": capabilities.listeners and capabilities.mutual_auth if capabilities else None,
        "quota": {kind: {"used": used.get((region.id, kind), 0), "limit": limit} for kind, limit in limits.items()},
    }


def _health(
    success: datetime | None, failure: Outcome | None, balancer: Balancer | None, *, now: datetime
) -> dict[str, Any]:
    """How deployments went, whether the load balancer answered the patrol, and whether it is left alone for now."""
    silence = (balancer.circuit_error or balancer.patrol_error) if balancer else None
    if silence is not None or (failure is not None and (success is None or failure[0] > success)):
        state = "failing"
    else:
        state = "unknown" if success is None else "ok"
    return {
        "state": state,
        "last_success_at": success,
        "last_answer_at": balancer.patrolled_at if balancer else None,
        "last_error": silence or (failure[1] if failure else None),
        "circuit": circuits.document(balancer, now=now),
    }


def _used_slots(session: Session, caller: Caller) -> dict[tuple[str, str], int]:
    statement = (
        select(Deployment.region, Deployment.certificate_type, func.count())
        .where(Deployment.account_id == caller.account_id, Deployment.holds_slot)
        .group_by(Deployment.region, Deployment.certificate_type)
    )
    return {(region, kind): count for region, kind, count in session.execute(statement).all()}


def _last_successes(session: Session, caller: Caller) -> dict[str, datetime]:
    """For each region when a deployment or removal last succeeded. Added up, not sorted: nearly all rows are such."""
    statement = (
        select(Deployment.region, func.max(_ended_at()))
        .where(Deployment.account_id == caller.account_id, _succeeded())
        .group_by(Deployment.region)
    )
    return {region: at for region, at in session.execute(statement).all() if at is not None}


def _last_failures(session: Session, caller: Caller) -> dict[str, Outcome]:
    """For each region the newest deployment that failed there: when, and its error."""
    at = _ended_at()
    statement = (
        select(Deployment.region, at, Deployment.error)
        .where(Deployment.account_id == caller.account_id, _failed(), at.is_not(None))
        .ext(distinct_on(Deployment.region))
        .order_by(Deployment.region, at.desc())
    )
    return {region: (moment, error) for region, moment, error in session.execute(statement).all()}


def _ended_at() -> ColumnElement[Any]:
    return case((Deployment.state == DeploymentState.DEPLOYED, Deployment.deployed_at), else_=Deployment.updated_at)


def _succeeded() -> ColumnElement[bool]:
    return and_(Deployment.state.in_([DeploymentState.DEPLOYED, DeploymentState.REMOVED]), not_(_has_error()))


def _failed() -> ColumnElement[bool]:
    return and_(_has_error(), Deployment.error["code"].astext.not_in(NOT_THE_REGIONS_FAULT))


def _has_error() -> ColumnElement[bool]:
    """No error is either SQL's null, which costs nothing to see and nearly every row has, or JSON's."""
    return and_(Deployment.error.is_not(null()), func.jsonb_typeof(Deployment.error) == "object")
