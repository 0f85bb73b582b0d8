"""Accepted submissions a second, against a bare Flask + INSERT + Celery publish behind the same gunicorn."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import urllib3

from services.cli.embedded.plan import choose_port
from shared.wakeups import QUEUES, producer
from tests.bench.conftest import StackOf
from tests.bench.figures import compare, rate
from tests.bench.test_rollout import submission
from tests.support.stack import RunningStack, clean_environment, wait_until

COUNT = 600
CLIENTS = 8


def test_submissions_against_a_bare_insert_and_publish(stack_of: StackOf, tmp_path: Path) -> None:
    stack = stack_of(regions=3, delay=None)
    body = submission(3)
    _pause_workers(stack)
    with _bare_api(stack, tmp_path) as bare_url:
        compare(
            f"Accepted submissions, {CLIENTS} clients, gunicorn with 2 workers on both sides, workers paused",
            "requests/s",
            (
                "POST /v1/certificates (3 regions)",
                lambda: _load(stack, f"{stack.connection.url}/v1/certificates", body),
            ),
            ("Flask, one INSERT, one publish", lambda: _load(stack, bare_url, body)),
        )


def _pause_workers(stack: RunningStack) -> None:
    """Only accepting is measured."""
    with producer(stack.connection.redis_url) as app:
        for queue in QUEUES:
            app.control.cancel_consumer(queue, reply=True)


def _load(stack: RunningStack, url: str, body: dict[str, object]) -> float:
    pool = urllib3.PoolManager(maxsize=CLIENTS, retries=False)
    headers = {"Authorization": f"Bearer {stack.connection.token}"}
    refused = itertools.count()

    def post(_number: int) -> None:
        if pool.request("POST", url, json=body, headers=headers).status != 202:
            next(refused)

    figure = rate(COUNT, post, threads=CLIENTS)
    assert next(refused) == 0
    return figure


@contextmanager
def _bare_api(stack: RunningStack, place: Path) -> Iterator[str]:
    with psycopg.connect(stack.connection.database_url) as connection:
        connection.execute("CREATE TABLE bare_jobs (id text PRIMARY KEY, body text NOT NULL)")
    environ = {
        **clean_environment(),
        "DATABASE_URL": stack.connection.database_url,
        "REDIS_URL": stack.connection.redis_url,
    }
    options = ("--worker-class", "gthread", "--workers", "2", "--threads", "32")
    quiet = ("--keep-alive", "15", "--no-control-socket")
    port = choose_port(0)
    with (place / "bare.log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gunicorn",
                "--bind",
                f"127.0.0.1:{port}",
                *options,
                *quiet,
                "tests.bench.bare_api:create_app()",
            ],
            env=environ,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_until(lambda: _answers(url), seconds=30, otherwise=(place / "bare.log").read_text)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return urllib3.request("GET", f"{url}healthz", retries=False, timeout=1).status == 200
    except urllib3.exceptions.HTTPError:
        return False
