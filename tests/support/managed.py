"""Certificates of a memory service in a fleet: picked, served, renewed."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from shared.domain.certificates import CertificateSource
from shared.models import Acquisition, Job
from shared.usecases.renewal import renew_certificate
from shared.usecases.source_scan import scan
from shared.usecases.submission import NewCertificate
from shared.usecases.sweep import sweep
from tests.support.fleet import REGIONS, Fleet, new_upload
from tests.support.listeners import add_listener
from tests.support.memory_sources import MemoryService

HOST = "www.example.com"


def pick(fleet: Fleet, offer_id: str, *, regions: tuple[str, ...] = REGIONS, **overrides: object) -> tuple[str, str]:
    """Submit a certificate of the service; job id and certificate id."""
    return fleet.submit(managed_upload(f"memory:{offer_id}", regions=regions, **overrides))


def managed_upload(managed_id: str, **overrides: object) -> NewCertificate:
    """A request for a certificate of a service."""
    return new_upload(
        source=CertificateSource.MANAGED, certificate=None, managed_certificate_id=managed_id, **overrides
    )


def served(
    fleet: Fleet, service: MemoryService, host: str = HOST, *, life: timedelta | None = None
) -> tuple[str, dict[str, str]]:
    """A certificate of the service that every region serves to the host, and each region's listener."""
    _, certificate_id = pick(fleet, service.issue(host, life=life).id)
    fleet.run()
    listeners = {region: add_listener(fleet, region, [host], server=certificate_id) for region in REGIONS}
    fleet.run()
    return certificate_id, listeners


def renew(fleet: Fleet, certificate_id: str) -> tuple[str, str]:
    """Ask for a renewal; job id and the new certificate's id."""
    with fleet.transaction() as session:
        job, new = renew_certificate(fleet.context, session, fleet.caller, certificate_id, now=fleet.now)
        return job.id, new.id


def acquisition_of(fleet: Fleet, job_id: str) -> Acquisition:
    with fleet.transaction() as session:
        return session.execute(select(Acquisition).where(Acquisition.job_id == job_id)).scalar_one()


def jobs_of(fleet: Fleet, kind: str) -> list[Job]:
    with fleet.transaction() as session:
        return list(session.execute(select(Job).where(Job.kind == kind).order_by(Job.id)).scalars())


def list_anew(fleet: Fleet) -> None:
    """Have every declared service listed."""
    scan(fleet.context, now=fleet.now)
    fleet.run()


def wait(fleet: Fleet, *, step: timedelta = timedelta(minutes=11), rounds: int = 1) -> None:
    """Let time pass, and everything happen that is due then."""
    for _ in range(rounds):
        fleet.pass_time(step)
        sweep(fleet.context, now=fleet.now)
        fleet.run()
