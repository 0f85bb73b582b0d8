"""A replaced certificate is silent once its successor is served everywhere; before, what lacks is said."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.domain.reminders import DAY
from shared.domain.rollout import DeploymentState
from shared.usecases.reminder_scan import ScanResult, scan
from tests.support.fleet import Fleet
from tests.support.reminders import (
    add_certificate,
    add_deployment,
    add_listener,
    change_certificate,
    change_deployment,
    expiry_events,
)

DEPLOYED, FAILED, REMOVED = DeploymentState.DEPLOYED, DeploymentState.FAILED, DeploymentState.REMOVED
HOUR = timedelta(hours=1)
OLD, NEW = "ab" * 32, "cd" * 32


def replaced(fleet: Fleet, *, successor: str = "valid") -> tuple[str, str]:
    """An old certificate five days before its end, and what is to take its place."""
    old = add_certificate(fleet, left=5 * DAY, fingerprint_sha256=OLD)
    new = add_certificate(fleet, left=300 * DAY, fingerprint_sha256=NEW, state=successor, replaces_id=old)
    change_certificate(fleet, old, replaced_by_id=new)
    return old, new


def move(fleet: Fleet, pair: tuple[str, str], region: str, *, old: DeploymentState, new: DeploymentState) -> None:
    for certificate_id, state in zip(pair, (old, new), strict=True):
        add_deployment(fleet, certificate_id, region, state=state, served="not_checked")


def lacking(fleet: Fleet) -> list[dict[str, str]]:
    (fact,) = expiry_events(fleet)
    assert fact.data["replaced_by"].startswith("crt_")
    found = fact.data["lacking"]
    assert isinstance(found, list)
    return found


def test_nobody_is_told_once_the_new_one_is_served_everywhere(fleet: Fleet) -> None:
    pair = replaced(fleet)
    for region in ("cn-hangzhou", "us-west-1"):
        move(fleet, pair, region, old=REMOVED, new=DEPLOYED)
        add_listener(fleet, pair[1], region, served="match")

    assert scan(fleet.context, now=fleet.now) == ScanResult()


def test_deployed_everywhere_is_enough_where_no_listener_shows_it(fleet: Fleet) -> None:
    move(fleet, replaced(fleet), "cn-hangzhou", old=REMOVED, new=DEPLOYED)

    assert scan(fleet.context, now=fleet.now) == ScanResult()


def test_the_event_names_the_regions_that_still_hold_or_serve_the_old_one(fleet: Fleet) -> None:
    pair = replaced(fleet)
    move(fleet, pair, "cn-hangzhou", old=REMOVED, new=DEPLOYED)
    move(fleet, pair, "eu-central-1", old=DEPLOYED, new=FAILED)
    move(fleet, pair, "us-west-1", old=DEPLOYED, new=FAILED)
    add_listener(fleet, pair[0], "us-west-1", served="match")

    scan(fleet.context, now=fleet.now)

    assert lacking(fleet) == [
        {"region": "eu-central-1", "lack": "old_present"},
        {"region": "us-west-1", "lack": "old_served"},
    ]


@pytest.mark.parametrize(
    ("fingerprint", "lack"), [(OLD, "old_served"), ("ef" * 32, "new_not_served"), (None, "new_not_served")]
)
def test_a_listener_that_shows_something_else_is_said(fleet: Fleet, fingerprint: str | None, lack: str) -> None:
    pair = replaced(fleet)
    move(fleet, pair, "cn-hangzhou", old=REMOVED, new=DEPLOYED)
    add_listener(fleet, pair[1], "cn-hangzhou", served="mismatch", served_fingerprint_sha256=fingerprint)

    scan(fleet.context, now=fleet.now)

    assert lacking(fleet) == [{"region": "cn-hangzhou", "lack": lack}]


def test_while_the_new_one_is_being_fetched_or_validated_reminders_go_on(fleet: Fleet) -> None:
    replaced(fleet, successor="validating")

    scan(fleet.context, now=fleet.now)

    assert lacking(fleet) == [{"lack": "new_not_ready"}]


def test_where_the_new_one_came_beside_has_nothing_to_do_with_the_old_one(fleet: Fleet) -> None:
    pair = replaced(fleet)
    move(fleet, pair, "cn-hangzhou", old=REMOVED, new=DEPLOYED)
    add_deployment(fleet, pair[1], "us-west-1", state=FAILED, served="not_checked")

    assert scan(fleet.context, now=fleet.now) == ScanResult()


def test_a_region_that_falls_back_to_the_old_one_is_told_of_within_a_day(fleet: Fleet) -> None:
    pair = replaced(fleet)
    move(fleet, pair, "cn-hangzhou", old=REMOVED, new=DEPLOYED)
    scan(fleet.context, now=fleet.now)
    change_deployment(fleet, pair[0], "cn-hangzhou", state=DEPLOYED)

    assert scan(fleet.context, now=fleet.now + 23 * HOUR) == ScanResult()
    assert scan(fleet.context, now=fleet.now + 24 * HOUR).by_threshold == {7: 1}
    assert lacking(fleet) == [{"region": "cn-hangzhou", "lack": "old_present"}]
