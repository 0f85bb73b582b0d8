"""A region takes what its operator lists and its load balancer can really serve; the answers say it before any send."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from shared.config.regions import Region
from shared.usecases.key_policies import effective_key_policy, tell_unsupported
from tests.support import pki
from tests.support.api import Api, answer, build_api, submission
from tests.support.fleet import build_fleet, region
from tests.support.memory_balancers import SITE, balancer, forget_balancers, memory_region

FILES = "files"
PICKY = "picky"
SERVES = ["rsa-2048", "rsa-4096", "ec-p256"]


@pytest.fixture
def api(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.syspath_prepend(SITE)
    forget_balancers()
    fleet = build_fleet(database_url, tmp_path, regions=[region(tmp_path, FILES), picky()])
    yield build_api(fleet)
    fleet.context.database.close()


def picky(**overrides: Any) -> Region:
    """A region whose balancer serves no RSA 1024 key, as a real Envoy or HAProxy."""
    return memory_region(PICKY, settings={"key_algorithms": SERVES}, **overrides)


def upload(key: str, **overrides: Any) -> dict[str, Any]:
    issued = pki.server_with_chain("shop.example.com", key=key)
    fields = {"certificate": issued.chain_pem, "private_key": issued.key_pem, "regions": [FILES, PICKY], **overrides}
    return submission(**fields)


def job_of(api: Api, accepted: dict[str, Any]) -> dict[str, Any]:
    api.fleet.run()
    return answer(api.client.get(f"/v1/jobs/{accepted['job']['id']}"))


def test_regions_say_what_their_balancer_serves_and_can(api: Api) -> None:
    files, memory = api.client.items("/v1/regions")
    assert (files["key_policy"], files["ca_key_policy"]) == (["rsa-1024", "rsa-2048", "rsa-4096"],) * 2
    assert (files["listeners"], files["mutual_auth"]) == (False, False)
    assert (memory["key_policy"], memory["ca_key_policy"]) == (["rsa-2048", "rsa-4096"],) * 2
    assert (memory["listeners"], memory["mutual_auth"]) == (True, True)


def test_a_region_whose_driver_is_not_here_shows_the_operators_list(api: Api) -> None:
    elsewhere = Region(id="elsewhere", name="Elsewhere", driver="f5", key_policy=frozenset({"rsa-2048"}))
    settings = replace(api.fleet.context.settings, regions={"elsewhere": elsewhere})
    foreign = build_api(api.fleet, context=replace(api.fleet.context, settings=settings))
    with capture_logs() as logs:
        for _ in range(2):
            (shown,) = foreign.client.items("/v1/regions")
    assert (shown["key_policy"], shown["listeners"], shown["mutual_auth"]) == (["rsa-2048"], None, None)
    assert [line["event"] for line in logs].count("capabilities_unknown") == 1


def test_a_preview_says_region_by_region_who_takes_the_key(api: Api) -> None:
    report = answer(api.client.post("/v1/certificates/validate", upload("rsa-1024")))
    assert report["valid"] is False
    assert {finding["code"]: finding["severity"] for finding in report["findings"]} == {
        "key_algorithm_not_supported": "error",
        "weak_key": "warning",
    }
    assert report["regions"][FILES] == []
    (refused,) = report["regions"][PICKY]
    assert "takes only rsa-2048, rsa-4096, because the load balancer (memory) does not support it" in refused["message"]


def test_a_key_that_a_balancer_cannot_serve_is_refused_before_anything_is_sent(api: Api) -> None:
    job = job_of(api, api.submit(**upload("rsa-1024")))
    assert job["state"] == "failed"
    (error,) = job["error"]["findings"]
    assert error["code"] == "key_algorithm_not_supported"
    assert error["message"].endswith(f"The region {FILES} takes it.")
    assert error["hint"].endswith(f"or select only regions that take rsa-1024: {FILES}.")
    assert balancer(PICKY).calls == []


def test_the_same_key_reaches_a_region_that_takes_it(api: Api) -> None:
    job = job_of(api, api.submit(**upload("rsa-1024", regions=[FILES])))
    assert job["state"] == "succeeded"
    assert [finding["code"] for finding in job["findings"]] == ["weak_key"]


def test_a_region_added_later_refuses_the_key_and_the_first_keeps_it(api: Api) -> None:
    certificate = api.deployed(**upload("rsa-1024", regions=[FILES]))
    path = f"/v1/certificates/{certificate['id']}"
    job = job_of(api, answer(api.client.post(f"{path}/deployments", {"regions": [PICKY]})))
    assert job["state"] == "failed"
    assert [finding["code"] for finding in job["error"]["findings"]] == ["key_algorithm_not_supported"]
    assert balancer(PICKY).calls == []
    states = {one["region"]: one["state"] for one in answer(api.client.get(path))["deployments"]}
    assert states == {FILES: "deployed", PICKY: "failed"}


def test_every_certificate_of_a_ca_bundle_is_judged_when_a_region_is_added(api: Api) -> None:
    bundle = pki.authority("Strong").pem + pki.authority("Weak", key="rsa-1024").pem
    body = submission(type="ca", certificate=bundle, private_key=..., regions=[FILES])
    accepted = api.submit(**{"private_key": ..., **body})
    api.fleet.run()
    path = f"/v1/certificates/{accepted['certificate']['id']}/deployments"
    job = job_of(api, answer(api.client.post(path, {"regions": [PICKY]})))
    assert job["state"] == "failed"
    assert "public key is rsa-1024" in job["error"]["findings"][0]["message"]


def test_operators_are_told_what_they_list_in_vain(api: Api) -> None:
    assert api.fleet.context.settings.regions[PICKY] == picky()
    wished = picky(key_policy=frozenset({"rsa-2048", "ed448", "rsa-8192"}))
    nothing = picky(key_policy=frozenset({"ed448"}))
    with capture_logs() as logs:
        tell_unsupported([picky(), wished, nothing, api.fleet.context.settings.regions[FILES]])
    assert [(line["event"], line["region"], line["error"]) for line in logs] == [
        ("key_policy_not_supported", PICKY, "ed448, rsa-8192"),
        ("key_policy_not_supported", PICKY, "ed448"),
    ]
    assert effective_key_policy(nothing) == frozenset()
