"""A client that takes its time holds nothing that others need."""

from __future__ import annotations

import io
import json
from typing import Any

import psycopg

from tests.support.api import Api, submission


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
