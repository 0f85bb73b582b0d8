"""What every chapter of the demo uses: the running stack, who watches, and what was found to be true."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from services.cli.client import ApiClient
from services.cli.demo.pki import Pair
from services.cli.demo.receiver import Receiver
from services.cli.embedded.connection import Connection
from shared.errors import CertfleetError

T = TypeVar("T")

REGIONS: Final = ("cn-hangzhou", "eu-central-1", "us-west-1")
PATIENCE: Final = 30.0
"""Seconds for any one thing to happen; on an idle machine each takes well under one."""


class Telling(Protocol):
    """How the story is shown while it happens."""

    def step(self, text: str) -> None:
        """A new chapter begins."""

    def progress(self, name: str, job: dict[str, Any]) -> None:
        """A job's regions and listeners as they stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that has to be true."""

    name: str
    ok: bool
    detail: str


@dataclass(slots=True, kw_only=True)
class Result:
    """Everything that happened. ``ok`` only if all of it did."""

    checks: list[Check] = field(default_factory=list)
    certificates: list[dict[str, Any]] = field(default_factory=list)
    listeners: list[dict[str, Any]] = field(default_factory=list)
    webhooks: dict[str, Any] = field(default_factory=dict)
    mail: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every check held."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    def check(self, name: str, *, ok: bool, detail: str) -> None:
        """Write down one fact."""
        self.checks.append(Check(name=name, ok=ok, detail=detail))

    def as_document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One performance. ``regions``: where the load balancers' directories lie."""

    client: ApiClient
    connection: Connection
    regions: Path
    receiver: Receiver
    telling: Telling
    result: Result

    def submit(self, name: str, pair: Pair, **more: Any) -> dict[str, Any]:
        """Create a certificate in every region; the API's answer."""
        body = {
            "name": name,
            "source": "third_party",
            "type": "server" if pair.private_key else "ca",
            "certificate": pair.certificate,
            "regions": list(REGIONS),
            **more,
        }
        if pair.private_key:
            body["private_key"] = pair.private_key
        return self.client.post("/v1/certificates", body)

    def follow(self, name: str, job_id: str) -> dict[str, Any]:
        """Show a job until it is final."""
        return self.client.follow(job_id, seconds=PATIENCE, see=lambda job: self.telling.progress(name, job))

    def deployments(self, certificate_id: str) -> dict[str, dict[str, Any]]:
        """Where a certificate is, by region."""
        certificate = self.client.get(f"/v1/certificates/{certificate_id}")
        return {row["region"]: row for row in certificate["deployments"]}


def counted(words: Iterable[str]) -> str:
    """For example "2 deployed, 1 failed"."""
    return ", ".join(f"{count} {word}" for word, count in sorted(Counter(words).items()))


def wait_for(look: Callable[[], T | None], what: str) -> T:
    """What ``look`` finds, once it finds something.

    Raises:
        CertfleetError: it found nothing in time.
    """
    deadline = time.monotonic() + PATIENCE
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise CertfleetError(f"Waited {PATIENCE:.0f} s for {what}.", code="demo_timeout")
        time.sleep(0.05)
    return found
