"""Claim what is due in regions, and plan what is to be done with each: a transaction's work, the balancer not asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from shared.domain.retries import must_read_first
from shared.domain.rollout import DeploymentState, Intent, JobState
from shared.events.catalogue import EventType
from shared.events.log import Fact
from shared.models import Attempt, Certificate, Deployment, Job, Purpose, Secret, leases
from shared.usecases import attempts, jobs, switching
from shared.usecases.region_tools import Site
from shared.usecases.switching import Switch


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was claimed, and what is to be done with it."""

    deployment_id: str
    fence: int
    job_id: str
    intent: Intent
    remote_id: str | None
    label: str | None
    """What the object is called there, where it was learnt (``ObjectName.label``)."""
    certificate: Certificate
    """Read, not tracked: its content never changes."""
    key: Secret | None = field(repr=False)
    """The private key as it is kept, sealed."""
    is_last: bool
    """No attempt is left after this one."""
    is_exhausted: bool
    """No attempt is left, and the last one never answered: it took its worker with it."""
    must_read_first: bool
    """Nobody knows what the last attempt changed: it never answered, or its answer was lost."""
    switch: Switch | None
    """What the certificate replaces in this region, and which listeners move to it."""
    is_cancelled: bool
    """Nothing more is to be tried; what ``attempt`` attempts may have left is undone."""
    attempt: int

    @property
    def is_attempt(self) -> bool:
        """One more is being made."""
        return not self.is_exhausted and not self.is_cancelled

    @property
    def is_plain(self) -> bool:
        """Only to be staged: nothing is replaced, removed or given up."""
        return self.is_attempt and self.intent is Intent.DEPLOY and self.switch is None


@dataclass(slots=True, kw_only=True)
class Claimed:
    """The plans of each region; what is to be told of them, by account, and the attempts to be stored with it."""

    plans: dict[str, list[Plan]]
    told: dict[str, list[Fact]]
    attempts: list[Attempt]


def claim(
    session: Session, sites: Iterable[Site], limits: Mapping[str, int], *, now: datetime, lease: timedelta
) -> Claimed:
    """Begin what is due at the sites, at most so many in each region; nothing after the first listener that is due.

    The caller holds the balancers' rows, and tells what is to be told.
    """
    by_region = {site.region_id: site for site in sites}
    claimed = leases.claim_due(session, limits, now=now, lease=lease)
    rows = [row for each in claimed.values() for row in each]
    begun = Claimed(plans={region: [] for region in by_region}, told=defaultdict(list), attempts=[])
    for each in _joined(session, rows):
        if each.job.state != JobState.DEPLOYING:
            leases.due(each.deployment, now + jobs.NOT_BEFORE_VALIDATION)
            continue
        plan = _plan(session, by_region[each.deployment.region], each, now=now)
        begun.plans[each.deployment.region].append(plan)
        if plan.is_attempt:
            fact = jobs.region_fact(EventType.DEPLOYMENT_STARTED, each.deployment)
            begun.told[each.deployment.account_id].append(fact)
            begun.attempts.append(attempts.of_deployment(each.deployment, now=now))
    return begun


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joined:
    """A claimed row with what belongs to it."""

    deployment: Deployment
    job: Job
    certificate: Certificate
    key: Secret | None


def _joined(session: Session, deployments: Sequence[Deployment]) -> list[_Joined]:
    if not deployments:
        return []
    is_key = and_(
        Secret.subject_id == Certificate.id,
        Secret.purpose == Purpose.PRIVATE_KEY,
        Secret.account_id == Certificate.account_id,
    )
    statement = (
        select(Job, Certificate, Secret)
        .join(Certificate, Certificate.id == Job.certificate_id)
        .outerjoin(Secret, is_key)
        .where(Job.id.in_({deployment.job_id for deployment in deployments}))
    )
    found = {job.id: (job, certificate, key) for job, certificate, key in session.execute(statement).all()}
    return [
        _Joined(deployment=each, job=job, certificate=certificate, key=key)
        for each in deployments
        for job, certificate, key in [found[each.job_id]]
    ]


def _plan(session: Session, site: Site, claimed: _Joined, *, now: datetime) -> Plan:
    deployment, job, certificate = claimed.deployment, claimed.job, claimed.certificate
    max_attempts = site.retry_limits.max_attempts
    is_exhausted = deployment.attempt >= max_attempts
    is_cancelled = job.cancel_requested_at is not None and not has_moved(deployment)
    is_lost = bool(deployment.attempt) and attempts.lost(session, deployment, now=now)
    if not is_exhausted and not is_cancelled:
        _begin(deployment, now=now)
    intent = Intent(deployment.intent)
    replaces = intent is Intent.DEPLOY and certificate.replaces_id is not None
    return Plan(
        deployment_id=deployment.id,
        fence=deployment.fence,
        job_id=deployment.job_id,
        certificate=certificate,
        key=claimed.key,
        intent=intent,
        remote_id=deployment.remote_id,
        label=(deployment.evidence or {}).get("object"),
        is_last=deployment.attempt >= max_attempts,
        is_exhausted=is_exhausted,
        must_read_first=is_lost or must_read_first((deployment.error or {}).get("code")),
        switch=switching.plan_switch(session, deployment) if replaces else None,
        is_cancelled=is_cancelled,
        attempt=deployment.attempt,
    )


def has_moved(deployment: Deployment) -> bool:
    """Whether clients have the new certificate already, and only retiring the old one is left: that is finished."""
    return deployment.attempt > 0 and deployment.intent == Intent.DEPLOY and deployment.remote_id is not None


def _begin(deployment: Deployment, *, now: datetime) -> None:
    deployment.attempt += 1
    deployment.updated_at = now
    if deployment.intent == Intent.DEPLOY:
        deployment.state = DeploymentState.DEPLOYING
