"""The operators' sources file (TOML): which certificate services there are, whose they are, and how to reach them.

.. code-block:: toml

    [[source]]
    id = "cas"
    name = "Certificate Management Service"
    kind = "alibaba_cas"
    account = "default"                                 # whose: an account's name or id; nobody else sees it
    retry = { base_seconds = 2, cap_seconds = 300 }     # optional
    [source.settings]
    access_key_id = "LTAI…"
    access_key_secret = { env = "CAS_ACCESS_KEY_SECRET" }   # or { file = "/run/secrets/cas" }; never the secret itself
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from shared.config.regions import RetryLimits
from shared.errors import Misconfigured

DEFAULT_RETRY: Final = RetryLimits(max_attempts=30, base=timedelta(seconds=2), cap=timedelta(minutes=5))
"""With full jitter a service that is away is asked for an hour and more: a renewal begins weeks before it is needed."""

_SOURCE_ID: Final = re.compile(r"\A[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?\Z")
_KEYS: Final = frozenset({"id", "name", "kind", "account", "settings", "max_attempts", "retry"})
_RETRY_KEYS: Final = ("base_seconds", "cap_seconds")
_LONGEST_PAUSE: Final = 600
"""Seconds; ``shared/usecases/clock_jumps.py`` takes a longer pause for a clock that went back."""

_SECRET: Final = re.compile(r"(secret|password|token|private_key)\Z")
"""Settings of these names never stand in the file: it is read by people, copied and backed up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateService:
    """One certificate service as the operator declares it, for one account."""

    id: str
    name: str
    kind: str
    account: str
    """The account's name or id."""
    settings: dict[str, Any] = field(default_factory=dict, repr=False, hash=False)
    retry: RetryLimits = DEFAULT_RETRY

    def secret(self, name: str, *, environ: Mapping[str, str] | None = None) -> str:
        """The secret that the setting ``name`` points at, read now: only whoever works with the service reads it.

        Raises:
            Misconfigured: the setting is missing, or what it points at is not there. Never quotes a secret.
        """
        reference = self.settings.get(name)
        if not isinstance(reference, dict) or not is_reference(reference):
            raise Misconfigured((f'{name} takes {{ env = "NAME" }} or {{ file = "PATH" }}.',))
        return _read(name, reference, os.environ if environ is None else environ)


def load_sources(path: Path) -> dict[str, CertificateService]:
    """Read the sources file; ids in file order. A file without a source is fine.

    Raises:
        Misconfigured: listing every problem of the file, not just the first.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Misconfigured(
            (f"The sources file {path} does not exist; correct or unset CERTFLEET_SOURCES.",)
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured((f"The sources file {path} cannot be read: {type(error).__name__}.",)) from error
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured((f"The sources file {path} is not valid TOML: {error}.",)) from error
    return parse_sources(document, origin=str(path))


def parse_sources(document: dict[str, Any], *, origin: str) -> dict[str, CertificateService]:
    """Turn a parsed sources document into services; ``origin`` is named in every problem."""
    entries = document.get("source", [])
    if not isinstance(entries, list):
        raise Misconfigured((f"{origin}: write [[source]] for each source.",))
    problems: list[str] = []
    services: dict[str, CertificateService] = {}
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            problems.append(f"{origin}: source {number} is not a table; write [[source]].")
            continue
        found = _problems_of(entry, where=f"{origin}: source {entry.get('id', number)!r}", taken=services)
        problems += found
        if not found:
            services[entry["id"]] = _service(entry)
    if problems:
        raise Misconfigured(tuple(problems))
    return services


def is_reference(value: object) -> bool:
    """Whether it points at a secret: ``{env = "NAME"}`` or ``{file = "PATH"}``."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((place, name),) = value.items()
    return place in ("env", "file") and isinstance(name, str) and bool(name)


def _problems_of(entry: dict[str, Any], *, where: str, taken: dict[str, CertificateService]) -> list[str]:
    problems = [
        f"{where}: unknown key {key!r}; known: {', '.join(sorted(_KEYS))}." for key in sorted(set(entry) - _KEYS)
    ]
    source_id = entry.get("id")
    if not isinstance(source_id, str) or not _SOURCE_ID.match(source_id):
        problems.append(f"{where}: id must be 1 to 32 characters of a-z, 0-9 and '-'.")
    elif source_id in taken:
        problems.append(f"{where}: the id is used twice.")
    for key, example in (("kind", "'local_ca'"), ("account", "'default'")):
        if not isinstance(entry.get(key), str) or not entry[key]:
            problems.append(f"{where}: {key} is missing; name one, such as {example}.")
    attempts = entry.get("max_attempts", 1)
    if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
        problems.append(f"{where}: max_attempts takes a whole number from 1.")
    if not _is_retry(entry.get("retry", {})):
        problems.append(f"{where}: retry takes {', '.join(_RETRY_KEYS)}, numbers above 0 and up to {_LONGEST_PAUSE}.")
    return problems + _problems_of_settings(entry.get("settings", {}), where)


def _problems_of_settings(settings: object, where: str) -> list[str]:
    if not isinstance(settings, dict):
        return [f"{where}: settings must be a table."]
    return [
        f'{where}: {name} must not stand in the file; write {{ env = "NAME" }} or {{ file = "PATH" }}.'
        for name, value in settings.items()
        if _SECRET.search(name) and not is_reference(value)
    ]


def _is_retry(value: object) -> bool:
    return isinstance(value, dict) and all(
        name in _RETRY_KEYS
        and isinstance(number, int | float)
        and not isinstance(number, bool)
        and 0 < number <= _LONGEST_PAUSE
        for name, number in value.items()
    )


def _service(entry: dict[str, Any]) -> CertificateService:
    pauses = {name.removesuffix("_seconds"): timedelta(seconds=value) for name, value in entry.get("retry", {}).items()}
    limits = replace(DEFAULT_RETRY, max_attempts=entry.get("max_attempts", DEFAULT_RETRY.max_attempts), **pauses)
    return CertificateService(
        id=entry["id"],
        name=str(entry.get("name", entry["id"])),
        kind=entry["kind"],
        account=entry["account"],
        settings=dict(entry.get("settings", {})),
        retry=replace(limits, cap=max(limits.base, limits.cap)),
    )


def _read(name: str, reference: dict[str, str], environ: Mapping[str, str]) -> str:
    ((place, where),) = reference.items()
    if place == "env":
        value = environ.get(where, "")
        problem = f"{name}: the environment variable {where} is not set."
    else:
        value, problem = _read_file(Path(where)), f"{name}: the file {where} is missing, unreadable or empty."
    if not value:
        raise Misconfigured((problem,))
    return value


def _read_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
