"""Memory over 10,000 jobs: what every process holds after each thousand."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import urllib3

from services.cli.client import ApiClient
from tests.bench.conftest import StackOf, client_of
from tests.bench.test_rollout import submission
from tests.support.stack import RunningStack, descendants, wait_until

ROUNDS = 10
CERTIFICATES = 500
"""A round: each is created and deleted again, two jobs."""
CLIENTS = 8
AT_WORK = ("queued", "validating", "deploying")


@pytest.mark.timeout(1800)
def test_memory_over_ten_thousand_jobs(stack_of: StackOf) -> None:
    stack = stack_of(regions=1, delay=None)
    client = client_of(stack)
    body = submission(1)
    print("\nMiB resident after so many jobs, by program (proportional share: shared pages are counted once)")
    for round_ in range(1, ROUNDS + 1):
        with ThreadPoolExecutor(CLIENTS) as pool:
            made = list(pool.map(lambda _: _create(client, body), range(CERTIFICATES)))
            _wait_for_the_end(client)
            list(pool.map(lambda certificate_id: _delete(stack, certificate_id), made))
            _wait_for_the_end(client)
        shown = "  ".join(f"{name} {mib:.0f}" for name, mib in sorted(_resident(stack).items()))
        print(f"  {round_ * CERTIFICATES * 2:6d}: {shown}", flush=True)


def _create(client: ApiClient, body: dict[str, object]) -> str:
    return str(client.post("/v1/certificates", body)["certificate"]["id"])


def _delete(stack: RunningStack, certificate_id: str) -> None:
    url = f"{stack.connection.url}/v1/certificates/{certificate_id}"
    answer = urllib3.request(
        "DELETE", url, headers={"Authorization": f"Bearer {stack.connection.token}"}, retries=False
    )
    assert answer.status == 202, answer.data


def _wait_for_the_end(client: ApiClient) -> None:
    def is_idle() -> bool:
        return not any(client.get(f"/v1/jobs?limit=1&state={state}")["items"] for state in AT_WORK)

    wait_until(is_idle, seconds=300, otherwise=lambda: "jobs are still at work")


def _resident(stack: RunningStack) -> dict[str, float]:
    """Proportional set size of the programs that run our code, MiB (proc(5), ``smaps_rollup``)."""
    found: dict[str, float] = {}
    for pid in descendants(stack.process.pid):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        name = next((name for mark, name in _PROGRAMS.items() if mark in command), None)
        size = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        if name and size:
            found[name] = found.get(name, 0.0) + int(size.group(1)) / 1024
    return found


_PROGRAMS = {"services.api.app": "api", "-n worker": "worker", "-n courier": "courier", " beat ": "beat"}
