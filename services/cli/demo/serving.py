"""Chapters in front of the load balancers: listeners that clients meet, a replacement that they do not notice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from services.cli.demo.pki import DemoPki, Pair
from services.cli.demo.stage import REGIONS, Stage, wait_for
from services.cli.demo.visitors import Visit, Visitor, Visits

ONE_WAY: Final = "www.example.com"
MUTUAL: Final = "api.example.com"
ENOUGH_VISITS: Final = 10
"""A region, before anything is changed: then "no failed connection" says something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """Where to knock, by region, and who knocks."""

    addresses: Mapping[str, str]
    anonymous: Visitor
    customer: Visitor
    stranger: Visitor

    def visit(self, visitor: Visitor, host: str) -> dict[str, Visit]:
        """One visit to each region."""
        return {region: visitor.visit(address, host) for region, address in self.addresses.items()}


def open_listeners(stage: Stage, papers: DemoPki, *, server_id: str, ca_id: str) -> Doors:
    """A one-way and a mutual listener in every region, each proven by clients of our own."""
    stage.telling.step("Opening two HTTPS listeners in each region: one-way, and mutual with the client CA")
    bodies = [
        {"name": ONE_WAY, "hosts": [ONE_WAY], "authentication": "one_way"},
        {"name": MUTUAL, "hosts": [MUTUAL], "authentication": "mutual", "ca_certificate_id": ca_id},
    ]
    answers = [
        stage.client.post("/v1/listeners", {**body, "region": region, "server_certificate_id": server_id})
        for body in bodies
        for region in REGIONS
    ]
    states = [stage.follow("", answer["job"]["id"])["state"] for answer in answers]
    doors = _doors(stage, papers)
    stage.telling.step("Knocking at each as clients do: by name, without and with a client certificate")
    _expect_shown(stage, doors, papers.server, is_done=states == ["succeeded"] * len(answers))
    _expect_the_right_clients(stage, doors)
    return doors


def replace(stage: Stage, doors: Doors, papers: DemoPki, *, server_id: str) -> str:
    """New content under steady traffic; the id of the new certificate."""
    stage.telling.step(f"Replacing the certificate of {ONE_WAY} while clients keep coming")
    with Visits(doors.anonymous, ONE_WAY, addresses=doors.addresses) as visits:
        _wait_for_visits(visits, dict.fromkeys(REGIONS, ENOUGH_VISITS))
        content = {"certificate": papers.successor.certificate, "private_key": papers.successor.private_key}
        answer = stage.client.post(f"/v1/certificates/{server_id}/replace", content)
        job = stage.follow(ONE_WAY, answer["job"]["id"])
        _wait_for_visits(visits, {region: len(made) + ENOUGH_VISITS for region, made in visits.made.items()})
    _expect_nobody_noticed(stage, visits, papers)
    _expect_replaced(stage, doors, papers, is_done=job["state"] == "succeeded")
    _expect_truth_told(stage, doors, papers.successor)
    return str(answer["certificate"]["id"])


def fingerprints(region: Path) -> set[str]:
    """SHA-256 of every certificate that lies in a region's directory, staged for its load balancer."""
    files = (region / "objects").rglob("*.pem")
    return {x509.load_pem_x509_certificate(file.read_bytes()).fingerprint(hashes.SHA256()).hex() for file in files}


def _doors(stage: Stage, papers: DemoPki) -> Doors:
    addresses = {region["id"]: region["listener_address"] for region in stage.client.get("/v1/regions")["items"]}
    return Doors(
        addresses={region: addresses[region] for region in REGIONS},
        anonymous=Visitor(trust=papers.root),
        customer=Visitor(trust=papers.root, papers=papers.customer),
        stranger=Visitor(trust=papers.root, papers=papers.stranger),
    )


def _expect_shown(stage: Stage, doors: Doors, expected: Pair, *, is_done: bool) -> None:
    shown = [region for region, visit in doors.visit(doors.anonymous, ONE_WAY).items() if _shows(visit, expected)]
    stage.result.check(
        f"{ONE_WAY}: every region shows it to a client that checks it",
        ok=is_done and shown == list(REGIONS),
        detail=f"a verified handshake and an answer in {len(shown)} of {len(REGIONS)}",
    )


def _expect_the_right_clients(stage: Stage, doors: Doors) -> None:
    refused = {
        kind: [region for region, visit in doors.visit(visitor, MUTUAL).items() if not visit.is_answered]
        for kind, visitor in (("anonymous", doors.anonymous), ("strangers", doors.stranger))
    }
    stage.result.check(
        f"{MUTUAL}: clients without a certificate of the CA are refused",
        ok=all(regions == list(REGIONS) for regions in refused.values()),
        detail=", ".join(f"{kind} by {len(regions)} of {len(REGIONS)}" for kind, regions in refused.items()),
    )
    let_in = [region for region, visit in doors.visit(doors.customer, MUTUAL).items() if visit.is_answered]
    stage.result.check(
        f"{MUTUAL}: a client with one is let in",
        ok=let_in == list(REGIONS),
        detail=f"answered by {len(let_in)} of {len(REGIONS)}",
    )


def _wait_for_visits(visits: Visits, wanted: Mapping[str, int]) -> None:
    wait_for(lambda: all(len(visits.made[region]) >= number for region, number in wanted.items()) or None, "visits")


def _expect_nobody_noticed(stage: Stage, visits: Visits, papers: DemoPki) -> None:
    """Every connection was answered, by the old certificate first and then by the new one, never back."""
    failed = [visit for visit in visits.all if not visit.is_answered]
    in_order = [_is_one_change(made, papers) for made in visits.made.values()]
    stage.result.check(
        "replaced without one failed connection",
        ok=not failed and all(in_order),
        detail=f"{len(visits.all)} connections, {len(failed)} failed"
        + (f" ({failed[0].error or failed[0].status})" if failed else ""),
    )


def _is_one_change(made: list[Visit], papers: DemoPki) -> bool:
    shown = [visit.fingerprint_sha256 for visit in made]
    changes = [new for old, new in pairwise(shown) if old != new]
    return shown[0] == papers.server.fingerprint_sha256 and changes == [papers.successor.fingerprint_sha256]


def _expect_replaced(stage: Stage, doors: Doors, papers: DemoPki, *, is_done: bool) -> None:
    shown = {
        host: [region for region, visit in doors.visit(visitor, host).items() if _shows(visit, papers.successor)]
        for host, visitor in ((ONE_WAY, doors.anonymous), (MUTUAL, doors.customer))
    }
    held = [region for region in REGIONS if papers.server.fingerprint_sha256 in fingerprints(stage.regions / region)]
    stage.result.check(
        "every region shows the new certificate and has let go of the old one",
        ok=is_done and all(regions == list(REGIONS) for regions in shown.values()) and not held,
        detail=", ".join(f"{host} in {len(regions)} of {len(REGIONS)}" for host, regions in shown.items()),
    )


def _expect_truth_told(stage: Stage, doors: Doors, expected: Pair) -> None:
    """The API's own proofs agree with ours."""
    stage.result.listeners = sorted(
        ({**row, "address": doors.addresses[row["region"]]} for row in _listeners(stage)),
        key=lambda row: (row["name"] != ONE_WAY, row["region"]),
    )
    proven = [
        row
        for row in stage.result.listeners
        if (row["served"]["state"], row["served"]["fingerprint_sha256"]) == ("match", expected.fingerprint_sha256)
    ]
    stage.result.check(
        "the service's own handshakes say the same",
        ok=len(proven) == len(stage.result.listeners) == 2 * len(REGIONS),
        detail=f"{len(proven)} of {len(stage.result.listeners)} listeners proven to match",
    )


def _listeners(stage: Stage) -> list[dict[str, Any]]:
    return list(stage.client.get("/v1/listeners?limit=100")["items"])


def _shows(visit: Visit, expected: Pair) -> bool:
    return visit.is_answered and visit.fingerprint_sha256 == expected.fingerprint_sha256
