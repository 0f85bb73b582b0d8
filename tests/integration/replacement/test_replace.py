"""Replace: new content onto the same regions and listeners, proven before the old one goes; a region fails alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from shared.config.regions import Quota
from shared.errors import Conflict, OutcomeUnknown, Rejected, Unreachable
from shared.models import Event
from shared.usecases import rollout
from shared.usecases.replacement import NewContent, replace_certificate
from shared.usecases.sweep import sweep
from tests.support import pki
from tests.support.fleet import REGIONS, Fleet, server_upload
from tests.support.listeners import add_listener, listener_of
from tests.support.memory_balancers import balancer

HOST = "www.example.com"
SICK = "eu-central-1"


def served(fleet: Fleet) -> tuple[str, dict[str, str]]:
    """A certificate that every region serves to the host, and each region's listener."""
    _, certificate_id = fleet.submit(server_upload(HOST))
    fleet.run()
    listeners = {region: add_listener(fleet, region, [HOST], server=certificate_id) for region in REGIONS}
    fleet.run()
    return certificate_id, listeners


def replace(fleet: Fleet, certificate_id: str, *names: str, with_key: bool = True) -> tuple[str, str]:
    """Submit new content for the certificate; job id and the new certificate's id."""
    issued = pki.server_with_chain(*(names or (HOST,)))
    content = NewContent(certificate=issued.chain_pem, private_key=issued.key_pem if with_key else None)
    with fleet.transaction() as session:
        job, new = replace_certificate(fleet.context, session, fleet.caller, certificate_id, content, now=fleet.now)
        return job.id, new.id


def fingerprint(fleet: Fleet, certificate_id: str) -> str | None:
    return fleet.certificate(certificate_id).fingerprint_sha256


def shown(host: str = HOST) -> dict[str, str | None]:
    return {region: balancer(region).shown_to(host) for region in REGIONS}


def events(fleet: Fleet) -> list[tuple[str, str | None]]:
    with fleet.transaction() as session:
        rows = session.execute(select(Event).order_by(Event.sequence)).scalars()
        return [(row.type, row.data.get("region")) for row in rows]


def wait_out_the_back_off(fleet: Fleet, *, rounds: int = 10) -> None:
    for _ in range(rounds):
        fleet.pass_time(timedelta(minutes=15))
        sweep(fleet.context, now=fleet.now)
        fleet.run()


def test_every_region_serves_the_new_content_and_holds_the_old_no_more(fleet: Fleet) -> None:
    old, listeners = served(fleet)
    job_id, new = replace(fleet, old)
    fleet.run()
    assert fleet.job(job_id).state == "succeeded"
    assert set(shown().values()) == {fingerprint(fleet, new)}
    assert {row.state for row in fleet.deployments(old).values()} == {"removed"}
    assert {(row.state, row.served) for row in fleet.deployments(new).values()} == {("deployed", "match")}
    assert {listener_of(fleet, one).server_certificate_id for one in listeners.values()} == {new}
    for region in REGIONS:
        assert len(balancer(region).snapshot().objects) == 1


def test_the_successor_keeps_name_contacts_and_tags_and_both_name_each_other(fleet: Fleet) -> None:
    _, old = fleet.submit(server_upload(HOST, name="Shop", contacts=("ops@example.com",), tags={"team": "web"}))
    fleet.run()
    _, new = replace(fleet, old)
    fleet.run()
    before, after = fleet.certificate(old), fleet.certificate(new)
    assert (after.name, after.contacts, after.tags) == ("Shop", ["ops@example.com"], {"team": "web"})
    assert (after.replaces_id, before.replaced_by_id) == (old, new)


def test_it_is_told_once_when_the_last_region_has_moved(fleet: Fleet) -> None:
    old, _ = served(fleet)
    replace(fleet, old)
    fleet.run()
    types = [kind for kind, _ in events(fleet)]
    assert types.count("certificate.replaced") == 1
    assert types.count("deployment.removed") == len(REGIONS)


def test_a_region_whose_clients_do_not_get_the_new_one_is_put_back_and_says_so(fleet: Fleet) -> None:
    old, listeners = served(fleet)
    balancer(SICK).faults.lie("bind", times=None)
    job_id, new = replace(fleet, old)
    fleet.run()
    wait_out_the_back_off(fleet)
    assert fleet.job(job_id).state == "partially_succeeded"
    assert shown()[SICK] == fingerprint(fleet, old)
    row = fleet.deployments(new)[SICK]
    assert (row.state, row.holds_slot) == ("failed", False)
    assert row.error is not None
    assert row.error["code"] == "not_served"
    assert fleet.deployments(old)[SICK].state == "deployed"
    assert listener_of(fleet, listeners[SICK]).server_certificate_id == old
    assert [held.ref.name.certificate_id for held in balancer(SICK).snapshot().objects] == [old]
    assert {shown()[region] for region in REGIONS if region != SICK} == {fingerprint(fleet, new)}


def test_the_failed_region_alone_is_retried_and_then_replaced(fleet: Fleet) -> None:
    old, _ = served(fleet)
    balancer(SICK).faults.lie("bind", times=None)
    _, new = replace(fleet, old)
    fleet.run()
    wait_out_the_back_off(fleet)
    balancer(SICK).faults.clear()
    job_id = fleet.retry(new, SICK)
    fleet.run()
    assert fleet.job(job_id).state == "succeeded"
    assert shown()[SICK] == fingerprint(fleet, new)
    assert {row.state for row in fleet.deployments(old).values()} == {"removed"}
    assert [kind for kind, _ in events(fleet)].count("certificate.replaced") == 1


@pytest.mark.parametrize("verb", ["stage", "bind", "retire"])
@pytest.mark.parametrize("after", [False, True])
def test_a_fault_at_any_verb_heals_by_itself(fleet: Fleet, verb: str, after: bool) -> None:  # noqa: FBT001 - a parameter of the table
    old, _ = served(fleet)
    balancer(SICK).faults.add(verb, OutcomeUnknown if after else Unreachable, after=after)
    job_id, new = replace(fleet, old)
    fleet.run()
    assert balancer(SICK).shown_to(HOST) in {fingerprint(fleet, old), fingerprint(fleet, new)}
    wait_out_the_back_off(fleet)
    assert fleet.job(job_id).state == "succeeded"
    assert set(shown().values()) == {fingerprint(fleet, new)}
    assert len(balancer(SICK).snapshot().objects) == 1


def test_new_content_that_lacks_a_host_is_refused_with_the_names_and_can_be_corrected(fleet: Fleet) -> None:
    old, _ = served(fleet)
    job_id, _ = replace(fleet, old, "other.example.com")
    fleet.run()
    job = fleet.job(job_id)
    assert job.state == "failed"
    refused = [finding for finding in job.findings if finding["code"] == "host_not_covered"]
    assert HOST in refused[0]["message"]
    assert set(shown().values()) == {fingerprint(fleet, old)}
    assert fleet.certificate(old).replaced_by_id is None
    again, new = replace(fleet, old)
    fleet.run()
    assert fleet.job(again).state == "succeeded"
    assert set(shown().values()) == {fingerprint(fleet, new)}


def test_at_the_quota_it_says_why_it_cannot_go_make_before_break(fleet: Fleet) -> None:
    regions = fleet.context.settings.regions
    old, _ = served(fleet)
    for name in REGIONS:
        object.__setattr__(regions[name], "quota", Quota(server=1, ca=1))
    job_id, _ = replace(fleet, old)
    fleet.run()
    job = fleet.job(job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error["code"] == "quota_exceeded"
    assert "beside the old one" in job.findings[0]["message"]
    assert set(shown().values()) == {fingerprint(fleet, old)}


def test_a_region_that_failed_twice_over_is_moved_from_what_it_still_serves(fleet: Fleet) -> None:
    first, _ = served(fleet)
    balancer(SICK).faults.lie("bind", times=None)
    _, second = replace(fleet, first)
    fleet.run()
    wait_out_the_back_off(fleet)
    balancer(SICK).faults.clear()
    job_id, third = replace(fleet, second)
    fleet.run()
    assert fleet.job(job_id).state == "succeeded"
    assert set(shown().values()) == {fingerprint(fleet, third)}
    assert {row.state for row in fleet.deployments(first).values()} == {"removed"}


def test_while_it_is_being_replaced_nothing_else_is_done_to_it(fleet: Fleet) -> None:
    old, _ = served(fleet)
    replace(fleet, old)
    with pytest.raises(Conflict, match="being replaced"):
        replace(fleet, old)
    with pytest.raises(Conflict, match="being replaced"):
        fleet.change(rollout.remove_region, old, SICK)


def test_a_replaced_certificate_is_not_replaced_again(fleet: Fleet) -> None:
    old, _ = served(fleet)
    _, new = replace(fleet, old)
    fleet.run()
    with pytest.raises(Conflict, match=new):
        replace(fleet, old)


def test_a_certificate_that_is_nowhere_is_replaced_at_once(fleet: Fleet) -> None:
    _, old = fleet.submit(server_upload(HOST, regions=[SICK]))
    fleet.run()
    fleet.change(rollout.remove_region, old, SICK)
    fleet.run()
    job_id, new = replace(fleet, old)
    fleet.run()
    assert fleet.job(job_id).state == "succeeded"
    assert fleet.certificate(old).replaced_by_id == new


def test_a_server_certificate_is_not_replaced_without_its_key(fleet: Fleet) -> None:
    old, _ = served(fleet)
    with pytest.raises(Rejected) as refused:
        replace(fleet, old, with_key=False)
    assert [(error.field, error.code) for error in refused.value.errors] == [("private_key", "required")]
