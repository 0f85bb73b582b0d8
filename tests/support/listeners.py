"""Listeners on balancers in memory, put there as the API would: a row, its host names, and a job."""

from __future__ import annotations

from collections.abc import Sequence

from shared.domain.identifiers import new_id
from shared.domain.listeners import ListenerState
from shared.domain.rollout import JobKind
from shared.models import Certificate, Listener, ListenerHost
from shared.usecases import jobs
from tests.support.fleet import Fleet


def add_listener(fleet: Fleet, region: str, hosts: Sequence[str], *, server: str, ca: str | None = None) -> str:
    """A new listener, due at once; run the fleet to have it bound. Its id."""
    with fleet.transaction() as session:
        certificate = session.get_one(Certificate, server)
        job = jobs.open_job(session, certificate, JobKind.CREATE_LISTENER, now=fleet.now)
        listener = Listener(
            id=new_id("lsn"),
            account_id=certificate.account_id,
            region=region,
            name=hosts[0],
            hosts=sorted(hosts),
            authentication="mutual" if ca else "one_way",
            server_certificate_id=server,
            ca_certificate_id=ca,
            revision=0,
            served="not_checked",
            fence=0,
            created_at=fleet.now,
        )
        jobs.assign_listener(session, job, listener, state=ListenerState.PENDING, now=fleet.now)
        session.add_all(ListenerHost(region=region, host=host, listener_id=listener.id) for host in hosts)
        jobs.announce_listener(session, job, listener, now=fleet.now)
        return listener.id


def listener_of(fleet: Fleet, listener_id: str) -> Listener:
    """The row as it is now."""
    with fleet.transaction() as session:
        return session.get_one(Listener, listener_id)
