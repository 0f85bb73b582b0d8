"""One account never sees another's anything: by no id, list, event, cursor or key."""

from __future__ import annotations

import pytest

from services.api.console.registration import is_console
from shared.domain.scopes import Scope
from tests.support.api import Api, Client, answer, submission
from tests.support.fleet import REGIONS
from tests.support.listeners import add_listener


@pytest.fixture
def stranger(api: Api) -> Client:
    return api.account("stranger")


def routes_with_ids(api: Api) -> list[tuple[str, str]]:
    """(method, path template) of every route of /v1 that names something of an account."""
    return [
        (method, rule.rule)
        for rule in api.app.url_map.iter_rules()
        if rule.rule.startswith("/v1/") and "<" in rule.rule and "<kind>" not in rule.rule
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]


def test_no_id_of_another_account_is_found_on_any_route(api: Api, stranger: Client) -> None:
    certificate = api.deployed()
    job_id = certificate["deployments"][0]["job_id"]
    webhook = answer(api.client.post("/v1/webhooks", {"url": "https://8.8.8.8/hook", "types": ["*"]}))
    api.submit()
    delivery = api.client.items(f"/v1/webhooks/{webhook['id']}/deliveries")[0]
    replay = answer(api.client.post(f"/v1/webhooks/{webhook['id']}/replay", {"after": 0}))
    ids = {
        "<certificate_id>": certificate["id"],
        "<region>": REGIONS[0],
        "<job_id>": job_id,
        "<webhook_id>": webhook["id"],
        "<endpoint_id>": webhook["id"],
        "<delivery_id>": delivery["id"],
        "<replay_id>": replay["id"],
        "<feed_id>": answer(api.client.post("/v1/calendar-feeds", {}))["id"],
        "<listener_id>": add_listener(api.fleet, REGIONS[0], ["shop.example.com"], server=certificate["id"]),
    }
    bodies = {
        "<certificate_id>/deployments": {"regions": [REGIONS[0]]},
        "<certificate_id>/replace": {"certificate": "PEM"},
        "<webhook_id>/replay": {"after": 0},
        "<certificate_id>/snooze": {"until": "2100-01-01"},
    }
    checked = routes_with_ids(api)
    for method, template in checked:
        path = template
        for placeholder, value in ids.items():
            path = path.replace(placeholder, value)
        assert "<" not in path, f"{template}: tell this test about its placeholder"
        body = bodies.get("/".join(template.split("/")[-2:])) if method == "POST" else None
        response = stranger.send(method, path, **({"json": body} if body else {}))
        assert response.status_code == 404, (method, path, response.text)
    assert len(checked) > 10


def test_lists_events_and_audit_of_another_account_are_empty(api: Api, stranger: Client) -> None:
    api.deployed()
    for path in ("/v1/certificates", "/v1/jobs", "/v1/events", "/v1/audit", "/v1/webhooks", "/v1/listeners"):
        assert stranger.items(path) == [], path
    assert stranger.get("/v1/events", headers={"Accept": "text/event-stream"}).text.count("data:") == 0


def test_quota_and_health_are_the_accounts_own(api: Api, stranger: Client) -> None:
    api.deployed()
    mine, theirs = api.client.items("/v1/regions"), stranger.items("/v1/regions")
    assert {region["quota"]["server"]["used"] for region in mine} == {1}
    assert {region["health"]["state"] for region in mine} == {"ok"}
    assert {region["quota"]["server"]["used"] for region in theirs} == {0}
    assert {region["health"]["state"] for region in theirs} == {"unknown"}


def test_filters_by_anothers_id_find_nothing(api: Api, stranger: Client) -> None:
    certificate = api.deployed()
    assert stranger.items(f"/v1/jobs?certificate_id={certificate['id']}") == []


def test_every_route_needs_a_token_and_every_change_the_scope_write(api: Api) -> None:
    reader, anonymous = api.scoped(Scope.READ), api.app.test_client()
    open_to_all = {"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/answer.css"}
    by_secret_address = ("/answer/", "/calendar/")
    for rule in api.app.url_map.iter_rules():
        if is_console(rule.endpoint):
            continue  # signed in by cookie: tests/integration/console
        path = rule.rule.replace("<", "").replace(">", "")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            status = anonymous.open(path, method=method).status_code
            if rule.rule in open_to_all:
                assert status == 200, rule.rule
                continue
            if rule.rule.startswith(by_secret_address):
                assert status == 404, rule.rule
                continue
            assert status == 401, (method, rule.rule)
            if method != "GET":
                refused = reader.send(method, path)
                assert (refused.status_code, answer(refused)["code"]) == (403, "missing_scope"), (method, rule.rule)


def test_the_same_content_may_be_in_two_accounts(api: Api, stranger: Client) -> None:
    body = submission()
    first = api.submit(**body)["certificate"]["id"]
    second = answer(stranger.post("/v1/certificates", body))["certificate"]["id"]
    api.fleet.run()
    assert answer(stranger.get(f"/v1/certificates/{second}"))["findings"] == []
    assert stranger.get(f"/v1/certificates/{first}").status_code == 404
