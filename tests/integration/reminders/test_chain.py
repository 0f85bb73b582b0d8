"""What ends besides the certificate itself: its chain, or each of a bundle of CAs, each once and by its name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from shared.domain.reminders import DAY
from shared.usecases.reminder_scan import scan
from tests.support.fleet import Fleet
from tests.support.reminders import add_certificate, expiry_events, ledger

SECOND = timedelta(seconds=1)


def link(fleet: Fleet, name: str, *, left: timedelta) -> dict[str, Any]:
    """As validation stores it, as far as reminders read it."""
    return {
        "subject": f"CN={name}",
        "fingerprint_sha256": name.encode().hex().rjust(64, "0"),
        "not_before": (fleet.now + left - 1000 * DAY).isoformat(),
        "not_after": (fleet.now + left).isoformat(),
    }


def test_an_intermediate_that_ends_before_its_certificate_is_told_of_by_its_name(fleet: Fleet) -> None:
    chain = [link(fleet, "www", left=200 * DAY), link(fleet, "Issuing CA", left=7 * DAY)]
    certificate_id = add_certificate(fleet, left=200 * DAY, chain=chain)

    assert scan(fleet.context, now=fleet.now).by_threshold == {7: 1}

    (fact,) = expiry_events(fleet)
    assert fact.data["certificate_id"] == certificate_id
    assert fact.data["not_after"] == (fleet.now + 7 * DAY).isoformat().replace("+00:00", "Z")
    assert fact.data["chain_certificate"] == {
        "position": 1,
        "subject": "CN=Issuing CA",
        "fingerprint_sha256": chain[1]["fingerprint_sha256"],
    }
    assert [(row.threshold, row.not_after) for row in ledger(fleet)] == [(7, fleet.now + 7 * DAY)]


def test_an_intermediate_that_outlives_its_certificate_is_not_told_of(fleet: Fleet) -> None:
    add_certificate(
        fleet,
        left=5 * DAY,
        chain=[link(fleet, "www", left=5 * DAY), link(fleet, "Issuing CA", left=5 * DAY + SECOND)],
    )

    assert scan(fleet.context, now=fleet.now).by_threshold == {7: 1}
    assert "chain_certificate" not in expiry_events(fleet)[0].data


def test_each_ca_of_a_bundle_is_told_of_over_all_their_lives(fleet: Fleet) -> None:
    bundle = [link(fleet, "Root B", left=70 * DAY), link(fleet, "Root A", left=2 * DAY)]
    add_certificate(fleet, left=70 * DAY, life=1000 * DAY, type="ca", chain=bundle)

    for day in range(73):
        scan(fleet.context, now=fleet.now + day * DAY)

    told = [
        (fact.data.get("chain_certificate", {}).get("subject"), fact.data["threshold"]) for fact in expiry_events(fleet)
    ]
    assert told == [
        *(("CN=Root A", threshold) for threshold in (3, 1, 0, -1)),
        *((None, threshold) for threshold in (60, 30, 15, 7, 3, 1, 0, -1)),
    ]
