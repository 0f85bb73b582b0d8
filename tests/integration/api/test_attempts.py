"""GET /v1/jobs/{id}/attempts: what was tried, where, and how it went."""

from __future__ import annotations

from tests.support.api import Api, answer
from tests.support.fleet import REGIONS


def test_a_jobs_attempts_are_listed_oldest_first_page_by_page(api: Api) -> None:
    job_id = api.submit()["job"]["id"]
    assert answer(api.client.get(f"/v1/jobs/{job_id}/attempts")) == {"items": [], "next_cursor": None}
    api.fleet.run()
    first = answer(api.client.get(f"/v1/jobs/{job_id}/attempts?limit=2"))
    rest = answer(api.client.get(f"/v1/jobs/{job_id}/attempts?limit=2&cursor={first['next_cursor']}"))
    shown = [*first["items"], *rest["items"]]
    assert [one["id"] for one in shown] == sorted(one["id"] for one in shown)
    assert {one["region"] for one in shown} == set(REGIONS)
    assert rest["next_cursor"] is None
    for one in shown:
        assert (one["action"], one["number"], one["outcome"], one["error"]) == ("deploy", 1, "succeeded", None)
        assert one["started_at"] <= one["ended_at"]
        assert one["listener_id"] is None


def test_another_accounts_job_has_none(api: Api) -> None:
    job_id = api.submit()["job"]["id"]
    assert api.account("stranger").get(f"/v1/jobs/{job_id}/attempts").status_code == 404


def test_a_cursor_is_good_for_one_job_only(api: Api) -> None:
    jobs = [api.submit()["job"]["id"] for _ in range(2)]
    api.fleet.run()
    cursor = answer(api.client.get(f"/v1/jobs/{jobs[0]}/attempts?limit=1"))["next_cursor"]
    refused = api.client.get(f"/v1/jobs/{jobs[1]}/attempts?limit=1&cursor={cursor}")
    assert (refused.status_code, answer(refused)["code"]) == (422, "invalid_cursor")
