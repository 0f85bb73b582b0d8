"""Getting content from a certificate service: its states, how an offer is named, and when to ask again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, Self

_MANAGED_ID: Final = re.compile(r"([a-z0-9][a-z0-9-]{0,31}):([A-Za-z0-9][A-Za-z0-9._-]{0,63})")

SOONEST: Final = timedelta(seconds=2)
LATEST: Final = timedelta(minutes=10)
"""Between two looks at an order that is not issued yet; ``shared/usecases/clock_jumps.py`` knows no longer pause."""

_PART: Final = 10
"""A look costs a call: the next comes after a tenth of the time that the order has been waiting for."""

ISSUE_PATIENCE: Final = timedelta(days=14)
"""A certificate authority that has to be answered by people (validation of domain or organisation) takes days."""


class AcquisitionKind(StrEnum):
    """``fetch``: what the service holds. ``renew``: have it issued anew first."""

    FETCH = "fetch"
    RENEW = "renew"


class AcquisitionState(StrEnum):
    """``pending → ordering → fetching → acquired | failed | cancelled``; a fetch begins with ``fetching``."""

    PENDING = "pending"
    ORDERING = "ordering"
    """The order may have been placed; written before it is."""
    FETCHING = "fetching"
    """It is known which certificate it is; its content is next."""
    ACQUIRED = "acquired"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL_ACQUISITIONS: Final = frozenset({AcquisitionState.ACQUIRED, AcquisitionState.FAILED, AcquisitionState.CANCELLED})


class CatalogueState(StrEnum):
    """``declared`` for as long as the operator's file has the source; then ``withdrawn``."""

    DECLARED = "declared"
    WITHDRAWN = "withdrawn"


FINAL_CATALOGUES: Final = frozenset({CatalogueState.WITHDRAWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedId:
    """How the API names a certificate of a service: ``<source id>:<the service's own id>``."""

    source: str
    offer: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of ``str``.

        Raises:
            ValueError: not of this form.
        """
        found = _MANAGED_ID.fullmatch(text)
        if found is None:
            raise ValueError("not <source>:<id>")
        return cls(source=found[1], offer=found[2])

    def __str__(self) -> str:
        return f"{self.source}:{self.offer}"


def next_look(waiting: timedelta) -> timedelta:
    """How long until an order that has been waiting for so long is looked at again."""
    return min(max(waiting / _PART, SOONEST), LATEST)
