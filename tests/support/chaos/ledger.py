"""The ledger: what was promised, what the database says, and what the outside saw, held against each other."""

from __future__ import annotations

import email
import email.policy
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from shared.domain.rollout import FINAL_JOBS, DeploymentState, settle
from shared.models import Certificate, Deployment, Event, Job, JobDeployment, Reminder, WebhookDelivery
from shared.usecases.driver import Snapshot
from shared.usecases.driver_registry import build_driver
from shared.usecases.periodic import Periodic, last_runs
from tests.support.chaos.customers import Accepted
from tests.support.chaos.stack import ChaosStack
from tests.support.drivers.certfleet_chaos_driver import read_journal
from tests.support.receiver import Received, Reply

FIRST_FAILURE: Final = 300
LEASED: Final[tuple[Any, ...]] = (Job, Deployment, WebhookDelivery, Reminder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What receivers and people got. ``replies``: how each request was answered, in order; then always well."""

    received: Sequence[Received]
    replies: Sequence[Reply]
    mailbox: Path

    def delivered(self) -> dict[str, list[bytes]]:
        """The bodies that were answered well, by ``webhook-id``."""
        found: dict[str, list[bytes]] = defaultdict(list)
        for request, reply in zip(self.received, chain(self.replies, repeat(Reply())), strict=False):
            if reply.status < FIRST_FAILURE and not reply.hang:
                found[request.headers["webhook-id"]].append(request.body)
        return found

    def mails(self) -> Counter[tuple[str, str]]:
        """How often each mail came, by recipient and Message-ID."""
        read = [email.message_from_bytes(file.read_bytes(), policy=email.policy.default) for file in self._files()]
        return Counter((str(mail["Delivered-To"]), str(mail["Message-ID"])) for mail in read)

    def _files(self) -> list[Path]:
        return sorted(self.mailbox.glob("*.eml"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Each list names what went wrong; the figures say how much there was to go wrong."""

    jobs: Counter[str]
    deployments: int
    events: int
    webhooks_again: int
    mails: int
    mails_again: int
    lost: list[str] = field(default_factory=list)
    """Promised, and not in a final state, or not there at all."""
    untrue: list[str] = field(default_factory=list)
    """The database says one thing of a region, the region another."""
    doubled: list[str] = field(default_factory=list)
    """One content under two names in a region."""
    unheard: list[str] = field(default_factory=list)
    """Events that a receiver never took, or that changed between two attempts."""
    reminders: list[str] = field(default_factory=list)
    """Reminders that are missing, or were sent twice."""

    def wrong(self) -> list[str]:
        """Everything, each with its kind in front."""
        kinds = ("lost", "untrue", "doubled", "unheard", "reminders")
        return [f"{kind}: {one}" for kind in kinds for one in getattr(self, kind)]

    def idle(self, *, deeds: int) -> list[str]:
        """Why a run of so many deeds proves little; seven of ten deeds are submissions, which nobody refuses."""
        jobs = self.jobs.total()
        found = [
            (jobs * 3 >= deeds, f"{jobs} jobs of {deeds} deeds were accepted"),
            (self.deployments >= jobs / 2, f"{self.deployments} deployments of {jobs} jobs"),
            (self.events > jobs, f"{self.events} events of {jobs} jobs were heard"),
            (self.mails > 0, "nobody was reminded of anything"),
        ]
        return [problem for is_busy, problem in found if not is_busy]


def read_ledger(stack: ChaosStack, accepted: Accepted, outside: Outside) -> Report:
    """Hold everything against everything; run it when nothing moves any more (see :func:`unsettled`)."""
    snapshots = _snapshots(stack)
    delivered, mails = outside.delivered(), outside.mails()
    with stack.context.transaction() as session:
        jobs = session.execute(select(Job)).scalars().all()
        return Report(
            jobs=Counter(job.state for job in jobs),
            deployments=len(session.execute(select(Deployment.id)).scalars().all()),
            events=len(delivered),
            webhooks_again=sum(len(bodies) - 1 for bodies in delivered.values()),
            mails=len(mails),
            mails_again=sum(mails.values()) - len(mails),
            lost=[*_lost_jobs(jobs, accepted), *accepted.unanswered],
            untrue=[*_untrue_regions(session, snapshots), *_untrue_jobs(session, jobs)],
            doubled=_doubled(stack, snapshots),
            unheard=_unheard(session, delivered),
            reminders=_wrong_reminders(session, accepted, mails, kills=stack.kills.get("courier", 0)),
        )


def unsettled(stack: ChaosStack) -> list[str]:
    """What is still due, and where a region and its rows differ; empty: read the ledger."""
    found = []
    with stack.context.transaction() as session:
        for model in LEASED:
            rows = session.execute(select(model).where(model.next_attempt_at.is_not(None))).scalars().all()
            found += [f"{row.id} is {row.state}, attempt {row.attempt}, due {row.next_attempt_at}" for row in rows]
        drifted = [row for row in session.execute(select(Deployment)).scalars() if row.drift]  # its null may be JSON's
        found += [f"{row.id} in {row.region}: {row.drift}" for row in drifted]
        if not _is_scanned(session):
            found.append("no scan for reminders since the last job ended")
        return found + _untrue_regions(session, _snapshots(stack))  # the patrol takes leftovers away


def _snapshots(stack: ChaosStack) -> dict[str, Snapshot]:
    return {name: build_driver(stack.context.settings.regions[name]).snapshot() for name in stack.regions}


def _is_scanned(session: Session) -> bool:
    ended = session.execute(select(func.max(Job.finished_at))).scalar_one_or_none()
    scanned = last_runs(session)[Periodic.REMINDERS]
    return ended is None or (scanned is not None and scanned > ended)


def _lost_jobs(jobs: Sequence[Job], accepted: Accepted) -> list[str]:
    known = {job.id for job in jobs}
    missing = [f"{job_id} was accepted and is not there" for job_id in accepted.jobs if job_id not in known]
    return missing + [f"{job.id} is still {job.state}" for job in jobs if job.state not in FINAL_JOBS]


def _untrue_regions(session: Session, snapshots: dict[str, Snapshot]) -> list[str]:
    """A row that is ``failed`` and keeps its quota slot says that nobody knows: the object may be there or not."""
    rows = session.execute(
        select(Deployment, Certificate.fingerprint_sha256)
        .join(Certificate, Certificate.id == Deployment.certificate_id)
        .where(or_(Deployment.state == DeploymentState.DEPLOYED, Deployment.holds_slot))
    ).all()
    known = {(row.region, row.certificate_id, fingerprint): row.state for row, fingerprint in rows}
    said = {where for where, state in known.items() if state == DeploymentState.DEPLOYED}
    held = {
        (region, one.ref.name.certificate_id, one.fingerprint_sha256)
        for region, snapshot in snapshots.items()
        for one in snapshot.objects
    }
    return [
        *(f"{where[1]} is said to be deployed in {where[0]} and is not there" for where in sorted(said - held)),
        *(f"{where[1]} lies in {where[0]} and nobody says so" for where in sorted(held - known.keys(), key=str)),
        *(f"{one.subject} in {name}: {one.kind}" for name, found in snapshots.items() for one in found.anomalies),
    ]


def _untrue_jobs(session: Session, jobs: Sequence[Job]) -> list[str]:
    answers: dict[str, list[str | None]] = defaultdict(list)
    for row in session.execute(select(JobDeployment)).scalars():
        answers[row.job_id].append(row.state)
    return [
        f"{job.id} is {job.state}, and its regions answered {answers[job.id]}"
        for job in jobs
        if job.state in FINAL_JOBS and job.id in answers and settle(answers[job.id]) != job.state
    ]


def _doubled(stack: ChaosStack, snapshots: dict[str, Snapshot]) -> list[str]:
    found = []
    for name, snapshot in snapshots.items():
        labels: dict[str, set[str]] = defaultdict(set)
        for change in read_journal(stack.place / f"{name}.journal"):
            labels[change.certificate_id].add(change.label)
        for held in snapshot.objects:
            labels[held.ref.name.certificate_id].add(held.ref.name.label)
        found += [f"{one} in {name}: {sorted(names)}" for one, names in labels.items() if len(names) > 1]
    return found


def _unheard(session: Session, delivered: dict[str, list[bytes]]) -> list[str]:
    events = session.execute(select(Event).order_by(Event.sequence)).scalars().all()
    gaps = [f"event {n} is missing in the log" for n in _gaps([event.sequence for event in events])]
    missing = [f"{event.id} ({event.type}) never came" for event in events if event.id not in delivered]
    changed = [f"{name} came in several versions" for name, bodies in delivered.items() if len(set(bodies)) > 1]
    return gaps + missing + changed


def _gaps(numbers: Sequence[int]) -> list[int]:
    return sorted(set(range(1, len(numbers) + 1)) - set(numbers))


def _wrong_reminders(session: Session, accepted: Accepted, mails: Counter[tuple[str, str]], *, kills: int) -> list[str]:
    """A mail whose sender was killed before it could note it goes again under the same Message-ID: once a kill."""
    live = set(session.execute(select(Certificate.id).where(Certificate.state == "valid")).scalars())
    rows = session.execute(select(Reminder).where(Reminder.recipient != "")).scalars().all()
    sent: dict[tuple[str, str], list[str | None]] = defaultdict(list)
    for row in rows:
        sent[row.certificate_id, row.recipient].append(row.message_id)
    wrong = [f"{key} has {len(ids)} reminders" for key, ids in sent.items() if len(ids) > 1]
    for certificate_id, contact in accepted.reminded.items():
        if certificate_id in live and not sent[certificate_id, contact]:
            wrong.append(f"{contact} was never told about {certificate_id}")
    wrong += [f"{row.id} is {row.state} and no mail came" for row in rows if _is_silent(row, mails)]
    people = Counter(recipient for recipient, _ in mails)
    wrong += [f"{recipient} got {count} different mails" for recipient, count in people.items() if count > 1]
    again = sum(mails.values()) - len(mails)
    return [*wrong, *([f"{again} mails came again after {kills} kills"] if again > kills else [])]


def _is_silent(row: Reminder, mails: Counter[tuple[str, str]]) -> bool:
    return row.state == "sent" and not mails[row.recipient, str(row.message_id)]
