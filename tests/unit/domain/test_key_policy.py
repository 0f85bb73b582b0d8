"""A key is refused by the operator's list or by the load balancer, and the finding says by whom and who takes it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.config.regions import DEFAULT_KEY_POLICY
from shared.crypto.inspection import inspect
from shared.domain.certificates import CertificateFacts
from shared.domain.findings import Finding
from shared.domain.key_policy import KeyPolicy, key_policy_findings, region_findings
from tests.support import pki
from tests.support.validation_corpus import pair

pytestmark = pytest.mark.unit

BALANCER = frozenset({"rsa-2048", "rsa-4096", "ec-p256"})


def policy(*listed: str, supported: frozenset[str] | None = None, balancer: str = "envoy") -> KeyPolicy:
    return KeyPolicy(listed=frozenset(listed) or DEFAULT_KEY_POLICY, supported=supported, balancer=balancer)


def key(algorithm: str) -> tuple[CertificateFacts, ...]:
    facts = inspect(pair(), now=pki.NOW).facts
    assert facts is not None
    return (replace(facts, key_algorithm=algorithm),)


def refusal(algorithm: str, **policies: KeyPolicy) -> Finding:
    (only,) = key_policy_findings(key(algorithm), key_policies=policies)
    assert (only.code, only.field, only.severity) == ("key_algorithm_not_supported", "certificate", "error")
    return only


def test_without_regions_the_default_policy_decides() -> None:
    said = refusal("ec-p256").message
    assert said == (
        "The certificate's public key is ec-p256; load balancers take only "
        + ", ".join(sorted(DEFAULT_KEY_POLICY))
        + "."
    )
    assert key_policy_findings(key("rsa-1024"), key_policies={}) == []


def test_a_region_takes_what_both_the_operator_and_the_balancer_take() -> None:
    assert policy(supported=BALANCER).allowed == {"rsa-2048", "rsa-4096"}
    assert policy(supported=BALANCER).out_of_reach == {"rsa-1024"}
    assert policy().allowed == DEFAULT_KEY_POLICY
    assert policy().out_of_reach == set()


def test_a_region_may_widen_or_narrow_the_policy() -> None:
    policies = {"wide": policy("rsa-2048", "ec-p256"), "narrow": policy("rsa-4096")}
    by_region = region_findings(key("ec-p256"), key_policies=policies)
    assert by_region["wide"] == ()
    assert [item.code for item in by_region["narrow"]] == ["key_algorithm_not_supported"]
    assert "the region narrow takes only rsa-4096" in by_region["narrow"][0].message


@pytest.mark.parametrize(
    ("algorithm", "one", "reason"),
    [
        ("ec-p256", policy(supported=BALANCER), "the operator's key policy does not list it"),
        ("rsa-1024", policy(supported=BALANCER), "the load balancer (envoy) does not support it"),
        (
            "ed448",
            policy(supported=BALANCER),
            "the operator's key policy does not list it and the load balancer (envoy) does not support it",
        ),
    ],
    ids=["operator", "balancer", "both"],
)
def test_a_refusal_says_who_refuses(algorithm: str, one: KeyPolicy, reason: str) -> None:
    said = f"public key is {algorithm}; the region north takes only rsa-2048, rsa-4096, because {reason}."
    assert refusal(algorithm, north=one).message.endswith(said)


def test_regions_on_both_sides_are_named() -> None:
    files, envoy = policy(balancer="directory"), policy(supported=BALANCER)
    said = refusal("rsa-1024", north=envoy, south=files, west=envoy, east=files)
    assert said.message == (
        "The certificate's public key is rsa-1024; the regions north, west take only rsa-2048, rsa-4096, because the "
        "load balancer (envoy) does not support it. The regions south, east take it."
    )
    assert said.hint == (
        "Request a certificate for a key of rsa-2048 or rsa-4096, or select only regions that take rsa-1024: "
        "south, east."
    )


def test_regions_that_refuse_for_different_reasons_get_a_finding_each() -> None:
    policies = {
        "operator": policy("rsa-2048"),
        "envoy": policy("rsa-1024", "rsa-2048", supported=BALANCER),
        "haproxy": policy("rsa-1024", "rsa-2048", supported=BALANCER, balancer="haproxy"),
    }
    said = [item.message for item in key_policy_findings(key("rsa-1024"), key_policies=policies)]
    assert len(said) == 3
    for message, region, reason in zip(said, policies, ["the operator", "(envoy)", "(haproxy)"], strict=True):
        assert f"the region {region} takes only rsa-2048, because " in message
        assert reason in message


def test_without_a_key_that_suits_all_the_remedy_names_regions_only() -> None:
    said = refusal("rsa-2048", north=policy("ec-p256"), south=policy("rsa-2048"))
    assert said.hint == "Select only regions that take rsa-2048: south."
    assert said.message.endswith(" The region south takes it.")


def test_a_region_whose_operator_and_balancer_have_nothing_in_common_takes_no_key() -> None:
    said = refusal("ed448", north=policy("ed448", supported=BALANCER))
    assert "the region north takes no key at all, because the load balancer (envoy)" in said.message
    assert said.hint == "Select only regions that take ed448."
