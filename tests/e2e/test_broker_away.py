"""Redis dies and comes back: submissions are accepted all the while, and every one of them completes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.cli.client import ApiClient
from services.cli.embedded import redis
from services.cli.embedded.program import leashed
from tests.support import pki
from tests.support.stack import running_stack, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stack")]

SUBMISSIONS = 20


@contextmanager
def running_redis(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Redis of our own, so that the stack's supervisor does not bring it back."""
    data = place / "redis"
    data.mkdir(exist_ok=True)
    program = redis.program(data=data, socket=place / "redis.sock", configuration=place / "redis.conf")
    with (place / "redis.log").open("ab") as log:
        process = subprocess.Popen(leashed(program.command, signal=program.death_signal), stdout=log, stderr=log)
    try:
        wait_until(lambda: redis.is_answering(place / "redis.sock"), seconds=30, otherwise=lambda: "no Redis")
        yield process
    finally:
        process.kill()
        process.wait()


def submission(number: int) -> dict[str, Any]:
    now = datetime.now(UTC)
    issued = pki.server(
        f"h{number}.example.com", not_before=now - timedelta(days=1), not_after=now + timedelta(days=99)
    )
    return {
        "source": "third_party",
        "type": "server",
        "certificate": issued.pem,
        "private_key": issued.key_pem,
        "regions": ["cn-hangzhou", "us-west-1"],
    }


def test_submissions_while_redis_is_dead_are_accepted_and_all_complete_once_it_is_back(place: Path) -> None:
    environ = {"REDIS_URL": redis.url(place / "redis.sock"), "CERTFLEET_SWEEP_SECONDS": "1"}
    with running_redis(place) as first, running_stack(place / "state", environ=environ) as stack:
        client = ApiClient(stack.connection.url, stack.connection.token)
        client.post("/v1/certificates", submission(1000))
        first.kill()
        first.wait()
        jobs = _submit_all(client)
        assert {client.get(f"/v1/jobs/{job}")["state"] for job in jobs} == {"queued"}
        (place / "redis.sock").unlink(missing_ok=True)
        with running_redis(place):
            ended = [client.follow(job, seconds=120, see=lambda _: None) for job in jobs]
            assert [job["state"] for job in ended] == ["succeeded"] * SUBMISSIONS
            assert len(client.get("/v1/certificates?limit=100")["items"]) == SUBMISSIONS + 1


def _submit_all(client: ApiClient) -> list[str]:
    """The jobs; a refusal raises."""
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda number: client.post("/v1/certificates", submission(number)), range(SUBMISSIONS))
        return [answer["job"]["id"] for answer in answers]
