"""Look at certificates and jobs: lists with filters, and one by one. Never across accounts, never a key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, exists, func, or_, select
from sqlalchemy.orm import Session

from shared.domain.answers import Hold
from shared.domain.certificates import CertificateState
from shared.domain.rollout import DeploymentState
from shared.errors import NotFound
from shared.models import Certificate, Deployment, Job, JobDeployment, JobListener, Listener
from shared.usecases.paging import Order, Page, PageRequest, read_page
from shared.usecases.submission import Submitted
from shared.usecases.tokens import Caller

Document = dict[str, Any]

_FAR: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""Sorts certificates without a notAfter behind all others."""

_CERTIFICATE_FIELDS: Final = (
    *("id", "name", "type", "source", "state", "common_name", "names", "subject", "issuer", "serial"),
    *("not_before", "not_after", "key_algorithm", "fingerprint_sha1", "fingerprint_sha256", "chain", "findings"),
    *("contacts", "tags", "reminders_muted", "reminder_thresholds", "created_at", "managed_certificate_id"),
    *("auto_renew", "renew_before_days"),
)
_DEPLOYMENT_FIELDS: Final = (
    *("region", "state", "intent", "attempt", "error", "remote_id", "evidence", "drift", "job_id", "deployed_at"),
    "updated_at",
)
_JOB_FIELDS: Final = (
    *("id", "kind", "state", "certificate_id", "error", "findings", "created_at", "started_at", "finished_at"),
    "cancel_requested_at",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFilters:
    """What to list. ``state`` is one of the certificate or of any of its deployments: no word is in both."""

    type: str | None = None
    region: str | None = None
    state: str | None = None
    expires_before: datetime | None = None
    q: str | None = None
    sort: str = "-created"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilters:
    """What to list."""

    state: str | None = None
    kind: str | None = None
    certificate_id: str | None = None


def list_certificates(
    session: Session, caller: Caller, filters: CertificateFilters, page: PageRequest
) -> Page[Document]:
    """The account's certificates that match, deleted ones never.

    Raises:
        Rejected: the cursor does not belong to this list.
    """
    statement = _filtered_certificates(_own_certificates(caller), filters)
    found = read_page(session, statement, _certificate_order(filters.sort), page)
    return Page(items=_certificate_documents(session, found.items), next_cursor=found.next_cursor)


def get_certificate(session: Session, caller: Caller, certificate_id: str) -> Document:
    """One certificate with its deployments.

    Raises:
        NotFound: none of that id in this account, or deleted.
    """
    return certificate_document(session, find_certificate(session, caller, certificate_id))


def find_certificate(session: Session, caller: Caller, certificate_id: str, *, lock: bool = False) -> Certificate:
    """The caller's certificate; with ``lock`` two requests about one certificate go one after the other.

    Rows that refer to it are left alone (FOR NO KEY UPDATE): a worker that writes one of those need not wait.

    Raises:
        NotFound: none of that id in this account, or deleted.
    """
    statement = _own_certificates(caller).where(Certificate.id == certificate_id)
    if lock:
        statement = statement.with_for_update(key_share=True)
    certificate = session.execute(statement).scalar_one_or_none()
    if certificate is None:
        raise NotFound("There is no such certificate.", hint="GET /v1/certificates lists yours.")
    return certificate


def certificate_or_none(session: Session, caller: Caller, certificate_id: str) -> Document | None:
    """The same, for whoever shows what refers to it: it may be deleted."""
    found = session.execute(_own_certificates(caller).where(Certificate.id == certificate_id)).scalar_one_or_none()
    return certificate_document(session, found) if found else None


def certificate_document(session: Session, certificate: Certificate) -> Document:
    """What is answered about a certificate."""
    return _certificate_documents(session, [certificate])[0]


def get_certificates(session: Session, caller: Caller, certificate_ids: Iterable[str]) -> list[Document]:
    """Several of the account's certificates with their deployments, by name; those that there are not are left out."""
    wanted = _own_certificates(caller).where(Certificate.id.in_(set(certificate_ids)))
    rows = session.execute(wanted.order_by(func.lower(Certificate.name), Certificate.id)).scalars()
    return _certificate_documents(session, rows)


def names_of_certificates(session: Session, caller: Caller, certificate_ids: Iterable[str]) -> dict[str, str]:
    """What the account's certificates are called, by id; deleted ones, and others', are left out."""
    wanted = _own_certificates(caller).where(Certificate.id.in_(set(certificate_ids)))
    return {row[0]: row[1] for row in session.execute(wanted.with_only_columns(Certificate.id, Certificate.name))}


def list_jobs(session: Session, caller: Caller, filters: JobFilters, page: PageRequest) -> Page[Document]:
    """The account's jobs that match, newest first.

    Raises:
        Rejected: the cursor does not belong to this list.
    """
    statement = select(Job).where(Job.account_id == caller.account_id)
    if filters.state is not None:
        statement = statement.where(Job.state == filters.state)
    if filters.kind is not None:
        statement = statement.where(Job.kind == filters.kind)
    if filters.certificate_id is not None:
        statement = statement.where(Job.certificate_id == filters.certificate_id)
    found = read_page(session, statement, Order(id=Job.id, descending=True), page)
    return Page(items=_job_documents(session, found.items), next_cursor=found.next_cursor)


def get_job(session: Session, caller: Caller, job_id: str) -> Document:
    """One job with what it achieved in each region.

    Raises:
        NotFound: none of that id in this account.
    """
    return job_document(session, find_job(session, caller, job_id))


def find_job(session: Session, caller: Caller, job_id: str, *, lock: bool = False) -> Job:
    """The caller's job; with ``lock`` its row is held to the transaction's end.

    Raises:
        NotFound: none of that id in this account.
    """
    statement = select(Job).where(Job.id == job_id, Job.account_id == caller.account_id)
    if lock:
        statement = statement.with_for_update(key_share=True)
    job = session.execute(statement).scalar_one_or_none()
    if job is None:
        raise NotFound("There is no such job.", hint="GET /v1/jobs lists yours.")
    return job


def job_document(session: Session, job: Job) -> Document:
    """What is answered about a job."""
    return _job_documents(session, [job])[0]


def _own_certificates(caller: Caller) -> Select[Certificate]:
    return select(Certificate).where(
        Certificate.account_id == caller.account_id, Certificate.state != CertificateState.DELETED
    )


def _filtered_certificates(statement: Select[Certificate], filters: CertificateFilters) -> Select[Certificate]:
    if filters.type is not None:
        statement = statement.where(Certificate.type == filters.type)
    if filters.expires_before is not None:
        statement = statement.where(Certificate.not_after < filters.expires_before)
    if filters.q is not None:
        statement = statement.where(mentions(filters.q))
    if filters.state in set(CertificateState):
        statement = statement.where(Certificate.state == filters.state)
    return _filtered_by_deployment(statement, filters)


def _filtered_by_deployment(statement: Select[Certificate], filters: CertificateFilters) -> Select[Certificate]:
    state = filters.state if filters.state in set(DeploymentState) else None
    if state is None and filters.region is None:
        return statement
    wanted: list[ColumnElement[bool]] = [Deployment.certificate_id == Certificate.id]
    wanted.append(Deployment.state == state if state else Deployment.state != DeploymentState.REMOVED)
    if filters.region is not None:
        wanted.append(Deployment.region == filters.region)
    return statement.where(exists().where(*wanted))


def mentions(q: str) -> ColumnElement[bool]:
    """Case does not matter; ``%`` and ``_`` mean themselves."""
    escaped = q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    columns = (Certificate.name, Certificate.common_name, func.array_to_string(Certificate.names, "\n"))
    return or_(*(column.ilike(f"%{escaped}%", escape="\\") for column in columns))


def _certificate_order(sort: str) -> Order:
    descending = sort.startswith("-")
    if sort.endswith("name"):
        return Order(id=Certificate.id, descending=descending, key=func.lower(Certificate.name))
    if sort.endswith("expires"):
        key = func.coalesce(Certificate.not_after, _FAR)
        return Order(
            id=Certificate.id,
            descending=descending,
            key=key,
            write=lambda moment: moment.isoformat(),
            read=datetime.fromisoformat,
        )
    return Order(id=Certificate.id, descending=descending)


def _certificate_documents(session: Session, certificates: Iterable[Certificate]) -> list[Document]:
    rows = list(certificates)
    deployments = _deployments_by_certificate(session, [row.id for row in rows])
    return [_certificate_document(row, deployments[row.id]) for row in rows]


def _certificate_document(row: Certificate, deployments: list[Document]) -> Document:
    return {
        **{name: getattr(row, name) for name in _CERTIFICATE_FIELDS},
        "replaces": row.replaces_id,
        "replaced_by": row.replaced_by_id,
        "reminders": _reminders_document(row),
        "deployments": deployments,
    }


def _reminders_document(row: Certificate) -> Document:
    """What people have answered to its reminders."""
    hold = Hold(acknowledged_at=row.reminders_acknowledged_at, snoozed_until=row.reminders_snoozed_until)
    return {
        "muted": row.reminders_muted,
        "acknowledged_at": row.reminders_acknowledged_at,
        "acknowledged_by": row.reminders_acknowledged_by,
        "snoozed_until": row.reminders_snoozed_until,
        "snoozed_by": row.reminders_snoozed_by,
        "held_until": hold.until(row.not_after) if row.not_after else None,
    }


def _deployments_by_certificate(session: Session, certificate_ids: list[str]) -> dict[str, list[Document]]:
    found: dict[str, list[Document]] = defaultdict(list)
    statement = select(Deployment).where(Deployment.certificate_id.in_(certificate_ids)).order_by(Deployment.region)
    for row in session.execute(statement).scalars():
        found[row.certificate_id].append(_deployment_document(row))
    return found


def _deployment_document(row: Deployment) -> Document:
    document = {name: getattr(row, name) for name in _DEPLOYMENT_FIELDS}
    document["served"] = {"state": row.served, "checked_at": row.served_checked_at}
    return document


def submitted_documents(submitted: Submitted) -> tuple[Document, Document]:
    """The job and the certificate that a submission has just made, without asking the database for them again."""
    regions = [_region_document(row.region, row) for row in submitted.deployments]
    deployments = [_deployment_document(row) for row in submitted.deployments]
    return _job_document(submitted.job, regions, []), _certificate_document(submitted.certificate, deployments)


def _job_documents(session: Session, jobs: Iterable[Job]) -> list[Document]:
    rows = list(jobs)
    ids = [row.id for row in rows]
    regions, listeners = _regions_by_job(session, ids), _listeners_by_job(session, ids)
    return [_job_document(row, regions[row.id], listeners[row.id]) for row in rows]


def _job_document(row: Job, regions: list[Document], listeners: list[Document]) -> Document:
    return {**{name: getattr(row, name) for name in _JOB_FIELDS}, "deployments": regions, "listeners": listeners}


def _listeners_by_job(session: Session, job_ids: list[str]) -> dict[str, list[Document]]:
    """As with regions: an answer that was given shows for ever."""
    found: dict[str, list[Document]] = defaultdict(list)
    statement = (
        select(JobListener, Listener)
        .join(Listener, Listener.id == JobListener.listener_id)
        .where(JobListener.job_id.in_(job_ids))
        .order_by(Listener.id)
    )
    for recorded, live in session.execute(statement).all():
        source: JobListener | Listener = live if recorded.state is None else recorded
        document = {"listener_id": live.id, "region": live.region, "name": live.name}
        found[recorded.job_id].append(
            {**document, "state": source.state, "attempt": source.attempt, "error": source.error}
        )
    return found


def _regions_by_job(session: Session, job_ids: list[str]) -> dict[str, list[Document]]:
    """A region that has answered this job shows that answer for ever; one still at work shows where it is."""
    found: dict[str, list[Document]] = defaultdict(list)
    statement = (
        select(JobDeployment, Deployment)
        .join(Deployment, Deployment.id == JobDeployment.deployment_id)
        .where(JobDeployment.job_id.in_(job_ids))
        .order_by(Deployment.region)
    )
    for recorded, live in session.execute(statement).all():
        source: JobDeployment | Deployment = live if recorded.state is None else recorded
        found[recorded.job_id].append(_region_document(live.region, source))
    return found


def _region_document(region: str, source: JobDeployment | Deployment) -> Document:
    return {"region": region, "state": source.state, "attempt": source.attempt, "error": source.error}
