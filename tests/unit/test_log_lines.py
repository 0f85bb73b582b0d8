"""Logging never fails what is logged about."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from shared.telemetry import configure_logging

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def test_a_line_that_nobody_reads_any_more_is_lost_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as broken, Path(os.devnull).open("w") as nowhere:
        monkeypatch.setattr(sys, "stderr", broken)
        configure_logging()

        structlog.get_logger().info("request_answered", status=202)

        os.dup2(nowhere.fileno(), broken.fileno())  # what is left in its buffer can be written when it is closed
