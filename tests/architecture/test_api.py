"""The shape of the API: every error has a status, and only /validate looks into PEM."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import grimp
import pytest

import shared
from services.api.errors import STATUS, status_of
from shared.errors import CertfleetError, DriverError

MAY_INSPECT = {"services.api.routes.validation", "services.api.console.pages.doctor"}
"""Loading a key costs 29 to 207 ms of CPU: it is the worker's, except where a caller asks for just that."""


def tree(root: type[CertfleetError]) -> Iterator[type[CertfleetError]]:
    for child in root.__subclasses__():
        yield child
        yield from tree(child)


@pytest.fixture(scope="module")
def errors() -> set[type[CertfleetError]]:
    for found in pkgutil.walk_packages(shared.__path__, "shared."):
        if ".migrations" not in found.name:
            importlib.import_module(found.name)
    return {error for error in tree(CertfleetError) if error.__module__.startswith(("shared.", "services.api."))}


def test_every_error_that_can_reach_a_request_has_a_status(errors: set[type[CertfleetError]]) -> None:
    ours = {error for error in errors if not issubclass(error, DriverError)}
    assert ours == set(STATUS)


def test_a_driver_error_never_shows_its_message() -> None:
    drivers: set[type[CertfleetError]] = {DriverError, *tree(DriverError)}
    assert {status_of(error("secret")) for error in drivers} == {500}


def test_only_validate_reaches_the_inspection_of_uploads() -> None:
    graph = grimp.build_graph("services", "shared", cache_dir=None)
    reaching = graph.find_downstream_modules("shared.crypto.inspection")
    assert {module for module in reaching if module.startswith("services.api.")} == MAY_INSPECT
