"""Which endpoint hears of which event: by type, by the regions it is about, by its certificate's tags, by its job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from shared.events.catalogue import EventType, matches

ANY_VALUE: Final = "*"
"""As the value of a tag: the certificate must have the tag, whatever it says."""

AFTER_JOBS: Final = frozenset({EventType.DEPLOYMENT_DRIFTED, EventType.DEPLOYMENT_RECOVERED})
"""They name the job that deployed what has drifted, perhaps long after that job's end: not of its life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What there is to know of an event; ``tags`` are its certificate's when it happened."""

    type: str
    job_id: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def regions(self) -> frozenset[str]:
        """The regions that it names: its own, or those of the job that has ended. Empty: no region in particular."""
        own = self.data.get("region")
        return frozenset([own] if own else self.data.get("regions") or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """What an endpoint asked for; empty ``tags`` or ``regions`` let everything through."""

    types: Sequence[str]
    job_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    regions: Sequence[str] = ()

    def wants(self, event: Subject) -> bool:
        """Whether all parts of the filter let the event through.

        A test event goes to one endpoint by its own delivery, never to those that merely listen. An event that names no
        region (``certificate.expiring``, ``job.queued``) is no other region's, so a filter of regions lets it through.
        """
        if event.type == EventType.WEBHOOK_TEST or not self._is_of_the_job(event):
            return False
        return matches(event.type, list(self.types)) and self._is_of_a_region(event) and self._is_tagged(event)

    def _is_of_the_job(self, event: Subject) -> bool:
        return self.job_id is None or (self.job_id == event.job_id and event.type not in AFTER_JOBS)

    def _is_of_a_region(self, event: Subject) -> bool:
        named = event.regions
        return not self.regions or not named or not named.isdisjoint(self.regions)

    def _is_tagged(self, event: Subject) -> bool:
        return all(name in event.tags and value in (ANY_VALUE, event.tags[name]) for name, value in self.tags.items())
