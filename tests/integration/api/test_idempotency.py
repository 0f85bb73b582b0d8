"""Idempotency-Key: the same request happens once, however often and however concurrently it is sent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from shared.models import Certificate, IdempotentAnswer, Job, Purpose, Secret
from shared.usecases import idempotency
from tests.support.api import Api, Client, answer, codes, submission

PATH = "/v1/certificates"
KEY = {"Idempotency-Key": "a-key"}


def count(api: Api, model: type[Certificate | IdempotentAnswer | Job]) -> int:
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


def test_thirty_requests_at_once_make_one_job_and_get_one_answer(api: Api) -> None:
    body = submission()
    clients = [Client(http=api.app.test_client(), token=api.client.token) for _ in range(30)]
    with ThreadPoolExecutor(30) as pool:
        responses = list(pool.map(lambda client: client.post(PATH, body, headers=KEY), clients))
    assert {response.status_code for response in responses} == {202}
    assert len({response.data for response in responses}) == 1
    assert sum("Idempotency-Replayed" in response.headers for response in responses) == 29
    assert (count(api, Job), count(api, Certificate)) == (1, 1)


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
