"""What the demo does, and how it knows that it really happened."""

from __future__ import annotations

import email
import email.policy
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from services.cli.client import ApiClient
from services.cli.demo import pki, serving
from services.cli.demo.receiver import Receiver
from services.cli.demo.stage import REGIONS, Result, Stage, Telling, counted, wait_for
from services.cli.embedded.connection import Connection
from shared.crypto.webhook_signature import new_secret

SICK: Final = "us-west-1"
CONTACT: Final = "platform@example.com"


def tell(connection: Connection, telling: Telling) -> Result:
    """Play the whole story against a running stack whose regions are the embedded load balancers."""
    began = time.monotonic()
    result = Result()
    papers = pki.build(datetime.now(UTC))
    with Receiver() as receiver:
        stage = Stage(
            client=ApiClient(connection.url, connection.token),
            connection=connection,
            regions=Path(connection.state_dir) / "regions",
            receiver=receiver,
            telling=telling,
            result=result,
        )
        telling.step("Registering a webhook endpoint")
        secret = str(stage.client.post("/v1/webhooks", {"url": receiver.url, "types": ["*"]})["secret"])
        server_id, ca_id = _roll_out(stage, papers)
        doors = serving.open_listeners(stage, papers, server_id=server_id, ca_id=ca_id)
        new_id = serving.replace(stage, doors, papers, server_id=server_id)
        _list_certificates(stage, {"www.example.com": new_id, "client-ca": ca_id})
        _remind(stage, papers)
        _verify_webhooks(stage, secret)
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _roll_out(stage: Stage, papers: pki.DemoPki) -> tuple[str, str]:
    """Two certificates to three regions while one region is broken; then only that region again. Their ids."""
    stage.telling.step(f"Breaking the region {SICK} on purpose: its load balancer's directory is taken away")
    directory = stage.regions / SICK
    away = directory.rename(directory.with_name(f"{SICK}.away"))
    directory.write_text("The demo put a file where the region's directory belongs.\n")
    stage.telling.step("Creating a server and a CA certificate in three regions")
    submitted = [
        (name, pair, stage.submit(name, pair))
        for name, pair in (("www.example.com", papers.server), ("client-ca", papers.client_ca))
    ]
    for name, _, answer in submitted:
        _expect_one_failure(stage, name, answer)
    stage.telling.step(f"Mending {SICK} and retrying only that region")
    directory.unlink()
    away.rename(directory)
    for name, pair, answer in submitted:
        _retry_and_expect_success(stage, name, answer["certificate"]["id"], pair)
    server_id, ca_id = (str(answer["certificate"]["id"]) for _, _, answer in submitted)
    return server_id, ca_id


def _expect_one_failure(stage: Stage, name: str, answer: dict[str, Any]) -> None:
    job = stage.follow(name, answer["job"]["id"])
    states = {row["region"]: row["state"] for row in job["deployments"]}
    expected = {region: "failed" if region == SICK else "deployed" for region in REGIONS}
    stage.result.check(
        f"{name}: one region failed alone",
        ok=job["state"] == "partially_succeeded" and states == expected,
        detail=counted(states.values()),
    )


def _retry_and_expect_success(stage: Stage, name: str, certificate_id: str, pair: pki.Pair) -> None:
    before = stage.deployments(certificate_id)
    answer = stage.client.post(f"/v1/certificates/{certificate_id}/deployments/{SICK}/retry")
    job = stage.follow(name, answer["job"]["id"])
    after = stage.deployments(certificate_id)
    touched = [region for region in REGIONS if before[region]["updated_at"] != after[region]["updated_at"]]
    stage.result.check(
        f"{name}: only that region was retried",
        ok=job["state"] == "succeeded" and touched == [SICK],
        detail=f"touched: {', '.join(touched)}",
    )
    _expect_on_disk(stage, name, pair)


def _expect_on_disk(stage: Stage, name: str, pair: pki.Pair) -> None:
    """Asks no API: reads what lies there for the load balancer."""
    held = {region: serving.fingerprints(stage.regions / region) for region in REGIONS}
    holding = [region for region in REGIONS if pair.fingerprint_sha256 in held[region]]
    stage.result.check(
        f"{name}: every region holds exactly what was uploaded",
        ok=holding == list(REGIONS),
        detail=f"read back by fingerprint in {len(holding)} of {len(REGIONS)}",
    )


def _list_certificates(stage: Stage, certificates: dict[str, str]) -> None:
    for name, certificate_id in certificates.items():
        found = stage.deployments(certificate_id)
        stage.result.certificates.append(
            {"id": certificate_id, "name": name, "deployments": [found[region] for region in REGIONS]}
        )


def _remind(stage: Stage, papers: pki.DemoPki) -> None:
    stage.telling.step("Uploading a certificate that expires in six days, and waiting for the reminder")
    answer = stage.submit("shop.example.com", papers.expiring, contacts=[CONTACT])
    job = stage.follow("shop.example.com", answer["job"]["id"])
    mailbox = Path(stage.connection.mailbox)
    path = wait_for(lambda: next(iter(sorted(mailbox.glob("*.eml"))), None), "the reminder mail")
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


def _verify_webhooks(stage: Stage, secret: str) -> None:
    """Every event that the API lists came by webhook, signed with our secret and no other."""
    stage.telling.step("Comparing the webhooks with the event log")
    listed = _all_events(stage)
    expected = {event["id"] for event in listed}
    wait_for(lambda: expected <= {one.event["id"] for one in stage.receiver.received()} or None, "the webhooks")
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
        detail=counted(event_type for _, event_type in sorted(answered)),
    )


def _all_events(stage: Stage) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    after = 0
    while page := stage.client.get(f"/v1/events?after={after}&limit=100")["items"]:
        events += page
        after = page[-1]["sequence"]
    return events
