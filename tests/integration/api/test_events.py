"""Events by cursor and as a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from threading import BoundedSemaphore
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from services.api.streams import Streams
from tests.support.api import QUICK, Api, answer, build_api, codes

STREAM = {"Accept": "text/event-stream"}


def read_all(api: Api, query: str = "", *, limit: int = 3) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    cursor = "0"
    while True:
        page = answer(api.client.get(f"/v1/events?after={cursor}&limit={limit}{query}"))
        if page["next_cursor"] == cursor:
            assert page["items"] == []
            return events
        events += page["items"]
        cursor = page["next_cursor"]


def frames(body: str) -> list[dict[str, str]]:
    """The events of a stream; comments and retry lines left out."""
    parsed = [
        dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        for block in body.split("\n\n")
    ]
    return [frame for frame in parsed if "id" in frame]


def test_pages_join_to_all_events_without_a_gap(api: Api) -> None:
    api.deployed()
    events = read_all(api)
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert {"job.queued", "certificate.validated", "deployment.succeeded", "job.succeeded"} <= {
        event["type"] for event in events
    }
    assert set(events[0]) == {"type", "id", "sequence", "timestamp", "account_id", "data"}


def test_nothing_new_answers_the_same_cursor(api: Api) -> None:
    assert answer(api.client.get("/v1/events")) == {"items": [], "next_cursor": "0"}
    assert answer(api.client.get("/v1/events?after=77")) == {"items": [], "next_cursor": "77"}


def test_after_latest_begins_with_what_comes_next(api: Api) -> None:
    assert answer(api.client.get("/v1/events?after=latest")) == {"items": [], "next_cursor": "0"}
    api.deployed()
    seen = answer(api.client.get("/v1/events?after=latest"))
    assert seen == {"items": [], "next_cursor": str(len(read_all(api)))}
    job_id = api.submit()["job"]["id"]
    (queued,) = api.client.items(f"/v1/events?after={seen['next_cursor']}")
    assert (queued["type"], queued["data"]["job_id"]) == ("job.queued", job_id)
    stranger = api.account("stranger")
    assert answer(stranger.get("/v1/events?after=latest"))["next_cursor"] == "0"


def test_a_stream_after_latest_tells_nothing_old(api: Api) -> None:
    api.deployed()
    assert frames(api.client.get("/v1/events?after=latest", headers=STREAM).text) == []


def test_types_choose_and_skip_nothing(api: Api) -> None:
    api.deployed()
    everything = read_all(api)
    chosen = read_all(api, "&types=deployment.*,job.succeeded", limit=1)
    assert chosen == [
        event for event in everything if event["type"].startswith("deployment.") or event["type"] == "job.succeeded"
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("types=deployment.*,certificate.eaten", ("types", "unknown_event_type")),
        ("types=,", ("types", "unknown_event_type")),
        ("after=-1", ("after", "out_of_range")),
        ("after=9223372036854775808", ("after", "out_of_range")),
        ("after=x", ("after", "wrong_type")),
    ],
)
def test_a_bad_question_is_refused(api: Api, query: str, expected: tuple[str, str]) -> None:
    assert codes(api.client.get(f"/v1/events?{query}")) == {expected}


def test_a_jobs_events_are_its_own(api: Api) -> None:
    api.deployed()
    second = api.submit()["job"]["id"]
    api.fleet.run()
    events = api.client.items(f"/v1/jobs/{second}/events?limit=200")
    assert {event["data"]["job_id"] for event in events} == {second}
    assert events[-1]["type"] == "job.succeeded"


def test_a_stream_carries_what_the_cursor_reads_and_ends_with_its_job(api: Api) -> None:
    job_id = api.submit()["job"]["id"]
    api.fleet.run()
    response = api.client.get(f"/v1/jobs/{job_id}/events", headers=STREAM)
    assert response.mimetype == "text/event-stream"
    assert response.text.startswith("retry: ")
    sent = frames(response.text)
    listed = api.client.items(f"/v1/jobs/{job_id}/events?limit=200")
    assert [json.loads(frame["data"]) for frame in sent] == listed
    assert [frame["event"] for frame in sent] == [event["type"] for event in listed]
    assert sent[-1]["event"] == "job.succeeded"


def test_a_stream_hears_of_what_happens_while_it_is_open(api: Api) -> None:
    patient = build_api(api.fleet, streams=Streams(poll=QUICK.poll, lifetime=timedelta(seconds=60)))
    job_id = patient.submit()["job"]["id"]
    with patient.client.get(f"/v1/jobs/{job_id}/events", headers=STREAM, buffered=False) as response:
        chunks: Iterator[Any] = iter(response.response)
        first = list(islice(chunks, 2))
        api.fleet.run()
        rest = list(chunks)
    assert "job.queued" in str(first[1])
    assert "job.succeeded" in str(rest[-1])


def test_last_event_id_goes_on_where_the_stream_broke(api: Api) -> None:
    api.deployed()
    listed = read_all(api)
    response = api.client.get("/v1/events?after=1", headers={**STREAM, "Last-Event-ID": "4"})
    assert [int(frame["id"]) for frame in frames(response.text)] == [event["sequence"] for event in listed[4:]]
    bad = api.client.get("/v1/events", headers={**STREAM, "Last-Event-ID": "9" * 30})
    assert codes(bad) == {("Last-Event-ID", "wrong_type")}


def test_a_silent_stream_says_that_it_lives_and_ends_by_itself(api: Api) -> None:
    body = api.client.get("/v1/events", headers=STREAM).text
    assert body.count(": still here") >= 1
    assert frames(body) == []


def test_streams_are_bounded_and_a_closed_one_makes_room(api: Api) -> None:
    narrow = build_api(api.fleet, streams=Streams(poll=QUICK.poll, free=BoundedSemaphore(1)))
    first = narrow.client.get("/v1/events", headers=STREAM, buffered=False)
    refused = narrow.client.get("/v1/events", headers=STREAM)
    assert (refused.status_code, answer(refused)["code"]) == (503, "too_many_streams")
    assert int(refused.headers["Retry-After"]) > 0
    first.close()
    with narrow.client.get("/v1/events", headers=STREAM, buffered=False) as again:
        assert again.status_code == 200
    assert narrow.client.send("HEAD", "/v1/events", headers=STREAM).status_code == 200
    with narrow.client.get("/v1/events", headers=STREAM, buffered=False) as after_head:
        assert after_head.status_code == 200


def test_a_stream_that_fails_at_the_commit_makes_room(api: Api) -> None:
    one = build_api(api.fleet, streams=replace(QUICK, free=BoundedSemaphore(1)))
    event.listen(Session, "before_commit", lose_the_server)
    try:
        assert one.client.get("/v1/events", headers=STREAM).status_code == 503
    finally:
        event.remove(Session, "before_commit", lose_the_server)

    with one.client.get("/v1/events", headers=STREAM) as response:
        assert response.status_code == 200


def lose_the_server(session: Session) -> None:
    session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


def test_an_open_stream_holds_no_transaction(api: Api) -> None:
    patient = build_api(api.fleet, streams=Streams(lifetime=timedelta(seconds=60)))
    with patient.client.get("/v1/events", headers=STREAM, buffered=False) as response:
        assert "retry" in str(next(iter(response.response)))
        with api.fleet.transaction() as session:
            busy = session.execute(
                text(
                    "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' "
                    "AND pid <> pg_backend_pid() AND datname = current_database()"
                )
            )
            assert busy.scalar_one() == 0
