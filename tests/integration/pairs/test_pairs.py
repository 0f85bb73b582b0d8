"""Every pair of deeds on one certificate, region or listener, at once: one after the other, or refused and told why."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations_with_replacement, count
from pathlib import Path
from threading import Barrier, Event
from typing import Any, Final

import pytest
from sqlalchemy import select

from shared.domain.rollout import FINAL_JOBS
from shared.errors import InvalidMaterial
from shared.models import Certificate, Deployment, Job, Listener
from shared.usecases.binding import repair_listener
from tests.support import pki
from tests.support.api import Api, Client, answer, build_api
from tests.support.cancelling import must_be_over, settle_down
from tests.support.fleet import build_fleet
from tests.support.memory_balancers import SITE, balancer, forget_balancers, memory_region

FREE, SERVING, FAILED, ABSENT = "tokyo", "osaka", "kyoto", "nagoya"
"""Where the certificate is and nothing uses it; is served; failed; and never was."""

PATIENCE_SECONDS: Final = 60.0
ROUNDS: Final = 2
_numbers: Final = count(1)

Answer = tuple[int, str | None]
Outcome = dict[str, Any]


@pytest.fixture
def api(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(sys, "path", [str(SITE), *sys.path])
    forget_balancers()
    regions = [memory_region(name) for name in (FREE, SERVING, FAILED, ABSENT)]
    fleet = build_fleet(database_url, tmp_path, regions=regions)
    yield build_api(fleet)
    fleet.context.database.close()
    forget_balancers()


@dataclass(kw_only=True)
class World:
    """One certificate with a past in several regions, and one listener that serves it."""

    api: Api
    host: str
    certificate_id: str = ""
    listener_id: str = ""
    refusals: list[dict[str, Any]] = field(default_factory=list)

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        client = Client(http=self.api.app.test_client(), token=self.api.client.token)
        response = client.send(method, path, json=body or {})
        document = answer(response)
        if response.status_code == 409 and document["code"] == "busy":
            self.refusals.append({**document["context"], "retry_after": response.headers.get("Retry-After")})
        return response.status_code, document.get("code")


def deploy(world: World) -> Answer:
    return world.send("POST", f"/v1/certificates/{world.certificate_id}/deployments", {"regions": [ABSENT]})


def retry(world: World) -> Answer:
    return world.send("POST", f"/v1/certificates/{world.certificate_id}/deployments/{FAILED}/retry")


def remove(world: World) -> Answer:
    return world.send("DELETE", f"/v1/certificates/{world.certificate_id}/deployments/{FREE}")


def replace(world: World) -> Answer:
    body = {name: pem for name, pem in upload(world.host).items() if name in ("certificate", "private_key")}
    return world.send("POST", f"/v1/certificates/{world.certificate_id}/replace", body)


def delete(world: World) -> Answer:
    return world.send("DELETE", f"/v1/certificates/{world.certificate_id}")


def create_listener(world: World) -> Answer:
    body = {"region": FREE, "name": "new", "hosts": [world.host], "server_certificate_id": world.certificate_id}
    return world.send("POST", "/v1/listeners", body)


def change_listener(world: World) -> Answer:
    return world.send("PATCH", f"/v1/listeners/{world.listener_id}", {"hosts": [world.host, f"api.{world.host}"]})


def delete_listener(world: World) -> Answer:
    return world.send("DELETE", f"/v1/listeners/{world.listener_id}")


def repair(world: World) -> Answer:
    """As the patrol does it: only what is bound and at rest."""
    with world.api.fleet.transaction() as session:
        listener = session.get_one(Listener, world.listener_id, with_for_update=True)
        if listener.state != "bound":
            return 409, None
        repair_listener(session, listener, now=world.api.fleet.now)
    return 202, None


DEEDS: Final = (deploy, retry, remove, replace, delete, create_listener, change_listener, delete_listener, repair)
Deed = Callable[[World], Answer]


def upload(host: str) -> dict[str, Any]:
    issued = pki.server_with_chain(host, f"api.{host}", serial=next(_numbers) + 1000)
    return {"certificate": issued.chain_pem, "private_key": issued.key_pem, "regions": [FREE, SERVING, FAILED]}


def build_world(api: Api) -> World:
    world = World(api=api, host=f"h{next(_numbers)}.example.com")
    balancer(FAILED).faults.add("stage", InvalidMaterial)
    world.certificate_id = api.submit(**upload(world.host))["certificate"]["id"]
    api.fleet.run()
    body = {"region": SERVING, "name": "old", "hosts": [world.host], "server_certificate_id": world.certificate_id}
    world.listener_id = answer(api.client.post("/v1/listeners", body))["listener"]["id"]
    api.fleet.run()
    return world


def outcome(world: World, answers: dict[str, list[Answer]]) -> Outcome:
    """What was answered, what the rows say, and what the balancers hold and show; ids as generations."""
    settle_down(world.api.fleet, rounds=2)
    with world.api.fleet.transaction() as session:
        lineage = [world.certificate_id]
        for one in lineage:
            later = select(Certificate.id).where(Certificate.replaces_id == one).order_by(Certificate.id)
            lineage += session.execute(later).scalars()
        generation = {one: number for number, one in enumerate(lineage)}
        certificates = [session.get_one(Certificate, one) for one in lineage]
        rows = session.execute(select(Deployment).where(Deployment.certificate_id.in_(lineage))).scalars().all()
        users = session.execute(select(Listener).where(Listener.server_certificate_id.in_(lineage))).scalars().all()
        job_ids = list(session.execute(select(Job.id).where(Job.certificate_id.in_(lineage))).scalars())
    for job_id in job_ids:
        must_be_over(world.api.fleet, job_id)
    held = {(region, one) for region in REGIONS for one in objects(region) if one in generation}
    assert held == {(row.region, row.certificate_id) for row in rows if row.state == "deployed"}
    for user in users:
        wanted = next(one for one in certificates if one.id == user.server_certificate_id).fingerprint_sha256
        for host in user.hosts:
            assert (balancer(user.region).shown_to(host) == wanted) is (user.state == "bound"), user.name
    return {
        "answers": {name: sorted(given, key=str) for name, given in sorted(answers.items())},
        "certificates": [
            (one.state, generation.get(one.replaced_by_id) if one.replaced_by_id else None) for one in certificates
        ],
        "deployments": sorted((row.region, generation[row.certificate_id], row.state) for row in rows),
        "listeners": sorted(
            (
                user.name,
                user.state,
                generation[user.server_certificate_id],
                tuple(host.replace(world.host, "host") for host in user.hosts),
            )
            for user in users
        ),
    }


REGIONS: Final = (FREE, SERVING, FAILED, ABSENT)


def objects(region: str) -> list[str]:
    return [held.ref.name.certificate_id for held in balancer(region).snapshot().objects]


def one_after_the_other(api: Api, first: Deed, second: Deed, *, to_the_end: bool) -> Outcome:
    """The second is asked for when the first was accepted, or when the first is done."""
    world = build_world(api)
    answers: dict[str, list[Answer]] = {first.__name__: [first(world)]}
    if to_the_end:
        settle_down(api.fleet, rounds=1)
    answers.setdefault(second.__name__, []).append(second(world))
    return outcome(world, answers)


def at_once(api: Api, one: Deed, other: Deed) -> tuple[World, Outcome]:
    """Both in threads that leave the line together, while a worker does what there is to do."""
    world = build_world(api)
    line, is_over = Barrier(2), Event()

    def ask(deed: Deed) -> Answer:
        line.wait(PATIENCE_SECONDS)
        return deed(world)

    def work() -> None:
        while not is_over.is_set():
            api.fleet.run()

    with ThreadPoolExecutor(3) as pool:
        worker = pool.submit(work)
        try:
            given = list(pool.map(ask, (one, other), timeout=PATIENCE_SECONDS))
        finally:
            is_over.set()
        worker.result(PATIENCE_SECONDS)
    answers: dict[str, list[Answer]] = {}
    for deed, told in zip((one, other), given, strict=True):
        answers.setdefault(deed.__name__, []).append(told)
    return world, outcome(world, answers)


@pytest.mark.parametrize(
    ("one", "other"),
    list(combinations_with_replacement(DEEDS, 2)),
    ids=lambda deed: getattr(deed, "__name__", str(deed)),
)
def test_two_at_once_end_as_one_after_the_other(api: Api, one: Deed, other: Deed) -> None:
    orders = [(one, other), (other, one)] if one is not other else [(one, other)]
    expected = [
        one_after_the_other(api, first, second, to_the_end=to_the_end)
        for first, second in orders
        for to_the_end in (False, True)
    ]
    for _ in range(ROUNDS):
        world, found = at_once(api, one, other)
        assert found in expected
        for refusal in world.refusals:
            assert refusal["field"]
            assert int(refusal["retry_after"]) > 0
            assert refusal["job_id"] or repair in (one, other)
            if refusal["job_id"]:
                assert api.fleet.job(refusal["job_id"]).state in FINAL_JOBS
