"""Refusals at the edge: every one a problem with a code, and no input makes a server error."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update
from werkzeug.test import TestResponse

from services.api import bodies
from shared.domain.scopes import Scope
from shared.models import ApiToken
from shared.models.database import Database
from tests.support.api import Api, answer, build_api, codes, submission
from tests.support.fleet import REGIONS

PATH = "/v1/certificates"
JSON = {"Content-Type": "application/json"}


def problem(response: TestResponse) -> tuple[int, str]:
    assert response.mimetype == "application/problem+json", response.text
    document = answer(response)
    assert {"type", "title", "status", "detail", "code", "hint", "request_id"} <= set(document)
    assert document["status"] == response.status_code
    assert document["request_id"] == response.headers["X-Request-Id"]
    return response.status_code, document["code"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"nonsense", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"null", "invalid_json"),
        (b'"text"', "invalid_json"),
        (b'{"name": NaN}', "invalid_json"),
        (b'{"name": -Infinity}', "invalid_json"),
        (b'{"name": "\xff"}', "invalid_json"),
        (b'\xef\xbb\xbf{"name": "x"}', "invalid_json"),
        (b'{"name": ' + b"9" * 5000 + b"}", "invalid_json"),
        (b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
        (b'{"name": "a", "name": "b"}', "duplicate_key"),
        ('{"name": "x"}'.encode("utf-16"), "invalid_json"),
    ],
)
def test_a_body_that_is_not_a_json_object_is_400(api: Api, body: bytes, code: str) -> None:
    assert problem(api.client.post(PATH, data=body, headers=JSON)) == (400, code)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_no_depth_of_nesting_is_a_server_error(api: Api, opening: str, closing: str) -> None:
    for depth in range(1, 1000, 3):
        body = '{"name":' + opening * depth + "1" + closing * depth + "}"
        response = api.client.post(PATH, data=body.encode(), headers=JSON)
        assert response.status_code in {400, 422}, depth


@pytest.mark.parametrize("twist", ["", "\0"])
def test_a_key_pasted_where_a_name_belongs_is_not_repeated(api: Api, twist: str) -> None:
    key = submission()["private_key"]
    for body in (submission(tags={key + twist: ["x"]}), {key: "x" + twist}):
        response = api.client.post(PATH, body)
        assert codes(response)
        assert key.splitlines()[3] not in response.text


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/json; charset=latin-1"],
)
def test_a_body_that_does_not_say_json_is_415(api: Api, content_type: str) -> None:
    response = api.client.post(PATH, data=b'{"a": 1}', headers={"Content-Type": content_type})
    assert problem(response) == (415, "unsupported_media_type")


def test_no_body_at_all_names_the_missing_fields(api: Api) -> None:
    assert {code for _, code in codes(api.client.post(PATH))} == {"missing_field"}


def test_a_body_over_a_mebibyte_is_413_with_and_without_a_length(api: Api) -> None:
    body = json.dumps({"certificate": "x" * bodies.MAX_BYTES}).encode()
    assert problem(api.client.post(PATH, data=body, headers=JSON)) == (413, "body_too_large")
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
    response = api.client.post(PATH, data=body, headers=JSON, environ_overrides=chunked)
    assert problem(response) == (413, "body_too_large")


def test_unknown_addresses_and_methods_are_problems(api: Api) -> None:
    assert problem(api.client.get("/v1/nothing")) == (404, "unknown_route")
    response = api.client.send("PUT", PATH)
    assert problem(response) == (405, "method_not_allowed")
    assert {"GET", "POST"} <= set(response.headers["Allow"].split(", "))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "Bearer certfleet_short",
        "Bearer \xff",
        "Token x",
        "Bearer " + "a" * 9000,
    ],
)
def test_without_a_good_token_it_is_401(api: Api, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    response = api.app.test_client().get(PATH, headers=headers)
    assert problem(response) == (401, "unauthenticated")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_scheme_of_the_token_may_be_written_in_any_case(api: Api) -> None:
    response = api.app.test_client().get(PATH, headers={"Authorization": f"bearer {api.client.token}"})
    assert response.status_code == 200


def test_a_missing_scope_is_403_and_named(api: Api) -> None:
    response = api.scoped(Scope.READ).post(PATH, submission())
    assert problem(response) == (403, "missing_scope")
    assert "write" in answer(response)["detail"]


@pytest.mark.parametrize("identifier", ["%00", "é", "%ED%A0%80", "x" * 3000, "%0a", "cert_1'--"])
def test_no_identifier_makes_a_server_error(api: Api, identifier: str) -> None:
    for path in (f"{PATH}/{identifier}", f"/v1/jobs/{identifier}", f"/v1/jobs/{identifier}/events"):
        assert problem(api.client.get(path))[0] == 404


def test_an_action_without_fields_refuses_fields(api: Api) -> None:
    response = api.client.post(f"{PATH}/cert_x/deployments/r/retry", {"force": True})
    assert codes(response) == {("force", "unknown_field")}


def test_without_the_database_it_is_503_and_says_when_to_come_back(api: Api) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/nothing", pool=1)
    lonely = build_api(api.fleet)
    lonely.app.extensions["certfleet"] = replace(api.fleet.context, database=away)
    response = lonely.client.get(PATH)
    assert problem(response) == (503, "database_unavailable")
    assert int(response.headers["Retry-After"]) > 0
    away.close()


def test_an_unexpected_failure_tells_nothing_and_is_logged(api: Api) -> None:
    def fail() -> str:
        raise RuntimeError("-----BEGIN PRIVATE KEY-----")

    api.app.view_functions["regions.index"] = fail
    response = api.client.get("/v1/regions")
    assert problem(response) == (500, "internal_error")
    assert "PRIVATE" not in response.text
    assert "request_failed_unexpectedly" in [line["event"] for line in api.logs]


def test_a_request_id_is_taken_over_if_it_is_harmless(api: Api) -> None:
    assert api.client.get(PATH, headers={"X-Request-Id": "abc-1"}).headers["X-Request-Id"] == "abc-1"
    invented = api.client.get(PATH, headers={"X-Request-Id": "a b"}).headers["X-Request-Id"]
    assert invented.startswith("req_")


def test_answers_are_private(api: Api) -> None:
    headers = api.client.get(PATH).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
known_fields = st.sampled_from(
    [
        *("name", "source", "type", "certificate", "private_key", "managed_certificate_id", "regions"),
        *("callback_url", "contacts", "tags", "reminders_muted", "anything"),
    ]
)
plausible = st.sampled_from(["third_party", "managed", "server", "ca", ["cn-hangzhou"], ["a@b.example"], {"k": "v"}])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.dictionaries(known_fields, plausible | json_values, max_size=8))
def test_no_json_body_makes_a_server_error(api: Api, body: dict[str, Any]) -> None:
    for method, path in (
        ("POST", PATH),
        ("POST", f"{PATH}/validate"),
        ("PATCH", f"{PATH}/cert_x"),
        ("POST", f"{PATH}/cert_x/deployments"),
    ):
        assert api.client.send(method, path, json=body).status_code < 500, (method, path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
def test_no_bytes_make_a_server_error(api: Api, body: bytes) -> None:
    assert api.client.post(PATH, data=body, headers=JSON).status_code in {400, 422}


def test_a_revoked_token_is_refused_at_once(api: Api) -> None:
    with api.fleet.transaction() as session:
        session.execute(update(ApiToken).values(revoked_at=api.fleet.now))
    assert problem(api.client.get(PATH)) == (401, "unauthenticated")


def test_who_is_busy_is_told_which_field_which_job_and_when_to_ask_again(api: Api) -> None:
    accepted = api.submit()
    path = f"/v1/certificates/{accepted['certificate']['id']}"
    busy = [api.client.delete(path), api.client.delete(f"{path}/deployments/{REGIONS[0]}")]
    for response, field in zip(busy, ("certificate_id", "region"), strict=True):
        assert (response.status_code, answer(response)["code"]) == (409, "busy")
        context = answer(response)["context"]
        assert (context["field"], context["job_id"]) == (field, accepted["job"]["id"])
        assert int(response.headers["Retry-After"]) > 0
