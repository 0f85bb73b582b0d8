"""What the demo does, and how it knows that it really happened."""

from __future__ import annotations

import email
import email.policy
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from services.cli.client import ApiClient
from services.cli.demo import pki
from services.cli.demo.receiver import Receiver
from services.cli.embedded.connection import Connection
from shared.crypto.webhook_signature import new_secret
from shared.errors import CertfleetError

T = TypeVar("T")

REGIONS: Final = ("cn-hangzhou", "eu-central-1", "us-west-1")
SICK: Final = "us-west-1"
CONTACT: Final = "platform@example.com"
PATIENCE: Final = 30.0
"""Seconds for any one thing to happen; on an idle machine each takes well under one."""


class Telling(Protocol):
    """How the story is shown while it happens."""

    def step(self, text: str) -> None:
        """A new chapter begins."""

    def progress(self, name: str, job: dict[str, Any]) -> None:
        """A job's regions as they stand."""


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
class _Stage:
    """What every chapter uses."""

    client: ApiClient
    connection: Connection
    regions: Path
    receiver: Receiver
    telling: Telling
    result: Result


def tell(connection: Connection, telling: Telling) -> Result:
    """Play the whole story against a running stack whose regions are directories of its state directory."""
    began = time.monotonic()
    result = Result()
    papers = pki.build(datetime.now(UTC))
    with Receiver() as receiver:
        stage = _Stage(
            client=ApiClient(connection.url, connection.token),
            connection=connection,
            regions=Path(connection.state_dir) / "regions",
            receiver=receiver,
            telling=telling,
            result=result,
        )
        telling.step("Registering a webhook endpoint")
        secret = str(stage.client.post("/v1/webhooks", {"url": receiver.url, "types": ["*"]})["secret"])
        _roll_out(stage, papers)
        _remind(stage, papers)
        _verify_webhooks(stage, secret)
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _roll_out(stage: _Stage, papers: pki.DemoPki) -> None:
    """Two certificates to three regions while one region is broken; then only that region again."""
    stage.telling.step(f"Breaking the region {SICK} on purpose")
    obstacle = stage.regions / SICK
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.write_text("The demo put a file where the region's directory belongs.\n")
    stage.telling.step("Creating a server and a CA certificate in three regions")
    submitted = [
        (name, pair, _submit(stage, name, pair))
        for name, pair in (("www.example.com", papers.server), ("client-ca", papers.client_ca))
    ]
    for name, _, answer in submitted:
        _expect_one_failure(stage, name, answer)
    stage.telling.step(f"Mending {SICK} and retrying only that region")
    obstacle.unlink()
    for name, pair, answer in submitted:
        _retry_and_expect_success(stage, name, answer["certificate"]["id"], pair)


def _submit(stage: _Stage, name: str, pair: pki.Pair, **more: Any) -> dict[str, Any]:
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
    return stage.client.post("/v1/certificates", body)


def _expect_one_failure(stage: _Stage, name: str, answer: dict[str, Any]) -> None:
    job = _follow(stage, name, answer["job"]["id"])
    states = {row["region"]: row["state"] for row in job["deployments"]}
    expected = {region: "failed" if region == SICK else "deployed" for region in REGIONS}
    stage.result.check(
        f"{name}: one region failed alone",
        ok=job["state"] == "partially_succeeded" and states == expected,
        detail=_counted(states.values()),
    )


def _retry_and_expect_success(stage: _Stage, name: str, certificate_id: str, pair: pki.Pair) -> None:
    before = _deployments(stage, certificate_id)
    answer = stage.client.post(f"/v1/certificates/{certificate_id}/deployments/{SICK}/retry")
    job = _follow(stage, name, answer["job"]["id"])
    after = _deployments(stage, certificate_id)
    touched = [region for region in REGIONS if before[region]["updated_at"] != after[region]["updated_at"]]
    stage.result.check(
        f"{name}: only that region was retried",
        ok=job["state"] == "succeeded" and touched == [SICK],
        detail=f"touched: {', '.join(touched)}",
    )
    _expect_on_disk(stage, name, pair)
    stage.result.certificates.append(
        {"id": certificate_id, "name": name, "deployments": [after[region] for region in REGIONS]}
    )


def _expect_on_disk(stage: _Stage, name: str, pair: pki.Pair) -> None:
    """Asks no API: reads what a load balancer would read."""
    holding = [region for region in REGIONS if pair.fingerprint_sha256 in _fingerprints(stage.regions / region)]
    stage.result.check(
        f"{name}: every region holds exactly what was uploaded",
        ok=holding == list(REGIONS),
        detail=f"read back by fingerprint in {len(holding)} of {len(REGIONS)}",
    )


def _fingerprints(region: Path) -> set[str]:
    files = (region / "current").resolve().rglob("*.pem")
    return {x509.load_pem_x509_certificate(file.read_bytes()).fingerprint(hashes.SHA256()).hex() for file in files}


def _remind(stage: _Stage, papers: pki.DemoPki) -> None:
    stage.telling.step("Uploading a certificate that expires in six days, and waiting for the reminder")
    answer = _submit(stage, "shop.example.com", papers.expiring, contacts=[CONTACT])
    job = _follow(stage, "shop.example.com", answer["job"]["id"])
    mailbox = Path(stage.connection.mailbox)
    path = _await(lambda: next(iter(sorted(mailbox.glob("*.eml"))), None), "the reminder mail")
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    text = message.get_body(preferencelist=("plain",))
    stage.result.mail = {
        "path": str(path),
        "to": str(message["To"]),
        "subject": str(message["Subject"]),
        "text": text.get_content() if text else "",
    }
    stage.result.check(
        "shop.example.com: a reminder was mailed",
        ok=job["state"] == "succeeded"
        and CONTACT in stage.result.mail["to"]
        and "shop.example.com" in stage.result.mail["subject"],
        detail=stage.result.mail["subject"],
    )


def _verify_webhooks(stage: _Stage, secret: str) -> None:
    """Every event that the API lists came by webhook, signed with our secret and no other."""
    stage.telling.step("Comparing the webhooks with the event log")
    listed = _all_events(stage)
    expected = {event["id"] for event in listed}
    _await(lambda: expected <= {one.event["id"] for one in stage.receiver.received()} or None, "the webhooks")
    received = stage.receiver.received()
    verified = [one for one in received if one.is_signed_with(secret)]
    wrong = new_secret()
    forged = [one for one in received if one.is_signed_with(wrong)]
    types = Counter(one.event["type"] for one in received)
    answered = {(one.event["data"]["region"], one.event["type"]) for one in received if "region" in one.event["data"]}
    stage.result.webhooks = {"received": len(received), "verified": len(verified), "types": dict(sorted(types.items()))}
    stage.result.check(
        "every event came by webhook, with a valid signature",
        ok=len(verified) == len(received) and not forged,
        detail=f"{len(verified)} of {len(received)} verified, {len(forged)} with a wrong secret",
    )
    stage.result.check(
        "every region reported for itself",
        ok={(region, "deployment.succeeded") for region in REGIONS} | {(SICK, "deployment.failed")} <= answered,
        detail=_counted(event_type for _, event_type in sorted(answered)),
    )


def _all_events(stage: _Stage) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    after = 0
    while page := stage.client.get(f"/v1/events?after={after}&limit=100")["items"]:
        events += page
        after = page[-1]["sequence"]
    return events


def _follow(stage: _Stage, name: str, job_id: str) -> dict[str, Any]:
    return stage.client.follow(job_id, seconds=PATIENCE, see=lambda job: stage.telling.progress(name, job))


def _deployments(stage: _Stage, certificate_id: str) -> dict[str, dict[str, Any]]:
    certificate = stage.client.get(f"/v1/certificates/{certificate_id}")
    return {row["region"]: row for row in certificate["deployments"]}


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in sorted(Counter(words).items()))


def _await(look: Callable[[], T | None], what: str) -> T:
    deadline = time.monotonic() + PATIENCE
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise CertfleetError(f"Waited {PATIENCE:.0f} s for {what}.", code="demo_timeout")
        time.sleep(0.05)
    return found
