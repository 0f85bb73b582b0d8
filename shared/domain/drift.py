"""Drift: what is not as it was deployed, seen from two sides (clients, the balancer itself), told as one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class Witness(StrEnum):
    """Who says so. What clients meet is told first: it is what hurts."""

    CLIENTS = "clients"
    BALANCER = "balancer"


class DriftCode(StrEnum):
    """Part of the contract. A balancer's own findings (``missing``, ``altered``, ``access``, …) join these."""

    SERVED_MISMATCH = "served_mismatch"
    UNREACHABLE = "unreachable"
    MISSING = "missing"
    ALTERED = "altered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, for people; never content."""

    code: str
    message: str


Drift = dict[str, Any]
"""``{code, message, since, witnesses: {<Witness>: {code, message}}}`` as it is stored; ``since``: RFC 3339, UTC."""


def with_finding(drift: Drift | None, witness: Witness, finding: Finding | None, *, now: datetime) -> Drift | None:
    """The drift after ``witness`` has spoken; ``finding`` None: nothing is wrong from there. ``None``: all is well."""
    said = dict(drift["witnesses"]) if drift else {}
    said.pop(witness.value, None)
    if finding is not None:
        said[witness.value] = {"code": finding.code, "message": finding.message}
    first = next((said[each.value] for each in Witness if each.value in said), None)
    if first is None:
        return None
    since = drift["since"] if drift else now.isoformat().replace("+00:00", "Z")
    return {**first, "since": since, "witnesses": said}


def is_news(before: Drift | None, after: Drift | None) -> bool:
    """Whether something is wrong now that nobody said before, or nothing any more.

    The same thing found again is not told twice, and that one of two witnesses is content is no news.
    """
    if before is None or after is None:
        return before is not after
    return after["code"] not in {said["code"] for said in before["witnesses"].values()}
