"""Finds drivers by their entry points, builds one for a region, and asks what it can do."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final, cast

import structlog

from shared.config.regions import Region
from shared.errors import Misconfigured
from shared.usecases.driver import ENTRY_POINT_GROUP, Capabilities, Driver, DriverClass

log = structlog.get_logger(__name__)

MOST_REGIONS: Final = 4096
"""Regions whose capabilities a process remembers; an operator declares tens."""


def known_drivers() -> tuple[str, ...]:
    """The names that a regions file may use, sorted. Imports none of them."""
    return tuple(sorted({point.name for point in _entry_points(tuple(sys.path))}))


def build_driver(region: Region) -> Driver:
    """Import the region's driver and build it; no other driver is imported, so a broken one harms only itself.

    Raises:
        Misconfigured: unknown name (the known ones are listed), ambiguous name, a driver that cannot be imported,
            is not a driver, or refuses the settings. Every problem names the region.
    """
    driver_class = _import(_entry_point(region), region)
    try:
        driver = driver_class.for_region(region)
        is_driver = isinstance(driver, Driver)  # reads every member, also a property that raises
    except Misconfigured as error:
        raise Misconfigured(tuple(f"region {region.id!r}: {problem}" for problem in error.problems)) from error
    except Exception as error:
        # from somebody else's code: its message may quote the settings, so only the kind is told
        problem = f"the driver {region.driver!r} failed on its settings ({type(error).__name__})"
        raise _misconfigured(region, problem) from error
    if not is_driver:
        raise _misconfigured(region, f"what {region.driver!r} built is not a driver: a {type(driver).__name__}")
    return driver


def capabilities_of(region: Region) -> Capabilities | None:
    """What the region's balancer can do, as far as this process can tell; asked once a region. Never raises.

    ``None`` when there is no asking here: the driver cannot be imported (the API's image need not have its libraries),
    or refuses the settings. That is logged once, without the driver's words, which may quote the settings; whoever
    works with the region says it in full (``build_driver``).
    """
    return _capabilities(region, tuple(sys.path))


@lru_cache(maxsize=MOST_REGIONS)
def _capabilities(region: Region, search_path: tuple[str, ...]) -> Capabilities | None:
    del search_path
    try:
        return build_driver(region).capabilities
    except Exception as error:  # noqa: BLE001 - a driver is somebody else's code: its fault is no fault of a request
        log.warning("capabilities_unknown", region=region.id, code=type(error).__name__)
        return None


def _entry_point(region: Region) -> EntryPoint:
    points = {point.value: point for point in _entry_points(tuple(sys.path)) if point.name == region.driver}
    if not points:
        known = ", ".join(known_drivers()) or "none"
        raise _misconfigured(region, f"there is no driver {region.driver!r}; known: {known}")
    if len(points) > 1:
        problem = f"several distributions register a driver {region.driver!r}: {', '.join(sorted(points))}; remove one"
        raise _misconfigured(region, problem)
    return next(iter(points.values()))


def _import(point: EntryPoint, region: Region) -> DriverClass:
    try:
        loaded = point.load()
    except Exception as error:  # the module is somebody else's code: importing it may raise anything
        problem = f"the driver {region.driver!r} ({point.value}) cannot be imported: {type(error).__name__}: {error}"
        raise _misconfigured(region, problem) from error
    if not callable(getattr(loaded, "for_region", None)):
        raise _misconfigured(region, f"{point.value} is not a driver: it has no for_region")
    return cast("DriverClass", loaded)


def _misconfigured(region: Region, problem: str) -> Misconfigured:
    return Misconfigured((f"region {region.id!r}: {problem}.",))


@lru_cache(maxsize=8)
def _entry_points(search_path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Scanning every distribution takes tens of milliseconds; the answer depends on the search path alone."""
    del search_path
    return tuple(entry_points(group=ENTRY_POINT_GROUP))
