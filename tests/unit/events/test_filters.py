"""Which endpoint hears of which event: every part of a filter alone, and together."""

from __future__ import annotations

from typing import Any

import pytest

from shared.events.catalogue import EventType
from shared.events.filters import EventFilter, Subject

ONE_REGION = {"region": "cn-hangzhou"}
JOBS_REGIONS = {"regions": {"cn-hangzhou": "deployed", "eu-central-1": "failed"}}
TAGS = {"team": "web", "stage": "live", "empty": ""}


def subject(event_type: str = "deployment.failed", **overrides: Any) -> Subject:
    return Subject(type=event_type, **overrides)


def wants(event: Subject, *types: str, **parts: Any) -> bool:
    return EventFilter(types=types or ("*",), **parts).wants(event)


@pytest.mark.parametrize(
    ("globs", "is_wanted"),
    [
        (("*",), True),
        (("deployment.*",), True),
        (("*.failed",), True),
        (("deployment.failed",), True),
        (("job.*", "deployment.*"), True),
        (("job.*",), False),
        (("deployment",), False),
        ((), True),
    ],
)
def test_a_type_is_let_through_by_any_of_the_globs(globs: tuple[str, ...], *, is_wanted: bool) -> None:
    assert wants(subject(), *globs) is is_wanted


@pytest.mark.parametrize(
    ("data", "regions", "is_wanted"),
    [
        (ONE_REGION, (), True),
        (ONE_REGION, ("cn-hangzhou",), True),
        (ONE_REGION, ("us-west-1", "cn-hangzhou"), True),
        (ONE_REGION, ("us-west-1",), False),
        (ONE_REGION, ("cn-hang",), False),
        (JOBS_REGIONS, ("eu-central-1",), True),
        (JOBS_REGIONS, ("us-west-1",), False),
        ({"regions": {}}, ("us-west-1",), True),
        ({}, ("us-west-1",), True),
    ],
)
def test_an_event_of_other_regions_is_held_back(
    data: dict[str, Any], regions: tuple[str, ...], *, is_wanted: bool
) -> None:
    assert wants(subject(data=data), regions=regions) is is_wanted


@pytest.mark.parametrize(
    ("tags", "is_wanted"),
    [
        ({}, True),
        ({"team": "web"}, True),
        ({"team": "web", "stage": "live"}, True),
        ({"team": "*"}, True),
        ({"empty": ""}, True),
        ({"empty": "*"}, True),
        ({"team": "web", "stage": "test"}, False),
        ({"team": "w*"}, False),
        ({"Team": "web"}, False),
        ({"owner": "*"}, False),
    ],
)
def test_a_certificate_must_have_all_of_the_tags(tags: dict[str, str], *, is_wanted: bool) -> None:
    assert wants(subject(tags=TAGS), tags=tags) is is_wanted


def test_an_event_without_a_certificate_has_no_tags() -> None:
    assert not wants(subject(), tags={"team": "*"})


def test_all_parts_must_let_it_through() -> None:
    event = subject(data=ONE_REGION, tags=TAGS)
    good: dict[str, Any] = {"regions": ("cn-hangzhou",), "tags": {"team": "web"}}
    assert wants(event, "deployment.*", **good)
    assert not wants(event, "job.*", **good)
    assert not wants(event, "deployment.*", **{**good, "regions": ("us-west-1",)})
    assert not wants(event, "deployment.*", **{**good, "tags": {"team": "mail"}})


def test_a_callback_hears_of_its_own_job() -> None:
    assert wants(subject(job_id="job_1"), job_id="job_1")
    assert not wants(subject(job_id="job_2"), job_id="job_1")
    assert not wants(subject(), job_id="job_1")


@pytest.mark.parametrize("event_type", [EventType.DEPLOYMENT_DRIFTED, EventType.DEPLOYMENT_RECOVERED])
def test_what_drifts_after_its_job_is_no_callbacks_but_an_endpoints(event_type: EventType) -> None:
    event = subject(event_type, job_id="job_1", data=ONE_REGION)
    assert not wants(event, job_id="job_1")
    assert wants(event)


def test_a_test_event_is_nobodys_who_merely_listens() -> None:
    assert not wants(subject("webhook.test"))
    assert not wants(subject("webhook.test", job_id="job_1"), job_id="job_1")
