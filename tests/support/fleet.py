"""A fleet without Celery: a real database, real regions on disk, and wake-ups that a test runs when it wants."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from shared.config.regions import Quota, Region
from shared.config.settings import Settings
from shared.config.sources import CertificateService
from shared.crypto.vault import create_kek_file, load_vault
from shared.domain.certificates import CertificateSource, CertificateType
from shared.domain.scopes import ALL_SCOPES
from shared.models import Certificate, Deployment, Job
from shared.models.database import Database
from shared.usecases import rollout
from shared.usecases.accounts import create_account
from shared.usecases.acquiring import acquire
from shared.usecases.catalogue import refresh
from shared.usecases.context import Context
from shared.usecases.driver_registry import build_driver
from shared.usecases.proof import Prober
from shared.usecases.region_tools import DriverFor, RegionTools
from shared.usecases.region_work import work_in_region, work_in_region_of
from shared.usecases.source import Source
from shared.usecases.source_tools import SourceTools
from shared.usecases.submission import NewCertificate, submit_certificate
from shared.usecases.tokens import Caller, create_token
from shared.usecases.validation import validate_job
from shared.wakeups import Task, WakeUp
from tests.support import pki
from tests.support.memory_balancers import MemoryProber

REGIONS = ("cn-hangzhou", "eu-central-1", "us-west-1")


@dataclass(slots=True)
class WaitingRoom:
    """A publisher that keeps wake-ups until the test runs them. ``broken``: like a broker that is away."""

    waiting: deque[WakeUp] = field(default_factory=deque)
    broken: bool = False

    def publish(self, wake_ups: Iterable[WakeUp]) -> None:
        if not self.broken:
            self.waiting.extend(dict.fromkeys(wake_ups))


@dataclass(slots=True, kw_only=True)
class Fleet:
    """One account's view of a fleet, with a clock that the test turns."""

    context: Context
    room: WaitingRoom
    caller: Caller
    now: datetime
    driver_for: DriverFor = build_driver
    prober: Prober = field(default_factory=MemoryProber)
    sources: dict[str, Source] = field(default_factory=dict)
    """What stands behind the declared certificate services, by id."""

    @property
    def tools(self) -> RegionTools:
        """What work at a region uses; nothing is waited for, since no balancer here settles late."""
        return RegionTools(
            driver_for=self.driver_for, prober=self.prober, clock=lambda: self.now, settling=timedelta(0)
        )

    @property
    def source_tools(self) -> SourceTools:
        return SourceTools(source_for=lambda service: self.sources[service.id], clock=lambda: self.now)

    def work(self, deployment_id: str, *, driver_for: DriverFor | None = None) -> None:
        """Do what is due in the deployment's region, with the fleet's drivers or these."""
        tools = replace(self.tools, driver_for=driver_for or self.driver_for)
        work_in_region_of(self.context, tools, Deployment, deployment_id)

    def transaction(self) -> AbstractContextManager[Session]:
        return self.context.transaction()

    def submit(self, upload: NewCertificate) -> tuple[str, str]:
        """Job id and certificate id."""
        with self.transaction() as session:
            submitted = submit_certificate(self.context, session, self.caller, upload, now=self.now)
            return submitted.job.id, submitted.certificate.id

    def add(self, certificate_id: str, *regions: str) -> str:
        """Add regions; the job's id."""
        with self.transaction() as session:
            return rollout.add_regions(self.context, session, self.caller, certificate_id, regions, now=self.now).id

    def change(self, verb: Callable[..., Job], certificate_id: str, *where: object) -> str:
        """Retry or remove, by a use case of ``shared.usecases.rollout``; the job's id."""
        with self.transaction() as session:
            return verb(session, self.caller, certificate_id, *where, now=self.now).id

    def retry(self, certificate_id: str, region: str) -> str:
        return self.change(rollout.retry_region, certificate_id, region)

    def run(self) -> None:
        """Run every waiting acquisition, validation and deployment, and those that they wake."""
        others = []
        while self.room.waiting:
            wake_up = self.room.waiting.popleft()
            if wake_up.task is Task.VALIDATE:
                validate_job(self.context, wake_up.id, now=self.now)
            elif wake_up.task is Task.REGION:
                work_in_region(self.context, self.tools, wake_up.id)
            elif wake_up.task is Task.ACQUIRE:
                acquire(self.context, self.source_tools, wake_up.id)
            elif wake_up.task is Task.CATALOGUE:
                refresh(self.context, self.source_tools, wake_up.id)
            else:
                others.append(wake_up)
        self.room.waiting.extend(others)

    def pass_time(self, step: timedelta) -> None:
        self.now += step

    def job(self, job_id: str) -> Job:
        with self.transaction() as session:
            return session.get_one(Job, job_id)

    def certificate(self, certificate_id: str) -> Certificate:
        with self.transaction() as session:
            return session.get_one(Certificate, certificate_id)

    def deployments(self, certificate_id: str) -> dict[str, Deployment]:
        with self.transaction() as session:
            rows = session.query(Deployment).filter(Deployment.certificate_id == certificate_id)
            return {row.region: row for row in rows}


def region(place: Path, region_id: str, *, quota: int = 100, driver: str = "directory", **settings: object) -> Region:
    """A region of the directory driver below ``place``."""
    return Region(
        id=region_id,
        name=region_id,
        driver=driver,
        settings={"path": str(place / region_id), **settings},
        quota=Quota(server=quota, ca=quota),
    )


def build_fleet(
    database_url: str,
    place: Path,
    *,
    regions: Iterable[Region] = (),
    room: WaitingRoom | None = None,
    services: Iterable[CertificateService] = (),
) -> Fleet:
    """A fleet with one account; three directory regions unless told otherwise. Close ``context.database`` after use."""
    room = room or WaitingRoom()
    now = pki.NOW
    kek_file = place / "keks.json"
    create_kek_file(kek_file, now=now)
    declared = list(regions) or [region(place, name) for name in REGIONS]
    settings = Settings(
        database_url=database_url,
        redis_url="unix:///nowhere",
        kek_file=kek_file,
        regions={each.id: each for each in declared},
        sources={each.id: each for each in services},
    )
    context = Context(settings=settings, database=Database(database_url), vault=load_vault(kek_file), publisher=room)
    return Fleet(context=context, room=room, caller=new_caller(context, "default", now=now), now=now)


def new_caller(context: Context, name: str, *, now: datetime) -> Caller:
    """A caller of a new account with every scope."""
    with context.transaction() as session:
        account = create_account(session, context.vault, name=name, now=now)
        token, _ = create_token(session, account_id=account.id, name="test", scopes=ALL_SCOPES, now=now)
        return Caller(account_id=account.id, token_id=token.id, scopes=frozenset(ALL_SCOPES))


def server_upload(*names: str, regions: Iterable[str] = REGIONS, **overrides: object) -> NewCertificate:
    """A good server certificate with chain and key, valid at ``pki.NOW``."""
    issued = pki.server_with_chain(*(names or ("www.example.com",)))
    return new_upload(regions=regions, certificate=issued.chain_pem, private_key=issued.key_pem, **overrides)


def new_upload(**overrides: object) -> NewCertificate:
    """A request with sensible defaults."""
    defaults: dict[str, object] = {
        "name": None,
        "source": CertificateSource.THIRD_PARTY,
        "type": CertificateType.SERVER,
        "certificate": "",
        "private_key": None,
        "managed_certificate_id": None,
        "regions": REGIONS,
        "callback_url": None,
        "contacts": (),
        "tags": {},
    }
    merged = {**defaults, **overrides}
    merged["regions"] = tuple(merged["regions"])  # type: ignore[arg-type] # an iterable of region ids
    return NewCertificate(**merged)  # type: ignore[arg-type] # keyword overrides of a builder
