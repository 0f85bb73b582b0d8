"""Fixtures for webhooks: a world with a database, and a receiver that answers 204."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.receiver import running_receiver
from tests.support.webhook_world import running_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.receiver import Receiver
    from tests.support.webhook_world import World


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    with running_world(database_url, tmp_path) as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running
