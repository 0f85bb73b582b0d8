"""What a log line may carry."""

from __future__ import annotations

import json

import pytest
import structlog

from shared.telemetry import configure_logging, describe_exception

pytestmark = pytest.mark.unit


def logged(capsys: pytest.CaptureFixture[str], **fields: object) -> dict[str, object]:
    before = structlog.get_config()
    configure_logging()
    try:
        structlog.get_logger("test").error("happened", **fields)
    finally:
        structlog.configure(**before)
    return dict(json.loads(capsys.readouterr().err))


def failure() -> ValueError:
    with pytest.raises(ValueError, match="a secret value") as raised:
        int("a secret value")
    return raised.value


def test_a_field_that_is_not_on_the_list_is_dropped_and_only_its_name_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = logged(capsys, job_id="job_1", private_key="a secret value")

    assert (line["event"], line["job_id"]) == ("happened", "job_1")
    assert line["error"] == "log fields not allowed: private_key"
    assert "a secret value" not in str(line)


def test_an_exception_is_its_kind_and_place_never_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    line = logged(capsys, exc_info=failure())

    assert str(line["exception"]).startswith("builtins.ValueError at ")
    assert "in failure" in str(line["exception"])
    assert "a secret value" not in str(line)


def test_an_exception_that_was_never_raised_has_a_kind_and_no_place() -> None:
    assert describe_exception(ValueError("a secret value")) == "builtins.ValueError"
