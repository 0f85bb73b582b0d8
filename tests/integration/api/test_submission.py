"""Submitting certificates, and what is answered about them afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from shared.models import Certificate, Job
from tests.support import pki
from tests.support.api import Api, answer, codes, submission
from tests.support.fleet import REGIONS

CERTIFICATE_FIELDS = {
    *("id", "name", "type", "source", "state", "common_name", "names", "subject", "issuer", "serial"),
    *("not_before", "not_after", "key_algorithm", "fingerprint_sha1", "fingerprint_sha256", "chain", "findings"),
    *("contacts", "tags", "reminders_muted", "reminders", "replaces", "replaced_by", "created_at", "deployments"),
    *("managed_certificate_id", "auto_renew", "renew_before_days", "reminder_thresholds"),
}
DEPLOYMENT_FIELDS = {
    *("region", "state", "intent", "attempt", "error", "remote_id", "evidence", "served", "job_id", "deployed_at"),
    *("updated_at", "drift"),
}
JOB_FIELDS = {
    *("id", "kind", "state", "certificate_id", "deployments", "error", "findings", "created_at", "started_at"),
    *("finished_at", "listeners", "cancel_requested_at"),
}


def test_a_submission_answers_202_with_the_job_and_where_to_follow_it(api: Api) -> None:
    response = api.client.post("/v1/certificates", submission(name="shop", tags={"team": "web"}))
    body = answer(response)
    assert response.status_code == 202
    assert response.headers["Location"] == f"/v1/jobs/{body['job']['id']}"
    assert set(body["job"]) == JOB_FIELDS
    assert set(body["certificate"]) == CERTIFICATE_FIELDS
    assert body["job"]["state"] == "queued"
    assert body["certificate"]["state"] == "validating"
    assert body["certificate"]["common_name"] is None
    assert [row["region"] for row in body["job"]["deployments"]] == sorted(REGIONS)
    assert answer(api.client.get(response.headers["Location"])) == body["job"]


def test_a_deployed_certificate_says_what_it_is_and_where(api: Api) -> None:
    issued = pki.server_with_chain("shop.example.com", "www.shop.example.com")
    certificate = api.deployed(certificate=issued.chain_pem, private_key=issued.key_pem)
    assert certificate["state"] == "valid"
    assert certificate["name"] == certificate["common_name"] == "shop.example.com"
    assert certificate["fingerprint_sha256"] == issued.fingerprint_sha256
    assert certificate["not_after"].endswith("Z")
    assert len(certificate["chain"]) == 2
    for row in certificate["deployments"]:
        assert set(row) == DEPLOYMENT_FIELDS
        assert (row["state"], row["error"], row["served"]) == (
            "deployed",
            None,
            {"state": "not_checked", "checked_at": None},
        )


def test_no_answer_about_a_certificate_holds_a_key(api: Api) -> None:
    certificate = api.deployed()
    pages = [
        api.client.get(path).text
        for path in (
            "/v1/certificates",
            f"/v1/certificates/{certificate['id']}",
            "/v1/jobs",
            "/v1/events",
            "/v1/audit",
        )
    ]
    assert all("PRIVATE KEY" not in page and "MII" not in page for page in pages)


def test_a_bad_pem_is_accepted_and_its_job_fails_with_the_findings(api: Api) -> None:
    accepted = api.submit(certificate="this is no PEM")
    api.fleet.run()
    job = answer(api.client.get(f"/v1/jobs/{accepted['job']['id']}"))
    assert job["state"] == "failed"
    assert "pem_required" in {finding["code"] for finding in job["findings"]}
    assert job["error"]["code"] == "certificate_rejected"
    assert "next_attempt_at" not in job["error"]


@pytest.mark.parametrize("character", ["\0", "\ud800", "é", "\U0001f512"])
def test_any_character_may_stand_in_the_pem_fields(api: Api, character: str) -> None:
    accepted = api.submit(certificate=f"30 82 {character}", private_key=character)
    api.fleet.run()
    assert answer(api.client.get(f"/v1/jobs/{accepted['job']['id']}"))["state"] == "failed"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"source": ...}, {("source", "missing_field")}),
        ({"source": "found"}, {("source", "not_one_of")}),
        ({"type": None}, {("type", "null_not_allowed")}),
        ({"type": 7}, {("type", "wrong_type")}),
        ({"certificate": ...}, {("certificate", "missing_field")}),
        ({"private_key": ...}, {("private_key", "private_key_required")}),
        ({"type": "ca"}, {("private_key", "private_key_not_allowed")}),
        ({"managed_certificate_id": "cas-1"}, {("managed_certificate_id", "field_not_allowed")}),
        (
            {"source": "managed"},
            {
                ("certificate", "field_not_allowed"),
                ("private_key", "field_not_allowed"),
                ("managed_certificate_id", "missing_field"),
            },
        ),
        (
            {
                "source": "managed",
                "type": "ca",
                "certificate": ...,
                "private_key": ...,
                "managed_certificate_id": "cas-1",
            },
            {("type", "managed_source_is_server_only")},
        ),
        (
            {"source": "managed", "certificate": ..., "private_key": ..., "managed_certificate_id": "cas-1"},
            {("source", "managed_source_unavailable")},
        ),
        ({"regions": ...}, {("regions", "missing_field")}),
        ({"regions": []}, {("regions", "wrong_length")}),
        ({"regions": "cn-hangzhou"}, {("regions", "wrong_type")}),
        ({"regions": ["cn-hangzhou", "cn-hangzhou"]}, {("regions.1", "duplicate_value")}),
        ({"regions": ["cn-hangzhou", "atlantis"]}, {("regions.1", "unknown_region")}),
        ({"regions": [f"r{number}" for number in range(201)]}, {("regions", "wrong_length")}),
        ({"name": "two\nlines"}, {("name", "invalid_character")}),
        ({"name": "x" * 129}, {("name", "wrong_length")}),
        ({"name": "a\0b"}, {("name", "invalid_character")}),
        ({"tags": {"k": "\ud800"}}, {("tags.k", "invalid_character")}),
        ({"contacts": ["ops@example.com\r\nBcc: x@example.com"]}, {("contacts.0", "invalid_email")}),
        ({"contacts": ["nobody"]}, {("contacts.0", "invalid_email")}),
        ({"callback_url": "ftp://example.com"}, {("callback_url", "invalid_url")}),
        ({"callback_url": "https://user:secret@example.com"}, {("callback_url", "invalid_url")}),
        ({"callback_url": "https://[::1"}, {("callback_url", "invalid_url")}),
        ({"tags": {str(number): "v" for number in range(51)}}, {("tags", "wrong_length")}),
        ({"Certificate": "x", "extra": 1}, {("Certificate", "unknown_field"), ("extra", "unknown_field")}),
    ],
)
def test_a_shape_fault_is_refused_with_field_code_and_remedy(
    api: Api, overrides: dict[str, Any], expected: set[tuple[str, str]]
) -> None:
    response = api.client.post("/v1/certificates", submission(**overrides))
    assert codes(response) == expected
    assert all(error["message"] and error["hint"] for error in answer(response)["errors"])
    with api.fleet.transaction() as session:
        assert session.execute(select(Certificate.id)).first() is None
        assert session.execute(select(Job.id)).first() is None


def test_all_faults_are_named_at_once(api: Api) -> None:
    response = api.client.post("/v1/certificates", {"source": "x", "regions": [1], "colour": "red"})
    assert codes(response) == {
        ("source", "not_one_of"),
        ("type", "missing_field"),
        ("regions.0", "wrong_type"),
        ("colour", "unknown_field"),
    }


def test_with_the_broker_away_a_submission_is_still_accepted(api: Api) -> None:
    api.fleet.room.broken = True
    accepted = api.submit()
    assert answer(api.client.get(f"/v1/jobs/{accepted['job']['id']}"))["state"] == "queued"


def test_what_is_said_about_a_certificate_can_be_changed_and_its_content_cannot(api: Api) -> None:
    path = f"/v1/certificates/{api.submit()['certificate']['id']}"
    changes = {"name": "new", "contacts": ["a@example.com"], "tags": {"k": "v"}, "reminders_muted": True}
    changed = answer(api.client.patch(path, changes))
    assert {name: changed[name] for name in changes} == changes
    assert answer(api.client.get(path)) == changed
    assert codes(api.client.patch(path, {"certificate": "x", "reminders_muted": "yes"})) == {
        ("certificate", "unknown_field"),
        ("reminders_muted", "wrong_type"),
    }
    assert ("certificate.edited", changed["id"]) in {
        (entry["action"], entry["target"]) for entry in api.client.items("/v1/audit")
    }


def test_one_region_can_be_left_retried_and_added_again(api: Api) -> None:
    certificate = api.deployed()
    base = f"/v1/certificates/{certificate['id']}/deployments"
    left = api.client.delete(f"{base}/{REGIONS[0]}")
    assert left.status_code == 202
    assert answer(left)["job"]["kind"] == "remove"
    api.fleet.run()
    assert answer(api.client.get(left.headers["Location"]))["state"] == "succeeded"
    assert api.client.post(f"{base}/{REGIONS[1]}/retry").status_code == 409
    added = api.client.post(base, {"regions": [REGIONS[0]]})
    assert added.status_code == 202
    busy = api.client.post(base, {"regions": [REGIONS[0]]})
    assert (busy.status_code, answer(busy)["context"]["regions"]) == (409, [REGIONS[0]])
    api.fleet.run()
    assert codes(api.client.post(base, {"regions": [REGIONS[0]]})) == {("regions.0", "already_deployed")}


def test_an_earlier_job_keeps_its_own_answer_of_a_region(api: Api) -> None:
    certificate = api.deployed()
    first = api.client.items("/v1/jobs")[0]
    api.client.delete(f"/v1/certificates/{certificate['id']}/deployments/{REGIONS[0]}")
    api.fleet.run()
    again = answer(api.client.get(f"/v1/jobs/{first['id']}"))
    assert {row["state"] for row in again["deployments"]} == {"deployed"}


def test_a_deleted_certificate_is_gone_and_its_job_stays(api: Api) -> None:
    certificate = api.deployed()
    path = f"/v1/certificates/{certificate['id']}"
    response = api.client.delete(path)
    assert response.status_code == 202
    api.fleet.run()
    assert answer(api.client.get(response.headers["Location"]))["state"] == "succeeded"
    assert api.client.get(path).status_code == 404
    assert api.client.items("/v1/certificates") == []
