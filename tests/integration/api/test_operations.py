"""What operators and machines read: regions, samples, health, readiness, gauges, the description of it all."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from openapi_spec_validator import validate
from sqlalchemy import text

from services.api.console.registration import is_console
from shared.errors import Unreachable
from shared.events.catalogue import EventType
from shared.models.database import Database
from shared.usecases.periodic import Periodic, note_run
from tests.support.api import Api, answer, build_api
from tests.support.fleet import REGIONS
from tests.support.patrols import after_a_period, patrol_now


def test_regions_say_what_they_take_and_how_full_they_are(api: Api) -> None:
    regions = api.client.items("/v1/regions")
    assert [region["id"] for region in regions] == list(REGIONS)
    assert regions[0] == {
        "id": REGIONS[0],
        "name": REGIONS[0],
        "driver": "directory",
        "health": {
            "state": "unknown",
            "last_success_at": None,
            "last_answer_at": None,
            "last_error": None,
            "circuit": {"state": "closed", "opened_at": None, "retry_at": None},
        },
        "listener_address": None,
        "key_policy": ["rsa-1024", "rsa-2048", "rsa-4096"],
        "ca_key_policy": ["rsa-1024", "rsa-2048", "rsa-4096"],
        "listeners": False,
        "mutual_auth": False,
        "quota": {"server": {"used": 0, "limit": 100}, "ca": {"used": 0, "limit": 100}},
    }


def test_a_region_that_cannot_be_reached_is_failing_until_it_works_again(api: Api) -> None:
    build = api.fleet.driver_for

    def unreachable(*_args: object) -> None:
        raise Unreachable("No route to the load balancer.")

    api.fleet.driver_for = unreachable  # type: ignore[assignment] # a driver that cannot even be built
    api.submit(regions=[REGIONS[0]])
    api.fleet.run()
    sick, well = api.client.items("/v1/regions")[:2]
    assert (sick["health"]["state"], sick["health"]["last_error"]["code"]) == ("failing", "unreachable")
    assert well["health"]["state"] == "unknown"
    api.fleet.driver_for = build
    api.fleet.pass_time(timedelta(hours=1))
    api.submit(regions=[REGIONS[0]])
    api.fleet.run()
    health = api.client.items("/v1/regions")[0]["health"]
    assert (health["state"], health["last_success_at"] is None) == ("ok", False)


def test_a_region_that_the_patrol_cannot_ask_is_failing_for_everybody_until_it_answers(api: Api) -> None:
    build = api.fleet.driver_for

    def secretive(*_args: object) -> None:
        raise Unreachable("/etc/somewhere: no route to server-cert_of_another-0123456789abcdef.")

    api.fleet.driver_for = secretive  # type: ignore[assignment] # a driver that cannot even be built
    patrol_now(api.fleet)
    health = api.client.items("/v1/regions")[0]["health"]
    assert (health["state"], health["last_answer_at"], health["last_error"]["code"]) == ("failing", None, "unreachable")
    assert "another" not in health["last_error"]["message"]
    api.fleet.driver_for = build
    after_a_period(api.fleet)
    health = api.client.items("/v1/regions")[0]["health"]
    assert (health["state"], health["last_answer_at"] is None, health["last_error"]) == ("unknown", False, None)


def test_a_rejected_upload_says_nothing_about_a_regions_health(api: Api) -> None:
    api.submit(certificate="junk")
    api.fleet.run()
    assert {region["health"]["state"] for region in api.client.items("/v1/regions")} == {"unknown"}


@pytest.mark.parametrize("kind", ["certificate", "private_key", "ca"])
def test_samples_are_pem(api: Api, kind: str) -> None:
    sample = answer(api.client.get(f"/v1/samples/{kind}"))
    assert sample["kind"] == kind
    assert sample["pem"].startswith("-----BEGIN ")
    assert api.client.get("/v1/samples/other").status_code == 404


def test_alive_is_answered_without_the_database(api: Api) -> None:
    api.app.extensions["certfleet"] = None
    assert answer(api.app.test_client().get("/healthz")) == {"status": "ok"}


def test_ready_with_everything_there(api: Api, redis_url: str) -> None:
    whole = build_api(api.fleet)
    context = api.fleet.context
    whole.app.extensions["certfleet"] = replace(context, settings=replace(context.settings, redis_url=redis_url))
    with api.fleet.transaction() as session:
        for name in Periodic:
            note_run(session, name, now=api.fleet.now, count=0)
    response = whole.app.test_client().get("/readyz")
    assert (response.status_code, answer(response)["status"]) == (200, "ok")
    assert all(check["ok"] for check in answer(response)["checks"].values())


def test_each_periodic_task_that_is_silent_is_named(api: Api) -> None:
    with api.fleet.transaction() as session:
        note_run(session, Periodic.SWEEP, now=api.fleet.now, count=0)
        note_run(session, Periodic.REMINDERS, now=api.fleet.now - timedelta(minutes=51), count=0)
    check = answer(api.app.test_client().get("/readyz"))["checks"]["scheduler"]
    assert check["ok"] is False
    assert "patrol (last run: never)" in check["detail"]
    assert f"reminders (last run: {api.fleet.now - timedelta(minutes=51):%Y-%m-%d %H:%M}" in check["detail"]
    assert "sweep" not in check["detail"]


def test_a_run_in_the_future_is_no_sign_of_life(api: Api) -> None:
    with api.fleet.transaction() as session:
        for name in Periodic:
            note_run(session, name, now=api.fleet.now + timedelta(hours=6), count=0)
    check = answer(api.app.test_client().get("/readyz"))["checks"]["scheduler"]
    assert check["ok"] is False
    assert all(name in check["detail"] for name in Periodic)


def test_gauges_tell_the_age_of_each_periodic_tasks_last_run(api: Api) -> None:
    with api.fleet.transaction() as session:
        note_run(session, Periodic.SWEEP, now=api.fleet.now - timedelta(seconds=7), count=0)
    lines = api.app.test_client().get("/metrics").text.splitlines()
    assert 'certfleet_periodic_age_seconds{name="sweep"} 7.0' in lines
    assert 'certfleet_periodic_age_seconds{name="patrol"} +Inf' in lines


def test_degraded_without_broker_scheduler_or_newest_migration(api: Api) -> None:
    with api.fleet.transaction() as session:
        newest = session.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        session.execute(text("UPDATE alembic_version SET version_num = 'older'"))
    try:
        response = api.app.test_client().get("/readyz")
    finally:
        with api.fleet.transaction() as session:
            session.execute(text("UPDATE alembic_version SET version_num = :newest"), {"newest": newest})
    checks = answer(response)["checks"]
    assert (response.status_code, answer(response)["status"]) == (200, "degraded")
    assert {name: check["ok"] for name, check in checks.items()} == {
        "database": True,
        "migrations": False,
        "broker": False,
        "scheduler": False,
    }


def test_unavailable_only_without_the_database(api: Api) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/nothing", pool=1)
    api.app.extensions["certfleet"] = replace(api.fleet.context, database=away)
    response = api.app.test_client().get("/readyz")
    assert (response.status_code, answer(response)["status"]) == (503, "unavailable")
    assert "certfleet_database_up 0.0" in api.app.test_client().get("/metrics").text
    away.close()


def test_gauges_count_what_waits_and_how_late_it_is(api: Api) -> None:
    api.submit()
    api.fleet.pass_time(timedelta(seconds=70))
    lines = api.app.test_client().get("/metrics").text.splitlines()
    assert 'certfleet_waiting{kind="job",state="queued"} 1.0' in lines
    assert 'certfleet_waiting{kind="deployment",state="pending"} 3.0' in lines
    assert 'certfleet_overdue_seconds{kind="job"} 60.0' in lines
    assert any(line.startswith("process_resident_memory_bytes") for line in lines)


def test_the_description_is_valid_and_complete(api: Api) -> None:
    document = answer(api.app.test_client().get("/openapi.json", headers={"Host": "evil.example"}))
    validate(document)
    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": "/"}]
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    routed = {
        (method, rule.rule.replace("<", "{").replace(">", "}"))
        for rule in api.app.url_map.iter_rules()
        if rule.rule not in {"/openapi.json", "/docs", "/answer.css"} and not is_console(rule.endpoint)
        if not rule.rule.startswith(("/answer/", "/calendar/"))  # for readers of mail and calendars: docs/api.md
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert described == routed
    assert set(document["webhooks"]) == set(EventType)


def test_the_description_names_bodies_keys_scopes_and_problems(api: Api) -> None:
    paths = answer(api.app.test_client().get("/openapi.json"))["paths"]
    create = paths["/v1/certificates"]["post"]
    assert create["requestBody"]["required"] is True
    assert create["security"] == [{"bearer": ["write"]}]
    assert "Idempotency-Key" in {parameter["name"] for parameter in create["parameters"]}
    assert set(create["responses"]) == {"202", "400", "401", "403", "413", "415", "422", "503"}
    problem = create["responses"]["422"]["content"]["application/problem+json"]["schema"]
    assert problem == {"$ref": "#/components/schemas/ProblemOut"}
    assert paths["/v1/certificates/{certificate_id}/download"]["get"]["security"] == [{"bearer": ["download"]}]
    assert paths["/healthz"]["get"]["security"] == []
    retry = paths["/v1/certificates/{certificate_id}/deployments/{region}/retry"]["post"]
    assert "requestBody" not in retry
    assert "409" in retry["responses"]


def test_everything_that_is_described_is_explained(api: Api) -> None:
    document = answer(api.app.test_client().get("/openapi.json"))
    parameters = [
        (path, parameter)
        for path, methods in document["paths"].items()
        for operation in methods.values()
        for parameter in operation.get("parameters", ())
    ]
    assert [(path, one["name"]) for path, one in parameters if not one.get("description")] == []
    assert [(path, one["name"]) for path, one in parameters if "null" in json.dumps(one["schema"])] == []
    shapes = document["components"]["schemas"]
    assert [name for name, shape in shapes.items() if not shape.get("description")] == []
    assert [
        f"{name}.{field}"
        for name, shape in shapes.items()
        for field, schema in shape.get("properties", {}).items()
        if not schema.get("description") and "$ref" not in json.dumps(schema)
    ] == []


def test_the_reference_page_names_every_operation_and_loads_nothing(api: Api) -> None:
    client = api.app.test_client()
    page = client.get("/docs")
    for path in answer(client.get("/openapi.json"))["paths"]:
        assert path in page.text
    assert "<script" not in page.text
    assert "http://" not in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
