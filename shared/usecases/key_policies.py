"""A region's key policy: what its operator lists, less what its load balancer cannot really work with."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from shared.config.regions import DEFAULT_KEY_POLICY, Region
from shared.domain.certificates import CertificateType
from shared.domain.key_policy import KeyPolicy
from shared.usecases.driver import Capabilities
from shared.usecases.driver_registry import capabilities_of

log = structlog.get_logger(__name__)


def effective_key_policy(region: Region, kind: CertificateType = CertificateType.SERVER) -> frozenset[str]:
    """The algorithms that the region takes for certificates of this kind."""
    return key_policy_of(region, kind).allowed


def key_policy_of(region: Region, kind: CertificateType = CertificateType.SERVER) -> KeyPolicy:
    """Both sides of the policy; the operator's alone when the driver cannot be asked in this process."""
    capabilities = capabilities_of(region)
    supported = _supported(capabilities, kind) if capabilities else None
    return KeyPolicy(listed=region.key_policy, supported=supported or None, balancer=region.driver)


def tell_unsupported(regions: Iterable[Region]) -> None:
    """Log, for each region, what its operator lists in vain. For the start of a process.

    The default list is nobody's wish (shared/config/regions.py): of it only is said when nothing remains.
    """
    for region in regions:
        policy = key_policy_of(region)
        is_wished = region.key_policy != DEFAULT_KEY_POLICY or not policy.allowed
        if policy.out_of_reach and is_wished:
            log.warning("key_policy_not_supported", region=region.id, error=", ".join(sorted(policy.out_of_reach)))


def _supported(capabilities: Capabilities, kind: CertificateType) -> frozenset[str]:
    """Empty: no limit of its own."""
    if kind is CertificateType.CA and capabilities.ca_key_algorithms is not None:
        return capabilities.ca_key_algorithms
    return capabilities.key_algorithms
