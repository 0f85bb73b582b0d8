"""POST /v1/certificates/validate: findings for any content, and nothing stored."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select

from shared.models import AuditEntry, Certificate, Event, Job, Secret
from tests.support import pki
from tests.support.api import Api, answer, codes, submission
from tests.support.fleet import REGIONS

PATH = "/v1/certificates/validate"


def found(api: Api, **overrides: Any) -> dict[tuple[str, str], str]:
    """(field, code) to severity."""
    response = api.client.post(PATH, submission(**overrides))
    assert response.status_code == 200, response.text
    return {(finding["field"], finding["code"]): finding["severity"] for finding in answer(response)["findings"]}


def test_a_good_upload_is_valid_with_and_without_regions(api: Api) -> None:
    plain = answer(api.client.post(PATH, submission(regions=...)))
    assert (plain["valid"], plain["findings"], plain["summary"]) == (True, [], "Valid: nothing to remark.")
    assert "regions" not in plain
    asked = answer(api.client.post(PATH, submission()))
    assert asked["regions"] == {region: [] for region in REGIONS}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"certificate": ...}, ("certificate", "pem_required")),
        ({"certificate": "\0\ud800 nonsense"}, ("certificate", "pem_required")),
        ({"private_key": ...}, ("private_key", "private_key_required")),
        ({"regions": ["atlantis"]}, ("regions", "unknown_region")),
        (
            {"source": "managed", "type": "ca", "certificate": ..., "private_key": ...},
            ("type", "managed_source_is_server_only"),
        ),
        ({"source": "managed", "certificate": ..., "private_key": ...}, ("source", "managed_source_unavailable")),
    ],
)
def test_what_a_submission_refuses_is_a_finding_here(
    api: Api, overrides: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert found(api, **overrides)[expected] == "error"


def test_a_key_beside_a_ca_is_a_finding(api: Api) -> None:
    authority = pki.authority()
    assert found(api, type="ca", certificate=authority.pem, private_key=authority.key_pem) == {
        ("private_key", "private_key_not_allowed"): "error"
    }


def test_the_same_content_in_the_account_is_a_warning_and_in_another_is_nothing(api: Api) -> None:
    body = submission()
    api.submit(**body)
    api.fleet.run()
    assert found(api, **body) == {("certificate", "duplicate_of"): "warning"}
    assert answer(api.account("other").post(PATH, body))["findings"] == []


def test_a_region_with_a_narrower_policy_says_so_by_itself(api: Api) -> None:
    issued = pki.server_with_chain("shop.example.com", key="ec-p256")
    report = answer(api.client.post(PATH, submission(certificate=issued.chain_pem, private_key=issued.key_pem)))
    assert report["valid"] is False
    assert {region: [one["code"] for one in said] for region, said in report["regions"].items()} == {
        region: ["key_algorithm_not_supported"] for region in REGIONS
    }


def test_a_malformed_request_is_still_refused(api: Api) -> None:
    response = api.client.post(PATH, submission(type=..., colour="red", managed_certificate_id="x"))
    assert codes(response) == {
        ("type", "missing_field"),
        ("colour", "unknown_field"),
        ("managed_certificate_id", "field_not_allowed"),
    }


def test_nothing_is_stored(api: Api) -> None:
    api.client.post(PATH, submission())
    with api.fleet.transaction() as session:
        for model in (Certificate, Job, Event, AuditEntry):
            assert session.execute(select(func.count()).select_from(model)).scalar_one() == 0
        purposes = set(session.execute(select(Secret.purpose)).scalars())
        assert purposes == {"callback_secret"}
