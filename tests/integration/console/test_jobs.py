"""The list of jobs: what each did, filters, paging, cancelling; and whose they are."""

from __future__ import annotations

from tests.support.api import Api
from tests.support.console import signed_in, stranger
from tests.support.fleet import REGIONS


def test_nothing_asked_for_yet_teaches_what_a_job_is(api: Api) -> None:
    assert "No job yet" in signed_in(api).page("/jobs")


def test_a_row_says_what_it_is_about_and_how_it_went(api: Api) -> None:
    accepted = api.submit(name="my shop")
    api.fleet.run()
    page = signed_in(api).page("/jobs")
    assert f'href="/jobs/{accepted["job"]["id"]}"' in page
    assert ">my shop</a>" in page
    assert '<span class="badge good">succeeded</span>' in page
    assert ", ".join(REGIONS) in page


def test_a_filter_shows_only_its_own_and_says_when_nothing_fits(api: Api) -> None:
    api.deployed(name="done")
    api.submit(name="waiting")
    one = signed_in(api)
    queued = one.page("/jobs?state=queued")
    assert ">waiting</a>" in queued
    assert ">done</a>" not in queued
    assert "Nothing matches" in one.page("/jobs?kind=renew")
    assert ">done</a>" in one.page("/jobs?state=nonsense")


def test_jobs_of_one_certificate_are_named(api: Api) -> None:
    certificate = api.deployed(name="mine")
    api.deployed(name="other")
    page = signed_in(api).page(f"/jobs?certificate_id={certificate['id']}")
    assert ">mine</a>" in page
    assert ">other</a>" not in page


def test_a_job_that_runs_is_cancelled_from_its_row(api: Api) -> None:
    accepted = api.submit()
    one = signed_in(api)
    path = f"/jobs/{accepted['job']['id']}/cancel"
    assert path in one.page("/jobs")
    assert one.submit("/jobs", path).status_code == 303
    api.fleet.run()
    page = one.page("/jobs")
    assert path not in page
    assert "cancelled" in page


def test_pages_follow_one_another_without_repeating(api: Api) -> None:
    for number in range(51):
        api.submit(name=f"number {number}")
    one = signed_in(api)
    first = one.page("/jobs")
    assert first.count('<th scope="row">') == 50
    following = first.split('rel="next" href="')[1].split('"')[0]
    second = one.page(f"/jobs{following.replace('&amp;', '&')}")
    assert second.count('<th scope="row">') == 1
    assert ">number 0</a>" in second


def test_a_stranger_sees_no_job(api: Api) -> None:
    api.deployed(name="mine")
    assert "No job yet" in stranger(api).page("/jobs")
