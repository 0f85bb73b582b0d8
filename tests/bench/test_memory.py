"""Memory over 10,000 jobs: what every process holds after every two thousand."""

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

STEPS = 5
ROUNDS = 2
"""In a step of 2,000 jobs."""
CERTIFICATES = 500
"""A round: each is created and deleted again, two jobs."""
CLIENTS = 8
AT_WORK = ("queued", "validating", "deploying")


@pytest.mark.timeout(3600)
def test_memory_over_ten_thousand_jobs(stack_of: StackOf) -> None:
    """A row for every 2,000 jobs, and how much each process grew from the first of them to the last.

    Flat is a growth of a few MiB that ends: caches fill, and the allocator keeps what it has once needed. A leak of
    1 kB a job would show as 8 MiB in one process, and go on.
    """
    stack = stack_of(regions=1, delay=None)
    body = submission(1)
    print("\nMiB resident (RSS) of each process after so many jobs")
    measured: list[dict[str, float]] = []
    for step in range(1, STEPS + 1):
        for _ in range(ROUNDS):
            _create_and_delete(stack, body)
        measured.append(_resident(stack))
        if step == 1:
            print("  " + "  ".join(["  jobs", *(f"{name:>9}" for name in measured[0])]))
        print(f"  {step * ROUNDS * CERTIFICATES * 2:6d}  {_row(measured[-1])}", flush=True)
    assert measured[0].keys() == measured[-1].keys(), "a process was started anew"
    print(f"  growth  {_row({name: measured[-1][name] - first for name, first in measured[0].items()})}")


def _row(figures: dict[str, float]) -> str:
    return "  ".join(f"{figure:9.1f}" for figure in figures.values())


def _create_and_delete(stack: RunningStack, body: dict[str, object]) -> None:
    client = client_of(stack)
    with ThreadPoolExecutor(CLIENTS) as pool:
        made = list(pool.map(lambda _: _create(client, body), range(CERTIFICATES)))
        _wait_for_the_end(client)
        list(pool.map(lambda certificate_id: _delete(stack, certificate_id), made))
        _wait_for_the_end(client)


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
    """Resident set of each process that runs our code, MiB (proc(5), ``status``), the older of a program first."""
    found: dict[str, float] = {}
    for pid in sorted(descendants(stack.process.pid)):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        name = next((name for mark, name in _PROGRAMS.items() if mark in command), None)
        size = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        if name and size:
            number = 1 + sum(other.startswith(name) for other in found)
            found[f"{name}-{number}"] = int(size.group(1)) / 1024
    return found


_PROGRAMS = {"services.api.app": "api", "-n worker": "worker", "-n courier": "courier", " beat ": "beat"}
