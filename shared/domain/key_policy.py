"""Which public key algorithms a region takes, and what is said about the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from shared.config.regions import DEFAULT_KEY_POLICY
from shared.domain.findings import Code, Finding, finding, sorted_findings

if TYPE_CHECKING:
    from shared.domain.certificates import CertificateFacts

KeyPolicies = Mapping[str, frozenset[str]]
"""Region id to the algorithms that it allows, spelled as ``CertificateFacts.key_algorithm``."""


def key_policy_findings(facts: tuple[CertificateFacts, ...], *, key_policies: KeyPolicies) -> list[Finding]:
    """One error for each algorithm and each distinct policy that refuses it, naming the regions of that policy.

    ``facts`` are the certificates whose keys the load balancer itself uses: the server certificate, or every CA
    certificate. Without regions the default policy decides (the source document's list of algorithms).
    """
    algorithms = dict.fromkeys(one.key_algorithm for one in facts)
    return [
        _refusal(algorithm, allowed, regions=regions)
        for allowed, regions in _regions_by_policy(key_policies).items()
        for algorithm in algorithms
        if algorithm not in allowed
    ]


def region_findings(
    facts: CertificateFacts | tuple[CertificateFacts, ...], *, key_policies: KeyPolicies
) -> dict[str, tuple[Finding, ...]]:
    """What each region by itself says about the key: region id to findings, empty where it takes the key.

    ``facts`` as ``Inspection.policed`` gives them; a single one may be passed alone.
    """
    certificates = facts if isinstance(facts, tuple) else (facts,)
    return {
        region: sorted_findings(key_policy_findings(certificates, key_policies={region: allowed}))
        for region, allowed in key_policies.items()
    }


def _regions_by_policy(key_policies: KeyPolicies) -> dict[frozenset[str], list[str]]:
    if not key_policies:
        return {DEFAULT_KEY_POLICY: []}
    grouped: dict[frozenset[str], list[str]] = defaultdict(list)
    for region, allowed in key_policies.items():
        grouped[allowed].append(region)
    return grouped


def _refusal(algorithm: str, allowed: frozenset[str], *, regions: list[str]) -> Finding:
    where = f"the region{'s' if len(regions) > 1 else ''} {', '.join(regions)}" if regions else "load balancers"
    verb = "take" if len(regions) != 1 else "takes"
    listed = ", ".join(sorted(allowed)) or "no algorithm"
    return finding(
        Code.KEY_ALGORITHM_NOT_SUPPORTED,
        "certificate",
        message=f"The certificate's public key is {algorithm}; {where} {verb} only {listed}.",
    )
