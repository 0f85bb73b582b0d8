"""Finds sources by their entry points, and builds one for a certificate service."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from shared.config.sources import CertificateService
from shared.errors import Misconfigured
from shared.usecases.source import ENTRY_POINT_GROUP, Source, SourceClass


def known_sources() -> tuple[str, ...]:
    """The kinds that a sources file may use, sorted. Imports none of them."""
    return tuple(sorted({point.name for point in _entry_points(tuple(sys.path))}))


def build_source(service: CertificateService) -> Source:
    """Import the service's source and build it; no other is imported, so a broken one harms only itself.

    Raises:
        Misconfigured: unknown kind (the known ones are listed), ambiguous kind, a source that cannot be imported, is
            not a source, or refuses the settings. Every problem names the service.
    """
    source_class = _import(_entry_point(service), service)
    try:
        source = source_class.for_service(service)
        is_source = isinstance(source, Source)  # reads every member, also a property that raises
    except Misconfigured as error:
        raise Misconfigured(tuple(f"source {service.id!r}: {problem}" for problem in error.problems)) from error
    except Exception as error:
        # from somebody else's code: its message may quote the settings, so only the kind is told
        problem = f"the kind {service.kind!r} failed on its settings ({type(error).__name__})"
        raise _misconfigured(service, problem) from error
    if not is_source:
        raise _misconfigured(service, f"what {service.kind!r} built is not a source: a {type(source).__name__}")
    return source


def _entry_point(service: CertificateService) -> EntryPoint:
    points = {point.value: point for point in _entry_points(tuple(sys.path)) if point.name == service.kind}
    if not points:
        known = ", ".join(known_sources()) or "none"
        raise _misconfigured(service, f"there is no kind {service.kind!r}; known: {known}")
    if len(points) > 1:
        problem = f"several distributions register a kind {service.kind!r}: {', '.join(sorted(points))}; remove one"
        raise _misconfigured(service, problem)
    return next(iter(points.values()))


def _import(point: EntryPoint, service: CertificateService) -> SourceClass:
    try:
        loaded = point.load()
    except Exception as error:  # the module is somebody else's code: importing it may raise anything
        problem = f"the kind {service.kind!r} ({point.value}) cannot be imported: {type(error).__name__}"
        raise _misconfigured(service, problem) from error
    if not callable(getattr(loaded, "for_service", None)):
        raise _misconfigured(service, f"{point.value} is not a source: it has no for_service")
    return cast("SourceClass", loaded)


def _misconfigured(service: CertificateService, problem: str) -> Misconfigured:
    return Misconfigured((f"source {service.id!r}: {problem}.",))


@lru_cache(maxsize=8)
def _entry_points(search_path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Scanning every distribution takes tens of milliseconds; the answer depends on the search path alone."""
    del search_path
    return tuple(entry_points(group=ENTRY_POINT_GROUP))
