"""Renewal without being asked to: when it is due, once, by certificate or account, and again a day after a failure."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from shared.errors import AuthRefused
from shared.models import Account, AuditEntry, Certificate
from shared.usecases.accounts import set_renewal
from shared.usecases.source_scan import scan
from tests.support.api import Api, answer
from tests.support.fleet import Fleet
from tests.support.managed import jobs_of, pick, renew, served
from tests.support.memory_sources import MemoryService

DAY = timedelta(days=1)


def account_renews(fleet: Fleet, *, auto_renew: bool, before_days: int | None = None) -> None:
    with fleet.transaction() as session:
        account = session.get_one(Account, fleet.caller.account_id)
        set_renewal(account, auto_renew=auto_renew, before_days=before_days)


def look(fleet: Fleet) -> int:
    begun = scan(fleet.context, now=fleet.now)
    fleet.run()
    return begun


def test_a_third_of_the_life_before_the_end_it_is_renewed_once(fleet: Fleet, service: MemoryService) -> None:
    old, _ = served(fleet, service)
    account_renews(fleet, auto_renew=True)
    fleet.pass_time(59 * DAY)
    assert look(fleet) == 0
    fleet.pass_time(5 * DAY)
    assert (look(fleet), look(fleet)) == (1, 0)
    (job,) = jobs_of(fleet, "renew")
    assert job.state == "succeeded"
    assert fleet.certificate(old).replaced_by_id == job.certificate_id
    with fleet.transaction() as session:
        entry = session.execute(select(AuditEntry).where(AuditEntry.action == "certificate.renewed")).scalar_one()
        assert (entry.actor, entry.target) == ("certfleet", old)


def test_one_that_cannot_be_judged_stops_none_of_those_after_it(fleet: Fleet, service: MemoryService) -> None:
    bad, _ = served(fleet, service, "a.example.com")
    good, _ = served(fleet, service, "b.example.com")
    account_renews(fleet, auto_renew=True)
    with fleet.transaction() as session:
        session.get_one(Certificate, bad).managed_certificate_id = "of a later release"
    fleet.pass_time(64 * DAY)
    assert look(fleet) == 1
    (job,) = jobs_of(fleet, "renew")
    assert fleet.certificate(good).replaced_by_id == job.certificate_id


def test_nobody_renews_who_was_not_told_to(fleet: Fleet, service: MemoryService) -> None:
    served(fleet, service)
    fleet.pass_time(89 * DAY)
    assert look(fleet) == 0


def test_a_certificate_says_otherwise_than_its_account(api: Api, fleet: Fleet, service: MemoryService) -> None:
    _, never = pick(fleet, service.issue("a.example.com").id)
    _, early = pick(fleet, service.issue("b.example.com").id)
    fleet.run()
    account_renews(fleet, auto_renew=True, before_days=30)
    assert api.client.patch(f"/v1/certificates/{never}", {"auto_renew": False}).status_code == 200
    shown = answer(api.client.patch(f"/v1/certificates/{early}", {"renew_before_days": 40}))
    assert (shown["auto_renew"], shown["renew_before_days"]) == (None, 40)
    fleet.pass_time(55 * DAY)
    assert look(fleet) == 1
    fleet.pass_time(8 * DAY)
    assert look(fleet) == 0
    (job,) = jobs_of(fleet, "renew")
    renewed = fleet.certificate(job.certificate_id)
    assert (renewed.replaces_id, renewed.renew_before_days) == (early, 40)


def test_a_failure_is_tried_again_a_day_later(fleet: Fleet, service: MemoryService) -> None:
    served(fleet, service)
    account_renews(fleet, auto_renew=True, before_days=30)
    service.faults.add("renew", AuthRefused)
    fleet.pass_time(64 * DAY)
    assert (look(fleet), look(fleet)) == (1, 0)
    fleet.pass_time(DAY)
    assert look(fleet) == 1
    assert [job.state for job in jobs_of(fleet, "renew")] == ["failed", "succeeded"]


def test_what_somebody_is_renewing_is_left_to_him(fleet: Fleet, service: MemoryService) -> None:
    service.is_slow = True
    old, _ = served(fleet, service)
    account_renews(fleet, auto_renew=True, before_days=30)
    fleet.pass_time(64 * DAY)
    renew(fleet, old)
    assert look(fleet) == 0
