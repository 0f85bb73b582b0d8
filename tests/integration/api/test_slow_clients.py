"""A client that takes its time holds nothing that others need."""

from __future__ import annotations

import io
import json
from typing import Any

import psycopg

from shared.domain.answers import LinkScope
from shared.domain.reminders import DAY
from shared.usecases.answer_links import answer_url
from shared.usecases.reminder_scan import scan
from tests.support.api import Api, submission
from tests.support.reminders import add_certificate, ledger


class Watched(io.BytesIO):
    """A body that looks, whenever a piece of it is asked for, how many transactions are open."""

    def __init__(self, content: bytes, database_url: str) -> None:
        super().__init__(content)
        self.seen: list[int] = []
        self._database_url = database_url

    def readinto(self, buffer: Any, /) -> int:
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in %'"
            ).fetchone()
        self.seen.append(row[0] if row else -1)
        return super().readinto(buffer)


def test_no_transaction_is_open_while_a_body_arrives(api: Api, database_url: str) -> None:
    content = json.dumps(submission()).encode()
    body = Watched(content, database_url)
    headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}

    response = api.client.post("/v1/certificates", input_stream=body, headers=headers)

    assert response.status_code == 202, response.text
    assert body.seen
    assert set(body.seen) == {0}


def test_no_transaction_is_open_while_an_answer_to_a_reminder_arrives(api: Api, database_url: str) -> None:
    add_certificate(api.fleet, left=20 * DAY)
    scan(api.fleet.context, now=api.fleet.now)
    (reminder,) = ledger(api.fleet)
    link = answer_url(api.fleet.context, reminder, LinkScope.UNSUBSCRIBE, now=api.fleet.now)
    content = b"List-Unsubscribe=One-Click"
    body = Watched(content, database_url)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(content))}

    path = link.removeprefix(api.fleet.context.settings.public_url)
    response = api.app.test_client().post(path, input_stream=body, headers=headers)

    assert response.status_code == 200, response.text
    assert "unsubscribed" in response.text
    assert body.seen
    assert set(body.seen) == {0}
