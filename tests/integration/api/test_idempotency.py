"""Idempotency-Key: the same request happens once, however often and however concurrently it is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Barrier, Thread
from typing import Final

import pytest
import urllib3
from sqlalchemy import func, select
from werkzeug.serving import make_server

from services.api.console.registration import is_console
from shared.models import AuditEntry, Certificate, Event, IdempotentAnswer, Job, Purpose, Secret
from shared.usecases import idempotency
from tests.support.api import Api, answer, codes, submission

PATH = "/v1/certificates"
KEY = {"Idempotency-Key": "a-key"}
HUNDRED: Final = 100
FORM: Final = "/answer/<token>"
"""The one POST beside the API and the console: the form behind a link in a mail, sent by a person's browser."""

Stored = AuditEntry | Certificate | Event | IdempotentAnswer | Job


def count(api: Api, model: type[Stored]) -> int:
    with api.fleet.transaction() as session:
        return session.execute(select(func.count()).select_from(model)).scalar_one()


def test_the_same_request_is_answered_as_before_and_happens_once(api: Api) -> None:
    body = submission()
    first = api.client.post(PATH, body, headers=KEY)
    second = api.client.post(PATH, body, headers=KEY)
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert (second.status_code, second.data) == (202, first.data)
    assert second.headers["Location"] == first.headers["Location"]
    assert second.mimetype == "application/json"
    assert count(api, Job) == 1


def test_a_hundred_requests_at_once_over_http_make_one_job_and_get_one_answer(api: Api) -> None:
    """Real sockets, a thread each, and PostgreSQL: nobody is refused or answered otherwise, nothing is there twice."""
    body = json.dumps(submission()).encode()
    line = Barrier(HUNDRED)
    with served(api) as url:

        def send(_: int) -> urllib3.BaseHTTPResponse:
            headers = {"Authorization": f"Bearer {api.client.token}", "Content-Type": "application/json", **KEY}
            line.wait(30)
            return urllib3.request("POST", url + PATH, body=body, headers=headers, retries=False, timeout=60)

        with ThreadPoolExecutor(HUNDRED) as pool:
            responses = list(pool.map(send, range(HUNDRED)))
    first = responses[0]
    refused = [response.data for response in responses if response.status != 202]
    different = [response.data for response in responses if response.data != first.data]
    elsewhere = [response for response in responses if response.headers["Location"] != first.headers["Location"]]
    assert (len(refused), len(different), len(elsewhere)) == (0, 0, 0), refused
    assert sum("Idempotency-Replayed" in response.headers for response in responses) == HUNDRED - 1
    tables: tuple[type[Stored], ...] = (Job, Certificate, AuditEntry, Event, IdempotentAnswer)
    assert {model.__name__: count(api, model) for model in tables} == {model.__name__: 1 for model in tables}


@contextmanager
def served(api: Api) -> Iterator[str]:
    """The application behind a real port of this machine; its address."""
    server = make_server("127.0.0.1", 0, api.app, threaded=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_every_post_honours_the_key_before_anything_else_of_it_is_looked_at(api: Api) -> None:
    """The refusal of a bad key comes from where keys are honoured: a route that shows another one passed it by."""
    rules = [rule for rule in api.app.url_map.iter_rules() if not is_console(rule.endpoint)]
    posts = [rule for rule in rules if "POST" in (rule.methods or ()) and rule.rule != FORM]
    assert len(posts) > 10
    for rule in posts:
        path = rule.build(dict.fromkeys(rule.arguments, "x"))
        assert path is not None
        response = api.client.post(path[1], {"nonsense": True}, headers={"Idempotency-Key": "x" * 256})
        assert codes(response) == {("Idempotency-Key", "invalid_idempotency_key")}, rule.rule


def test_the_same_key_with_another_request_is_refused(api: Api) -> None:
    api.client.post(PATH, submission(), headers=KEY)
    other_body = api.client.post(PATH, submission(name="other"), headers=KEY)
    other_path = api.client.post(f"{PATH}/validate", submission(), headers=KEY)
    for response in (other_body, other_path):
        assert codes(response) == {("Idempotency-Key", "idempotency_key_reused")}
        assert answer(response)["code"] == "idempotency_key_reused"
    assert count(api, Job) == 1


def test_a_refusal_is_not_kept(api: Api) -> None:
    assert api.client.post(PATH, submission(type="?"), headers=KEY).status_code == 422
    assert count(api, IdempotentAnswer) == 0
    assert api.client.post(PATH, submission(), headers=KEY).status_code == 202


def test_a_key_belongs_to_its_account(api: Api) -> None:
    body = submission()
    api.client.post(PATH, body, headers=KEY)
    other = api.account("other").post(PATH, body, headers=KEY)
    assert (other.status_code, "Idempotency-Replayed" in other.headers) == (202, False)
    assert count(api, Job) == 2


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel", "tab\tinside"])
def test_a_bad_key_is_refused(api: Api, key: str) -> None:
    headers = {"Idempotency-Key": key.encode().decode("latin-1")}
    assert codes(api.client.post(PATH, submission(), headers=headers)) == {
        ("Idempotency-Key", "invalid_idempotency_key")
    }


def test_the_kept_answer_is_sealed_and_forgotten_after_a_day(api: Api) -> None:
    api.client.post(PATH, submission(name="a-telling-name"), headers=KEY)
    with api.fleet.transaction() as session:
        sealed = session.execute(select(Secret).where(Secret.purpose == Purpose.ANSWER)).scalar_one()
        assert b"a-telling-name" not in sealed.ciphertext
        assert idempotency.forget_old(session, now=api.fleet.now + idempotency.KEPT) == 0
        later = api.fleet.now + idempotency.KEPT + timedelta(seconds=1)
        assert idempotency.forget_old(session, now=later) == 1
    with api.fleet.transaction() as session:
        assert session.execute(select(Secret.subject_id).where(Secret.purpose == Purpose.ANSWER)).all() == []
    assert count(api, IdempotentAnswer) == 0
