"""One-click renewal: issued anew once, everywhere in the old one's place, and the old one never gone too early."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from shared.errors import AuthRefused, Busy, Conflict, OutcomeUnknown, Unreachable
from shared.usecases import cancellation, rollout
from shared.usecases.acquiring import acquire
from tests.support.fleet import REGIONS, Fleet, server_upload
from tests.support.listeners import listener_of
from tests.support.managed import HOST, acquisition_of, renew, served, wait
from tests.support.memory_balancers import balancer
from tests.support.memory_sources import MemoryService

SICK = "eu-central-1"


def shown(host: str = HOST) -> dict[str, str | None]:
    return {region: balancer(region).shown_to(host) for region in REGIONS}


def fingerprint(fleet: Fleet, certificate_id: str) -> str | None:
    return fleet.certificate(certificate_id).fingerprint_sha256


def assert_renewed(fleet: Fleet, old: str, new: str, listeners: dict[str, str]) -> None:
    assert set(shown().values()) == {fingerprint(fleet, new)}
    assert {row.state for row in fleet.deployments(old).values()} == {"removed"}
    assert {(row.state, row.served) for row in fleet.deployments(new).values()} == {("deployed", "match")}
    assert {listener_of(fleet, one).server_certificate_id for one in listeners.values()} == {new}
    for region in REGIONS:
        assert len(balancer(region).snapshot().objects) == 1


def test_every_region_and_listener_gets_the_renewed_one_and_the_old_one_goes(
    fleet: Fleet, service: MemoryService
) -> None:
    old, listeners = served(fleet, service)
    fleet.pass_time(timedelta(days=60))
    job_id, new = renew(fleet, old)
    assert shown() == dict.fromkeys(REGIONS, fingerprint(fleet, old))
    fleet.run()
    job = fleet.job(job_id)
    assert (job.kind, job.state) == ("renew", "succeeded")
    assert_renewed(fleet, old, new, listeners)
    before, after = fleet.certificate(old), fleet.certificate(new)
    assert (after.source, after.managed_certificate_id) == ("managed", "memory:m0002")
    assert (after.replaces_id, before.replaced_by_id) == (old, new)
    assert after.not_after is not None
    assert before.not_after is not None
    assert after.not_after - before.not_after == timedelta(days=60)


def test_a_renewed_one_can_be_renewed_again(fleet: Fleet, service: MemoryService) -> None:
    old, listeners = served(fleet, service)
    _, second = renew(fleet, old)
    fleet.run()
    job_id, third = renew(fleet, second)
    fleet.run()
    assert fleet.job(job_id).state == "succeeded"
    assert_renewed(fleet, second, third, listeners)
    assert len(service.orders) == 2


def test_what_takes_the_service_a_while_is_looked_for_until_it_is_issued(fleet: Fleet, service: MemoryService) -> None:
    service.is_slow = True
    old, listeners = served(fleet, service)
    job_id, new = renew(fleet, old)
    fleet.run()
    wait(fleet, rounds=20)
    assert fleet.job(job_id).state == "queued"
    assert acquisition_of(fleet, job_id).state == "ordering"
    assert set(shown().values()) == {fingerprint(fleet, old)}
    service.issue_pending()
    wait(fleet)
    assert fleet.job(job_id).state == "succeeded"
    assert service.calls.count("renew") == 1
    assert_renewed(fleet, old, new, listeners)


def test_what_is_never_issued_ends_after_two_weeks_and_a_later_click_finds_the_order(
    fleet: Fleet, service: MemoryService
) -> None:
    service.is_slow = True
    old, listeners = served(fleet, service)
    job_id, _ = renew(fleet, old)
    fleet.run()
    wait(fleet, step=timedelta(days=1), rounds=15)
    job = fleet.job(job_id)
    assert (job.state, (job.error or {})["code"]) == ("failed", "renewal_not_issued")
    assert fleet.certificate(old).replaced_by_id is None
    service.issue_pending()
    _, new = renew(fleet, old)
    fleet.run()
    assert_renewed(fleet, old, new, listeners)
    assert len(service.orders) == 1


@pytest.mark.parametrize("after", [False, True], ids=["not_ordered", "ordered"])
def test_after_a_lost_answer_it_looks_before_it_orders(fleet: Fleet, service: MemoryService, *, after: bool) -> None:
    old, listeners = served(fleet, service)
    service.faults.add("renew", OutcomeUnknown, after=after)
    service.calls.clear()
    job_id, new = renew(fleet, old)
    fleet.run()
    wait(fleet, rounds=2)
    assert fleet.job(job_id).state == "succeeded"
    assert_renewed(fleet, old, new, listeners)
    assert len(service.orders) == 1
    first = ["renew", "find_renewal"]
    assert service.calls == [*first, "fetch"] if after else [*first, "renew", "fetch"]


def test_however_long_the_look_before_it_took_the_order_has_a_whole_lease(fleet: Fleet, service: MemoryService) -> None:
    """Some services know no reference of ours: what two workers order at the same time is paid for twice."""
    old, _ = served(fleet, service)
    service.faults.add("renew", OutcomeUnknown)
    job_id, _ = renew(fleet, old)
    fleet.run()
    moment = timedelta(seconds=5)

    def drag_on(verb: str) -> None:
        if verb == "find_renewal":
            fleet.pass_time(fleet.context.settings.lease - moment)
        elif verb == "renew":
            service.on_call = lambda _verb: None
            fleet.pass_time(2 * moment)
            acquire(fleet.context, fleet.source_tools, acquisition_of(fleet, job_id).id)

    service.calls.clear()
    service.on_call = drag_on
    wait(fleet)
    assert service.calls == ["find_renewal", "renew", "fetch"]
    assert fleet.job(job_id).state == "succeeded"


@pytest.mark.parametrize("verb", ["renew", "find_renewal", "fetch"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_call_it_goes_on_and_orders_once(
    fleet: Fleet, service: MemoryService, verb: str, when: str
) -> None:
    old, listeners = served(fleet, service)
    if verb == "find_renewal":
        service.faults.add("renew", Unreachable)
    source, die = fleet.sources["memory"], _dying(verb, when)
    die(source)
    job_id, new = renew(fleet, old)
    deaths = 0
    for _ in range(4):
        try:
            fleet.run()
        except KeyboardInterrupt:
            deaths += 1
        fleet.pass_time(timedelta(minutes=11))
        assert None not in shown().values()
        try:
            wait(fleet)
        except KeyboardInterrupt:
            deaths += 1
    assert deaths == 1
    assert fleet.job(job_id).state == "succeeded"
    assert_renewed(fleet, old, new, listeners)
    assert len(service.orders) == 1


def _dying(verb: str, when: str) -> Callable[[object], None]:
    """The worker dies once at this call, before the service has heard of it, or once it has answered."""

    def install(source: object) -> None:
        real = getattr(source, verb)

        def dying(*arguments: object, **named: object) -> object:
            delattr(source, verb)
            if when == "after":
                real(*arguments, **named)
            raise KeyboardInterrupt

        setattr(source, verb, dying)

    return install


def test_a_region_that_fails_keeps_the_old_one_and_is_retried_alone(fleet: Fleet, service: MemoryService) -> None:
    old, listeners = served(fleet, service)
    balancer(SICK).faults.lie("bind", times=None)
    job_id, new = renew(fleet, old)
    fleet.run()
    wait(fleet, rounds=10)
    assert fleet.job(job_id).state == "partially_succeeded"
    assert shown()[SICK] == fingerprint(fleet, old)
    balancer(SICK).faults.clear()
    fleet.retry(new, SICK)
    fleet.run()
    assert_renewed(fleet, old, new, listeners)
    assert len(service.orders) == 1


def test_where_no_region_could_be_reached_the_next_click_pays_nothing(fleet: Fleet, service: MemoryService) -> None:
    old, listeners = served(fleet, service)
    for region in REGIONS:
        balancer(region).faults.add("stage", AuthRefused)
    job_id, _ = renew(fleet, old)
    fleet.run()
    assert fleet.job(job_id).state == "failed"
    _, new = renew(fleet, old)
    fleet.run()
    assert_renewed(fleet, old, new, listeners)
    assert len(service.orders) == 1


def test_a_cancelled_renewal_leaves_all_as_it_was_and_its_order_is_found_again(
    fleet: Fleet, service: MemoryService
) -> None:
    service.is_slow = True
    old, listeners = served(fleet, service)
    job_id, new = renew(fleet, old)
    fleet.run()
    with fleet.transaction() as session:
        cancellation.cancel_job(session, fleet.caller, job_id, now=fleet.now)
    assert fleet.job(job_id).state == "cancelled"
    assert fleet.certificate(new).state == "rejected"
    assert fleet.certificate(old).replaced_by_id is None
    assert set(shown().values()) == {fingerprint(fleet, old)}
    service.issue_pending()
    _, new = renew(fleet, old)
    fleet.run()
    assert_renewed(fleet, old, new, listeners)
    assert len(service.orders) == 1


def test_a_renewal_whose_content_is_no_good_is_ordered_anew_next_time(fleet: Fleet, service: MemoryService) -> None:
    old, _ = served(fleet, service)
    service.life = timedelta(seconds=1)
    service.is_slow = True
    job_id, _ = renew(fleet, old)
    fleet.run()
    service.issue_pending()
    wait(fleet)
    assert fleet.job(job_id).state == "failed"
    assert set(shown().values()) == {fingerprint(fleet, old)}
    service.life, service.is_slow = timedelta(days=90), False
    job_id, _ = renew(fleet, old)
    fleet.run()
    assert fleet.job(job_id).state == "succeeded"
    assert len(service.orders) == 2


def test_what_the_service_does_not_renew_says_so_and_changes_nothing(fleet: Fleet, service: MemoryService) -> None:
    old, _ = served(fleet, service, "never.example.com")
    job_id, _ = renew(fleet, old)
    fleet.run()
    job = fleet.job(job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert (job.error["code"], job.error["hint"]) == ("not_renewable", "Order another.")
    assert set(shown("never.example.com").values()) == {fingerprint(fleet, old)}
    assert fleet.certificate(old).replaced_by_id is None


def test_a_busy_service_is_asked_again(fleet: Fleet, service: MemoryService) -> None:
    old, listeners = served(fleet, service)
    service.faults.add("renew", Busy, times=2)
    _, new = renew(fleet, old)
    fleet.run()
    wait(fleet, rounds=3)
    assert_renewed(fleet, old, new, listeners)


def test_an_uploaded_certificate_names_replace(fleet: Fleet, service: MemoryService) -> None:
    _, uploaded = fleet.submit(server_upload(HOST))
    fleet.run()
    with pytest.raises(Conflict) as refused:
        renew(fleet, uploaded)
    assert refused.value.code == "not_managed"
    assert f"POST /v1/certificates/{uploaded}/replace" in refused.value.hint
    assert refused.value.context == {"use": "replace"}
    assert service.calls == []


def test_while_it_is_renewed_everything_else_waits_and_a_second_click_is_refused(
    fleet: Fleet, service: MemoryService
) -> None:
    service.is_slow = True
    old, _ = served(fleet, service)
    job_id, _ = renew(fleet, old)
    fleet.run()
    for deed in (
        lambda: renew(fleet, old),
        lambda: fleet.change(rollout.remove_region, old, SICK),
        lambda: fleet.change(rollout.remove_certificate, old),
    ):
        with pytest.raises(Conflict) as refused:
            deed()
        assert refused.value.code == "busy"
        assert refused.value.context["job_id"] == job_id


def test_one_that_was_renewed_is_not_renewed_again(fleet: Fleet, service: MemoryService) -> None:
    old, _ = served(fleet, service)
    _, new = renew(fleet, old)
    fleet.run()
    with pytest.raises(Conflict) as refused:
        renew(fleet, old)
    assert refused.value.code == "already_replaced"
    assert refused.value.context == {"replaced_by": new}
