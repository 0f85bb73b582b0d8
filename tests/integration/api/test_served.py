"""GET /v1/served: the matrix of certificates and regions, its ages, filters, pages and walls."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from tests.support.api import Api, answer, build_api, codes
from tests.support.fleet import server_upload
from tests.support.memory_balancers import balancer, forget_balancers
from tests.support.patrols import REPAIRED, TOLD, after_a_period, bound, build_patrolled_fleet, foreign_material

MATRIX = "/v1/served"
HOST = "shop.example.com"


@pytest.fixture
def api(database_url: str, tmp_path: Path) -> Iterator[Api]:
    forget_balancers()
    fleet = build_patrolled_fleet(database_url, tmp_path)
    yield build_api(fleet)
    fleet.context.database.close()
    forget_balancers()


def names(api: Api, query: str = "") -> list[str]:
    return [item["name"] for item in api.client.items(f"{MATRIX}?{query}")]


def cell(api: Api, region: str = TOLD) -> dict[str, Any]:
    (row,) = api.client.items(MATRIX)
    found: dict[str, Any] = row["regions"][region]
    return found


def test_a_proven_certificate_shows_its_proof_and_how_old_it_is(api: Api) -> None:
    certificate_id, _ = bound(api.fleet, HOST)
    api.fleet.pass_time(timedelta(seconds=42))
    (row,) = api.client.items(MATRIX)
    certificate = answer(api.client.get(f"/v1/certificates/{certificate_id}"))
    assert row == {
        "certificate_id": certificate_id,
        "name": certificate["name"],
        "type": "server",
        "not_after": certificate["not_after"],
        "regions": {
            TOLD: {
                "state": "match",
                "deployed": True,
                "checked_at": certificate["deployments"][0]["served"]["checked_at"],
                "age_seconds": 42,
                "listeners": 1,
                "drift": None,
            }
        },
    }


def test_delivered_is_not_shown_as_served(api: Api) -> None:
    api.fleet.submit(server_upload(HOST, regions=[TOLD]))
    api.fleet.run()
    assert cell(api) == {
        "state": "not_checked",
        "deployed": True,
        "checked_at": None,
        "age_seconds": None,
        "listeners": 0,
        "drift": None,
    }


def test_drift_is_shown_with_what_is_there_and_since_when(api: Api) -> None:
    bound(api.fleet, HOST)
    stranger = foreign_material(HOST)
    balancer(TOLD).show_by_hand(HOST, stranger)
    after_a_period(api.fleet)
    since = api.fleet.now
    after_a_period(api.fleet)
    found = cell(api)
    assert (found["state"], found["drift"]["code"]) == ("mismatch", "served_mismatch")
    assert stranger.fingerprint_sha256 in found["drift"]["message"]
    assert set(found["drift"]) == {"code", "message", "since"}
    assert found["drift"]["since"] == since.isoformat().replace("+00:00", "Z")


def test_the_matrix_is_filtered_by_region_state_and_words(api: Api) -> None:
    bound(api.fleet, "a.example.com")
    bound(api.fleet, "b.example.com", REPAIRED)
    api.fleet.submit(server_upload("c.example.com", regions=[TOLD, REPAIRED]))
    api.fleet.run()
    assert names(api) == ["c.example.com", "b.example.com", "a.example.com"]
    assert names(api, f"region={TOLD}") == ["c.example.com", "a.example.com"]
    assert names(api, "state=match") == ["b.example.com", "a.example.com"]
    assert names(api, f"state=match&region={TOLD}") == ["a.example.com"]
    assert names(api, "q=B.EXAM") == ["b.example.com"]
    (shown, _) = api.client.items(f"{MATRIX}?region={TOLD}")
    assert list(shown["regions"]) == [TOLD]
    assert codes(api.client.get(f"{MATRIX}?state=deployed")) == {("state", "not_one_of")}


def test_a_certificate_that_is_in_no_region_is_left_out(api: Api) -> None:
    api.submit(certificate="junk", regions=[TOLD])
    api.fleet.run()
    assert api.client.items(MATRIX) == []


def test_pages_join_to_the_whole_matrix_at_three_statements_each(api: Api) -> None:
    for number in range(5):
        bound(api.fleet, f"n{number}.example.com")
    whole = names(api)
    pages: list[str] = []
    cursor = ""
    while True:
        page = answer(api.client.get(f"{MATRIX}?limit=2{cursor}"))
        pages += [item["name"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert pages == whole
    assert len(whole) == 5
    assert statements(api, "limit=1") == statements(api, "limit=5")


def statements(api: Api, query: str) -> int:
    """How many the database is asked for one page."""
    asked: list[str] = []
    engine = api.fleet.context.database._engine  # noqa: SLF001 - counted where they leave

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        asked.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        api.client.items(f"{MATRIX}?{query}")
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return len(asked)


def test_no_account_sees_anothers_rows_nor_goes_on_from_its_cursor(api: Api) -> None:
    bound(api.fleet, "a.example.com")
    bound(api.fleet, "b.example.com")
    stranger = api.account("stranger")
    cursor = answer(api.client.get(f"{MATRIX}?limit=1"))["next_cursor"]
    assert stranger.items(MATRIX) == []
    assert stranger.items(f"{MATRIX}?q=example") == []
    assert codes(stranger.get(f"{MATRIX}?limit=1&cursor={cursor}")) == {("cursor", "invalid_cursor")}


def test_the_gauges_count_listeners_by_what_is_served_and_tell_when_the_patrol_last_ran(api: Api) -> None:
    bound(api.fleet, "a.example.com")
    bound(api.fleet, "b.example.com", REPAIRED)
    balancer(TOLD).unreachable = True
    after_a_period(api.fleet)
    api.fleet.pass_time(timedelta(seconds=7))
    lines = api.client.get("/metrics").text.splitlines()
    assert 'certfleet_listeners{served="match"} 1.0' in lines
    assert 'certfleet_listeners{served="unreachable"} 1.0' in lines
    assert "certfleet_drifting_deployments 1.0" in lines
    assert f'certfleet_region_patrol_age_seconds{{region="{TOLD}"}} 7.0' in lines
    balancer(TOLD).unreachable = False
    after_a_period(api.fleet)
    assert "certfleet_drifting_deployments 0.0" in api.client.get("/metrics").text.splitlines()
    assert any(line.startswith('certfleet_periodic_last_run_timestamp_seconds{name="patrol"}') for line in lines)
