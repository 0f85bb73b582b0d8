"""The operators' regions file (TOML): which load balancers exist, and what each one takes.

.. code-block:: toml

    [[region]]
    id = "cn-hangzhou"
    name = "China (Hangzhou)"
    driver = "directory"
    key_policy = ["rsa-1024", "rsa-2048", "rsa-4096"]   # optional
    quota = { server = 100, ca = 100 }                  # optional; per account
    max_attempts = 6                                    # optional; then the deployment is failed
    retry = { base_seconds = 2, cap_seconds = 600, deadline_seconds = 3600 }   # optional; no deadline by default
    listener_address = "192.0.2.10:443"                 # optional; where clients, and our proofs, knock
    repair = true                                       # optional; put right what somebody changed by hand
    [region.settings]
    path = "var/regions/cn-hangzhou"
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from shared.errors import Misconfigured

DEFAULT_KEY_POLICY: Final = frozenset({"rsa-1024", "rsa-2048", "rsa-4096"})
"""What the source document allows ("CLB supports … RSA 1024, RSA 2048, and RSA 4096")."""

KNOWN_KEY_ALGORITHMS: Final = frozenset(
    {"rsa-1024", "rsa-2048", "rsa-3072", "rsa-4096", "rsa-8192", "ec-p256", "ec-p384", "ec-p521", "ed25519", "ed448"}
)

DEFAULT_QUOTA: Final = 100
"""Per region, account and certificate type; the source document's "100 server certificates and 100 CA certificates"."""

DEFAULT_MAX_ATTEMPTS: Final = 6
"""With full jitter up to ten minutes (shared/domain/retries.py) the last try comes about half an hour later at most."""

_RETRY_KEYS: Final = ("base_seconds", "cap_seconds", "deadline_seconds")
_LONGEST: Final = 10**9

_PORTS: Final = 1 << 16

_REGION_ID: Final = re.compile(r"\A[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?\Z")
_KEYS: Final = frozenset(
    {"id", "name", "driver", "settings", "key_policy", "quota", "max_attempts", "retry", "listener_address", "repair"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLimits:
    """How often, how soon and how long a region is tried again; ``deadline`` counts from the first attempt."""

    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    base: timedelta = timedelta(seconds=2)
    cap: timedelta = timedelta(minutes=10)
    deadline: timedelta | None = None


DEFAULT_RETRY_LIMITS: Final = RetryLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How many certificates one account may hold in one region, by certificate type."""

    server: int = DEFAULT_QUOTA
    ca: int = DEFAULT_QUOTA


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One place where a load balancer uses certificates."""

    id: str
    name: str
    driver: str
    settings: dict[str, Any] = field(default_factory=dict, repr=False, hash=False)
    key_policy: frozenset[str] = DEFAULT_KEY_POLICY
    quota: Quota = Quota()
    retry: RetryLimits = DEFAULT_RETRY_LIMITS
    listener_address: str | None = None
    repair: bool = False
    """Whether what drifted is put right by us; otherwise it is only told."""


def is_region_id(text: str) -> bool:
    """Whether it could be one: 1 to 64 of a-z, 0-9 and '-'. Anything else is not repeated in a message."""
    return _REGION_ID.match(text) is not None


def load_regions(path: Path) -> dict[str, Region]:
    """Read the regions file; ids in file order.

    Raises:
        Misconfigured: listing every problem of the file, not just the first.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Misconfigured((f"The regions file {path} does not exist; set CERTFLEET_REGIONS to it.",)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured((f"The regions file {path} cannot be read: {error}.",)) from error
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured((f"The regions file {path} is not valid TOML: {error}.",)) from error
    return parse_regions(document, origin=str(path))


def parse_regions(document: dict[str, Any], *, origin: str) -> dict[str, Region]:
    """Turn a parsed regions document into regions; ``origin`` is named in every problem."""
    problems: list[str] = []
    regions: dict[str, Region] = {}
    entries = document.get("region", [])
    if not isinstance(entries, list) or not entries:
        raise Misconfigured((f"{origin}: no [[region]] is declared; declare at least one.",))
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            problems.append(f"{origin}: region {number} is not a table; write [[region]].")
            continue
        found = _problems_of(entry, where=f"{origin}: region {entry.get('id', number)!r}", taken=regions)
        problems += found
        if not found:
            regions[entry["id"]] = _region(entry)
    if problems:
        raise Misconfigured(tuple(problems))
    return regions


def _problems_of(entry: dict[str, Any], *, where: str, taken: dict[str, Region]) -> list[str]:
    problems = [
        f"{where}: unknown key {key!r}; known: {', '.join(sorted(_KEYS))}." for key in sorted(set(entry) - _KEYS)
    ]
    region_id = entry.get("id")
    if not isinstance(region_id, str) or not is_region_id(region_id):
        problems.append(f"{where}: id must be 1 to 64 characters of a-z, 0-9 and '-'.")
    elif region_id in taken:
        problems.append(f"{where}: the id is used twice.")
    if not isinstance(entry.get("driver"), str):
        problems.append(f"{where}: driver is missing; name one, such as 'directory'.")
    if not isinstance(entry.get("settings", {}), dict):
        problems.append(f"{where}: settings must be a table.")
    problems += _problems_of_limits(entry, where)
    return problems


def _problems_of_limits(entry: dict[str, Any], where: str) -> list[str]:
    problems: list[str] = []
    policy = entry.get("key_policy", [])
    if not isinstance(policy, list) or not set(map(str, policy)) <= KNOWN_KEY_ALGORITHMS:
        problems.append(f"{where}: key_policy takes a list of {', '.join(sorted(KNOWN_KEY_ALGORITHMS))}.")
    quota = entry.get("quota", {})
    if not isinstance(quota, dict) or not all(
        name in ("server", "ca") and isinstance(value, int) and value >= 0 for name, value in quota.items()
    ):
        problems.append(f"{where}: quota takes server and ca, whole numbers from 0.")
    attempts = entry.get("max_attempts", 1)
    if not isinstance(attempts, int) or attempts < 1:
        problems.append(f"{where}: max_attempts takes a whole number from 1.")
    if not _is_retry(entry.get("retry", {})):
        problems.append(f"{where}: retry takes {', '.join(_RETRY_KEYS)}, numbers above 0.")
    address = entry.get("listener_address", "localhost:443")
    if not isinstance(address, str) or not _is_address(address):
        problems.append(f'{where}: listener_address takes "host:port", for example "192.0.2.10:443" or "[::1]:443".')
    if not isinstance(entry.get("repair", False), bool):
        problems.append(f"{where}: repair takes true or false.")
    return problems


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    return bool(host) and (is_bracketed or ":" not in host) and port.isdecimal() and 0 < int(port) < _PORTS


def _retry_limits(entry: dict[str, Any]) -> RetryLimits:
    given = {name.removesuffix("_seconds"): timedelta(seconds=value) for name, value in entry.get("retry", {}).items()}
    limits = RetryLimits(max_attempts=entry.get("max_attempts", DEFAULT_MAX_ATTEMPTS), **given)
    return replace(limits, cap=max(limits.base, limits.cap))


def _is_retry(value: object) -> bool:
    return isinstance(value, dict) and all(
        name in _RETRY_KEYS
        and isinstance(number, int | float)
        and not isinstance(number, bool)
        and 0 < number < _LONGEST
        for name, number in value.items()
    )


def _region(entry: dict[str, Any]) -> Region:
    return Region(
        id=entry["id"],
        name=str(entry.get("name", entry["id"])),
        driver=entry["driver"],
        settings=dict(entry.get("settings", {})),
        key_policy=frozenset(entry["key_policy"]) if entry.get("key_policy") else DEFAULT_KEY_POLICY,
        quota=Quota(**entry.get("quota", {})),
        retry=_retry_limits(entry),
        listener_address=entry.get("listener_address"),
        repair=entry.get("repair", False),
    )
