"""Roll-outs: thirty slow regions at once, and jobs through twenty regions against empty Celery tasks."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import redis

from services.cli.client import ApiClient
from shared.wakeups import producer
from tests.bench.conftest import StackOf, client_of
from tests.bench.figures import compare
from tests.support import pki
from tests.support.stack import RunningStack, clean_environment, wait_until

DELAY = 0.2
REGIONS = 20
JOBS = 20


def submission(regions: int, *, number: int = 0) -> dict[str, object]:
    now = datetime.now(UTC)
    issued = pki.server(
        f"bench{number}.example.com", not_before=now - timedelta(days=1), not_after=now + timedelta(days=300)
    )
    return {
        "source": "third_party",
        "type": "server",
        "certificate": issued.pem,
        "private_key": issued.key_pem,
        "regions": [f"r{each:02}" for each in range(regions)],
    }


def test_thirty_regions_of_200_ms_each(stack_of: StackOf) -> None:
    client = client_of(stack_of(regions=30, delay=DELAY))
    _deploy(client, submission(30))
    print(f"\nOne certificate to 30 regions, each of which takes {DELAY * 1000:.0f} ms")
    for _ in range(3):
        seconds = _deploy(client, submission(30))
        print(f"  POST to the last region: {seconds * 1000:.0f} ms (one after the other: {30 * DELAY * 1000:.0f} ms)")


def _deploy(client: ApiClient, body: dict[str, object]) -> float:
    began = time.perf_counter()
    job = client.post("/v1/certificates", body)["job"]["id"]
    assert client.follow(job, seconds=60, see=lambda _: None)["state"] == "succeeded"
    return time.perf_counter() - began


def test_from_the_request_to_the_last_region_on_an_idle_machine(stack_of: StackOf) -> None:
    client = client_of(stack_of(regions=REGIONS, delay=None))
    _elapsed(client, submission(1))
    print("\nIdle: from the accepted request to the last region's answer, directory regions")
    for regions in (1, 3, REGIONS):
        taken = sorted(_elapsed(client, submission(regions)) for _ in range(20))
        print(f"  {regions:2d} regions: p50 {statistics.median(taken):.0f} ms, p95 {taken[18]:.0f} ms")


def _elapsed(client: ApiClient, body: dict[str, object]) -> float:
    """Milliseconds, by the job's own times: polling for its end would blur them."""
    job_id = client.post("/v1/certificates", body)["job"]["id"]
    assert client.follow(job_id, seconds=60, see=lambda _: None)["state"] == "succeeded"
    job = client.get(f"/v1/jobs/{job_id}")
    taken = datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(job["created_at"])
    return taken.total_seconds() * 1000


def test_jobs_through_twenty_regions_against_empty_tasks(stack_of: StackOf, tmp_path: Path) -> None:
    stack = stack_of(regions=REGIONS, delay=None)
    client = client_of(stack)
    bodies = [submission(REGIONS, number=number) for number in range(JOBS)]

    def ours() -> float:
        began = time.perf_counter()
        jobs = [client.post("/v1/certificates", body)["job"]["id"] for body in bodies]
        for job in jobs:
            assert client.follow(job, seconds=120, see=lambda _: None)["state"] == "succeeded"
        return JOBS / (time.perf_counter() - began)

    worker = _empty_worker(stack, tmp_path)
    try:
        compare(
            f"{JOBS} jobs through {REGIONS} directory regions against {JOBS} x {REGIONS} empty Celery tasks",
            "jobs/s",
            ("validate, deploy, read back, events, settle", ours),
            ("empty tasks, same broker, pool and threads", lambda: _empty_tasks(stack)),
        )
    finally:
        worker.terminate()
        worker.wait(30)


def _empty_worker(stack: RunningStack, place: Path) -> subprocess.Popen[bytes]:
    module = place / "empty_tasks.py"
    module.write_text(
        "import os, redis\nfrom celery import Celery\nfrom shared.wakeups import broker_url\n"
        "app = Celery('empty', broker=broker_url(os.environ['REDIS_URL']))\n"
        "app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1)\n"
        "counter = redis.Redis.from_url(os.environ['REDIS_URL'])\n"
        "@app.task(name='empty')\ndef empty(row_id=''):\n    counter.incr('bench-empty')\n"
    )
    environ = {**clean_environment(), "REDIS_URL": stack.connection.redis_url, "PYTHONPATH": f"{place}{os.pathsep}."}
    options = ("--pool", "threads", "-c", "16", "-Q", "empty")
    quiet = ("--without-gossip", "--without-mingle", "--loglevel", "ERROR")
    with (place / "empty.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "empty_tasks", "worker", *options, *quiet],
            env=environ,
            stdout=log,
            stderr=log,
        )


def _empty_tasks(stack: RunningStack) -> float:
    counter = redis.Redis.from_url(stack.connection.redis_url)
    counter.set("bench-empty", 0)
    total = JOBS * REGIONS
    began = time.perf_counter()
    with producer(stack.connection.redis_url) as app:
        for number in range(total):
            app.send_task("empty", args=(str(number),), queue="empty", retry=False)
    wait_until(
        lambda: int(counter.get("bench-empty") or 0) >= total, seconds=60, otherwise=lambda: "empty tasks did not run"
    )
    counter.close()
    return JOBS / (time.perf_counter() - began)
