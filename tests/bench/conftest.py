"""Stacks for benchmarks: ``certfleet up`` with regions of the test drivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.cli.client import ApiClient
from tests.support.stack import RunningStack, running_stack

DRIVERS = Path(__file__).parents[1] / "support" / "drivers"

StackOf = Callable[..., RunningStack]


@pytest.fixture
def stack_of(place: Path) -> Iterator[StackOf]:
    """Start a stack with so many regions: ``stack_of(regions=20, delay=0.2)``; ``delay`` in seconds, None for none."""
    with ExitStack() as stacks:

        def start(*, regions: int, delay: float | None) -> RunningStack:
            file = place / "regions.toml"
            file.write_text("".join(_region(place, number, delay) for number in range(regions)))
            environ = {"CERTFLEET_REGIONS": str(file), "PYTHONPATH": str(DRIVERS)}
            return stacks.enter_context(running_stack(place / "state", environ=environ))

        yield start


def _region(place: Path, number: int, delay: float | None) -> str:
    driver = "directory" if delay is None else "slow"
    setting = "" if delay is None else f"delay_seconds = {delay}\n"
    return (
        f'[[region]]\nid = "r{number:02}"\ndriver = "{driver}"\nquota = {{ server = 100000, ca = 100000 }}\n'
        f'[region.settings]\npath = "{place}/regions/r{number:02}"\n{setting}\n'
    )


def client_of(stack: RunningStack) -> ApiClient:
    """A client with the stack's token."""
    return ApiClient(stack.connection.url, stack.connection.token)
