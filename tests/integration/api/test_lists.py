"""Lists: filters, order, and cursors that fit one list only."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import pki
from tests.support.api import Api, answer, codes
from tests.support.fleet import REGIONS

LIST = "/v1/certificates"


def upload(host: str, *, days: int = 275, **overrides: Any) -> dict[str, Any]:
    issued = pki.server_with_chain(host, not_after=pki.NOW + timedelta(days=days))
    return {"certificate": issued.chain_pem, "private_key": issued.key_pem, **overrides}


def names(api: Api, query: str) -> list[str]:
    return [item["name"] for item in api.client.items(f"{LIST}?{query}")]


@pytest.fixture
def filled(api: Api) -> Api:
    api.submit(**upload("b.example.com", days=40, regions=[REGIONS[0]]))
    api.submit(**upload("A.example.com", days=200, regions=[REGIONS[1]], name="100%_done"))
    authority = pki.authority("Clients CA")
    api.submit(type="ca", certificate=authority.pem, private_key=..., regions=[REGIONS[0]])
    api.fleet.run()
    api.submit(certificate="junk", regions=[REGIONS[2]], name="rejected")
    api.fleet.run()
    api.submit(**upload("c.example.com", days=100, regions=[REGIONS[2]], name="waiting"))
    return api


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["waiting", "rejected", "Clients CA", "100%_done", "b.example.com"]),
        ("sort=created", ["b.example.com", "100%_done", "Clients CA", "rejected", "waiting"]),
        ("sort=name", ["100%_done", "b.example.com", "Clients CA", "rejected", "waiting"]),
        ("sort=-name", ["waiting", "rejected", "Clients CA", "b.example.com", "100%_done"]),
        ("sort=expires", ["b.example.com", "100%_done", "Clients CA", "rejected", "waiting"]),
        ("sort=-expires", ["waiting", "rejected", "Clients CA", "100%_done", "b.example.com"]),
        ("type=ca", ["Clients CA"]),
        (f"region={REGIONS[0]}", ["Clients CA", "b.example.com"]),
        ("state=rejected", ["rejected"]),
        ("state=validating", ["waiting"]),
        ("state=deployed", ["Clients CA", "100%_done", "b.example.com"]),
        ("state=failed", ["rejected"]),
        (f"state=pending&region={REGIONS[2]}", ["waiting"]),
        (f"state=pending&region={REGIONS[0]}", []),
        ("q=A.EXAMPLE", ["100%_done"]),
        ("q=100%25", ["100%_done"]),
        ("q=%25_%25", []),
        ("q=_done", ["100%_done"]),
        ("q=%5C", []),
        ("q=clients", ["Clients CA"]),
    ],
)
def test_lists_are_filtered_and_sorted(filled: Api, query: str, expected: list[str]) -> None:
    assert names(filled, query) == expected


def test_expiry_is_compared_as_an_instant_or_a_date(filled: Api) -> None:
    at = pki.NOW + timedelta(days=60)
    assert names(filled, f"expires_before={at.isoformat()}") == ["b.example.com"]
    assert names(filled, f"expires_before={at:%Y-%m-%dT%H:%M:%SZ}") == ["b.example.com"]
    assert names(filled, f"expires_before={at:%Y-%m-%d}") == ["b.example.com"]
    assert names(filled, "expires_before=0001-01-01T00:00:00%2B23:59") == []


@pytest.mark.parametrize("sort", ["created", "-created", "name", "-name", "expires", "-expires"])
def test_pages_join_to_the_whole_list(filled: Api, sort: str) -> None:
    whole = [item["id"] for item in filled.client.items(f"{LIST}?sort={sort}")]
    pages, cursor = [], ""
    while True:
        page = answer(filled.client.get(f"{LIST}?sort={sort}&limit=2{cursor}"))
        pages += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert pages == whole
    assert len(whole) == 5


def test_a_cursor_fits_its_own_list_and_account_only(filled: Api) -> None:
    cursor = answer(filled.client.get(f"{LIST}?limit=1"))["next_cursor"]
    other = filled.account("other")
    refused = [
        filled.client.get(f"{LIST}?limit=1&type=server&cursor={cursor}"),
        filled.client.get(f"{LIST}?limit=1&sort=name&cursor={cursor}"),
        filled.client.get(f"/v1/jobs?limit=1&cursor={cursor}"),
        other.get(f"{LIST}?limit=1&cursor={cursor}"),
    ]
    for response in refused:
        assert codes(response) == {("cursor", "invalid_cursor")}
    assert filled.client.get(f"{LIST}?limit=3&cursor={cursor}").status_code == 200


@pytest.mark.parametrize("cursor", ["x", "é", "e30", "W10", "bnVsbA", "%00", "A" * 5000, "W1siYSJdXQ"])
def test_a_garbled_cursor_is_refused(api: Api, cursor: str) -> None:
    (error,) = codes(api.client.get(f"{LIST}?cursor={cursor}"))
    assert error in {("cursor", "invalid_cursor"), ("cursor", "invalid_character")}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.binary(max_size=60))
def test_no_cursor_causes_a_server_error(api: Api, garbage: bytes) -> None:
    cursor = urlsafe_b64encode(garbage).decode().rstrip("=")
    assert api.client.get(f"{LIST}?sort=expires&cursor={cursor}").status_code == 422


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("limit=0", ("limit", "out_of_range")),
        ("limit=201", ("limit", "out_of_range")),
        ("limit=many", ("limit", "wrong_type")),
        ("limit=1&limit=2", ("limit", "repeated_parameter")),
        ("page=2", ("page", "unknown_field")),
        ("state=deleted", ("state", "not_one_of")),
        ("sort=size", ("sort", "not_one_of")),
        ("q=%00", ("q", "invalid_character")),
        ("expires_before=soon", ("expires_before", "invalid_time")),
        ("expires_before=2030-01-01T00:00:00", ("expires_before", "invalid_time")),
    ],
)
def test_an_unknown_or_bad_parameter_is_refused(api: Api, query: str, expected: tuple[str, str]) -> None:
    assert codes(api.client.get(f"{LIST}?{query}")) == {expected}


def test_jobs_are_filtered_by_state_kind_and_certificate(filled: Api) -> None:
    certificate = filled.client.items(f"{LIST}?type=ca")[0]["id"]
    assert len(filled.client.items("/v1/jobs?state=succeeded")) == 3
    assert len(filled.client.items("/v1/jobs?kind=create")) == 5
    assert filled.client.items("/v1/jobs?kind=remove") == []
    assert [job["certificate_id"] for job in filled.client.items(f"/v1/jobs?certificate_id={certificate}")] == [
        certificate
    ]


def test_the_audit_pages_through_who_did_what(filled: Api) -> None:
    first = answer(filled.client.get("/v1/audit?limit=4"))
    rest = answer(filled.client.get(f"/v1/audit?limit=4&cursor={first['next_cursor']}"))
    entries = first["items"] + rest["items"]
    assert [entry["action"] for entry in entries] == ["certificate.submitted"] * 5
    assert entries == sorted(entries, key=lambda entry: str(entry["id"]), reverse=True)
