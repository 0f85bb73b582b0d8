"""Customers: they submit, replace, delete, cancel and retry, and ask again with the same key until answered."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import urllib3

from tests.support import pki
from tests.support.chaos.stack import ChaosStack

AT_ONCE: Final = 4
PATIENCE: Final = 120.0
"""Seconds that a customer asks again before it is counted as unanswered."""
AGAIN: Final = 0.1
CREATE, REPLACE, DELETE, RETRY, CANCEL = 70, 10, 8, 6, 6
"""What customers do, in hundredths."""
REMINDED: Final = 5
"""Every so many-th certificate expires soon, and has somebody to be told."""
LEFT: Final = timedelta(days=10)


@dataclass(kw_only=True)
class Accepted:
    """What the service promised: the jobs answered with 202, and the certificates that they made."""

    jobs: list[str] = field(default_factory=list)
    certificates: list[str] = field(default_factory=list)
    reminded: dict[str, str] = field(default_factory=dict)
    """Contact by certificate."""
    refused: list[tuple[str, int]] = field(default_factory=list)
    """Deeds that were not possible just then (an answer below 500)."""
    unanswered: list[str] = field(default_factory=list)
    answered_again: int = 0
    """Requests that needed more than one try."""


class Customers:
    """Each deed's content follows from the seed and its number."""

    def __init__(self, stack: ChaosStack, *, seed: int) -> None:
        self._stack = stack
        self._seed = seed
        self._http = urllib3.PoolManager(timeout=urllib3.Timeout(10), retries=False, maxsize=AT_ONCE)
        self._lock = threading.Lock()
        self.accepted = Accepted()

    def serve(self, numbers: Sequence[int], *, pause: float) -> None:
        """Do the deeds of these numbers, each some time after the one before."""
        for number in numbers:
            self.do(number)
            time.sleep(pause)

    def do(self, number: int) -> None:
        """One deed."""
        chance = random.Random(f"{self._seed} {number}")  # noqa: S311 - reproducible, not secret
        with self._lock:
            known = list(self.accepted.certificates)
            jobs = list(self.accepted.jobs)
        deed = chance.choices(
            ("create", "replace", "delete", "retry", "cancel"), (CREATE, REPLACE, DELETE, RETRY, CANCEL)
        )[0]
        if deed == "create" or not known:
            self.create(number, chance)
        elif deed == "replace":
            issued = _issued(number, left=timedelta(days=99))
            body = {"certificate": issued.pem, "private_key": issued.key_pem}
            self._ask(number, "POST", f"/v1/certificates/{chance.choice(known)}/replace", body)
        elif deed == "delete":
            self._ask(number, "DELETE", f"/v1/certificates/{chance.choice(known)}")
        elif deed == "retry":
            region = chance.choice(self._stack.regions)
            self._ask(number, "POST", f"/v1/certificates/{chance.choice(known)}/deployments/{region}/retry", {})
        else:
            self._ask(number, "POST", f"/v1/jobs/{chance.choice(jobs)}/cancel", {})

    def create(self, number: int, chance: random.Random) -> None:
        """Submit a certificate for some regions; every so many-th expires soon and has a contact."""
        is_reminded = number % REMINDED == 0
        issued = _issued(number, left=LEFT if is_reminded else timedelta(days=99))
        contact = f"owner-{number}@example.com"
        answer = self._ask(
            number,
            "POST",
            "/v1/certificates",
            {
                "source": "third_party",
                "type": "server",
                "certificate": issued.pem,
                "private_key": issued.key_pem,
                "regions": chance.sample(self._stack.regions, chance.randint(1, len(self._stack.regions))),
                **({"contacts": [contact]} if is_reminded else {}),
            },
        )
        if answer and is_reminded:
            self.accepted.reminded[answer["certificate"]["id"]] = contact

    def _ask(self, number: int, method: str, path: str, body: Any = None) -> dict[str, Any]:
        headers = {
            "Authorization": f"Bearer {self._stack.token}",
            "Content-Type": "application/json",
            **({"Idempotency-Key": f"deed-{number}"} if method == "POST" else {}),
        }
        data = None if body is None else json.dumps(body)
        deadline = time.monotonic() + PATIENCE
        tries = 0
        while time.monotonic() < deadline:
            tries += 1
            with suppress(urllib3.exceptions.HTTPError):
                answer = self._http.request(method, self._stack.url + path, body=data, headers=headers)
                if answer.status < 500:
                    return self._note(f"{method} {path}", answer, tries=tries)
            time.sleep(AGAIN)
        with self._lock:
            self.accepted.unanswered.append(f"{method} {path}")
        return {}

    def _note(self, what: str, answer: urllib3.BaseHTTPResponse, *, tries: int) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(answer.data) if answer.data else {}
        with self._lock:
            self.accepted.answered_again += tries > 1
            if answer.status != 202:
                self.accepted.refused.append((what, answer.status))
                return {}
            if document["job"]["id"] not in self.accepted.jobs:  # a cancelled job is the same job
                self.accepted.jobs.append(document["job"]["id"])
            if "certificate" in document:
                self.accepted.certificates.append(document["certificate"]["id"])
        return document


@contextmanager
def customers_at_work(
    stack: ChaosStack, *, seed: int, deeds: int, pause: float
) -> Iterator[tuple[Customers, list[threading.Thread]]]:
    """So many deeds, by some customers at once; they have ended after the block."""
    customers = Customers(stack, seed=seed)
    threads = [
        threading.Thread(target=customers.serve, args=(range(first, deeds, AT_ONCE),), kwargs={"pause": pause})
        for first in range(AT_ONCE)
    ]
    for thread in threads:
        thread.start()
    try:
        yield customers, threads
    finally:
        for thread in threads:
            thread.join()


def _issued(number: int, *, left: timedelta) -> pki.Issued:
    now = datetime.now(UTC)
    return pki.server(f"h{number}.example.com", not_before=now - timedelta(days=300), not_after=now + left)
