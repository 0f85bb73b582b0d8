"""Which public key algorithms a region takes, who decides it, and what is said about the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.config.regions import DEFAULT_KEY_POLICY
from shared.domain.findings import Code, Finding, finding, sorted_findings

if TYPE_CHECKING:
    from shared.domain.certificates import CertificateFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPolicy:
    """What one region takes: the operator's list, less what its load balancer cannot work with.

    Algorithms are spelled as ``CertificateFacts.key_algorithm``. ``supported`` is the balancer's own set, ``None``
    when it has no limit of its own, or none that is known; ``balancer`` is what it is called in messages.
    """

    listed: frozenset[str]
    supported: frozenset[str] | None = None
    balancer: str = ""

    @property
    def allowed(self) -> frozenset[str]:
        """What the region takes."""
        return self.listed if self.supported is None else self.listed & self.supported

    @property
    def out_of_reach(self) -> frozenset[str]:
        """What the operator lists and the balancer cannot work with."""
        return self.listed - self.allowed

    def why_not(self, algorithm: str) -> str:
        """Who refuses the algorithm: the operator, the load balancer or both; empty when it is taken."""
        reasons = []
        if algorithm not in self.listed:
            reasons.append("the operator's key policy does not list it")
        if self.supported is not None and algorithm not in self.supported:
            reasons.append(f"the load balancer ({self.balancer}) does not support it")
        return " and ".join(reasons)


KeyPolicies = Mapping[str, KeyPolicy]
"""Region id to what it takes."""

_NO_REGION: Final = KeyPolicy(listed=DEFAULT_KEY_POLICY)


def key_policy_findings(facts: tuple[CertificateFacts, ...], *, key_policies: KeyPolicies) -> list[Finding]:
    """One error for each algorithm and each distinct reason to refuse it, naming the regions on both sides.

    ``facts`` are the certificates whose keys the load balancer itself uses: the server certificate, or every CA
    certificate. Without regions the default policy decides (the source document's list of algorithms).
    """
    algorithms = dict.fromkeys(one.key_algorithm for one in facts)
    if not key_policies:
        return [_refusal(one, _NO_REGION) for one in algorithms if one not in _NO_REGION.allowed]
    return [one for algorithm in algorithms for one in _refusals(algorithm, key_policies)]


def region_findings(
    facts: CertificateFacts | tuple[CertificateFacts, ...], *, key_policies: KeyPolicies
) -> dict[str, tuple[Finding, ...]]:
    """What each region by itself says about the key: region id to findings, empty where it takes the key.

    ``facts`` as ``Inspection.policed`` gives them; a single one may be passed alone.
    """
    certificates = facts if isinstance(facts, tuple) else (facts,)
    return {
        region: sorted_findings(key_policy_findings(certificates, key_policies={region: policy}))
        for region, policy in key_policies.items()
    }


def _refusals(algorithm: str, key_policies: KeyPolicies) -> list[Finding]:
    grouped: dict[tuple[frozenset[str], str], list[str]] = defaultdict(list)
    for region, policy in key_policies.items():
        grouped[policy.allowed, policy.why_not(algorithm)].append(region)
    takers = [region for (_, reason), regions in grouped.items() if not reason for region in regions]
    everywhere = frozenset.intersection(*(policy.allowed for policy in key_policies.values()))
    return [
        _refusal(algorithm, key_policies[regions[0]], regions=regions, takers=takers, everywhere=everywhere)
        for (_, reason), regions in grouped.items()
        if reason
    ]


def _refusal(
    algorithm: str,
    policy: KeyPolicy,
    *,
    regions: Iterable[str] = (),
    takers: Iterable[str] = (),
    everywhere: frozenset[str] = frozenset(),
) -> Finding:
    refusing = list(regions)
    said = f"{_take(refusing)} only {_listed(policy.allowed)}" if policy.allowed else f"{_take(refusing)} no key at all"
    reason = f", because {policy.why_not(algorithm)}" if refusing else ""
    others = f" {_take(list(takers)).capitalize()} it." if takers else ""
    return finding(
        Code.KEY_ALGORITHM_NOT_SUPPORTED,
        "certificate",
        message=f"The certificate's public key is {algorithm}; {said}{reason}.{others}",
        hint=_remedy(algorithm, takers=list(takers), everywhere=everywhere) if refusing else "",
    )


def _take(regions: list[str]) -> str:
    if not regions:
        return "load balancers take"
    return f"the region {regions[0]} takes" if len(regions) == 1 else f"the regions {', '.join(regions)} take"


def _remedy(algorithm: str, *, takers: list[str], everywhere: frozenset[str]) -> str:
    where = f"select only regions that take {algorithm}" + (f": {', '.join(takers)}" if takers else "")
    if not everywhere:
        return f"{where[0].upper()}{where[1:]}."
    return f"Request a certificate for a key of {_listed(everywhere, last=' or ')}, or {where}."


def _listed(algorithms: frozenset[str], *, last: str = ", ") -> str:
    names = sorted(algorithms)
    return last.join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
