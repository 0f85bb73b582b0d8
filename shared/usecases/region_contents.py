"""What an account has in each region: certificates and listeners, and how many of them somebody should look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, and_, func, select
from sqlalchemy.orm import Session

from shared.domain.listeners import ListenerState
from shared.domain.rollout import DeploymentState, ServedState
from shared.models import Deployment, Listener
from shared.usecases.tokens import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Counts of one region.

    ``moving``: on their way in or out. ``drifting``: not as deployed. ``unproven``: listeners at which clients last
    met something else, or nobody.
    """

    deployed: int = 0
    failed: int = 0
    moving: int = 0
    drifting: int = 0
    listeners: int = 0
    unproven: int = 0


NOTHING: Final = Contents()


def region_contents(session: Session, caller: Caller) -> Mapping[str, Contents]:
    """By region, of those where the account has or wants anything. Two statements."""
    deployments = {row.region: row for row in session.execute(_counted_deployments(caller)).all()}
    listeners = {row.region: row for row in session.execute(_counted_listeners(caller)).all()}
    return {
        region: _contents(deployments.get(region), listeners.get(region))
        for region in sorted({*deployments, *listeners})
    }


def _contents(deployments: Row[Any] | None, listeners: Row[Any] | None) -> Contents:
    return Contents(
        deployed=deployments.deployed if deployments else 0,
        failed=deployments.failed if deployments else 0,
        moving=deployments.moving if deployments else 0,
        drifting=deployments.drifting if deployments else 0,
        listeners=listeners.listeners if listeners else 0,
        unproven=listeners.unproven if listeners else 0,
    )


def _counted_deployments(caller: Caller) -> Any:
    """No drift is either SQL's null or JSON's."""
    states = Deployment.state
    at_rest = (DeploymentState.DEPLOYED, DeploymentState.FAILED)
    return (
        select(
            Deployment.region,
            _count(states == DeploymentState.DEPLOYED).label("deployed"),
            _count(states == DeploymentState.FAILED).label("failed"),
            _count(states.not_in(at_rest)).label("moving"),
            _count(Deployment.drift["code"].astext.is_not(None)).label("drifting"),
        )
        .where(Deployment.account_id == caller.account_id, states != DeploymentState.REMOVED)
        .group_by(Deployment.region)
    )


def _counted_listeners(caller: Caller) -> Any:
    wrong = Listener.served.in_([ServedState.MISMATCH, ServedState.UNREACHABLE])
    return (
        select(
            Listener.region,
            func.count().label("listeners"),
            _count(and_(wrong, Listener.state != ListenerState.FAILED)).label("unproven"),
        )
        .where(Listener.account_id == caller.account_id, Listener.deleted_at.is_(None))
        .group_by(Listener.region)
    )


def _count(condition: ColumnElement[bool]) -> Any:
    return func.count().filter(condition)
