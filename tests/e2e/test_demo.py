"""The demo says that everything happened only if it did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.demo.stage import REGIONS, Result
from tests.support.stack import clean_environment

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stack")]


EVERY_LISTENER = {(region, kind) for region in REGIONS for kind in ("one_way", "mutual")}


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli.main", "demo", *arguments]
    return subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=150, check=False)


def test_the_demo_as_data_twice_in_a_row_in_one_directory(place: Path) -> None:
    for _ in range(2):
        run = demo("--json", "--state-dir", str(place / "demo"))
        assert run.returncode == 0, run.stdout + run.stderr
        result = json.loads(run.stdout)
        assert result["ok"] is True
        assert len(result["checks"]) == 15
        assert all(check["ok"] for check in result["checks"])
        assert result["webhooks"]["received"] == result["webhooks"]["verified"] > 20
        assert {(row["region"], row["authentication"]) for row in result["listeners"]} == EVERY_LISTENER
        assert {row["served"]["state"] for row in result["listeners"]} == {"match"}
        assert Path(result["mail"]["path"]).is_file()


def test_a_directory_that_is_not_a_demos_is_left_alone(place: Path) -> None:
    (place / "mine.txt").write_text("precious")
    run = demo("--state-dir", str(place))
    assert run.returncode == 2
    assert "not empty" in run.stderr
    assert (place / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize(("checks", "ok"), [([], False), ([True], True), ([True, False], False)])
def test_the_demo_is_good_only_if_every_check_was_made_and_held(
    checks: list[bool],
    ok: bool,  # noqa: FBT001 - a table's column
) -> None:
    result = Result()
    for number, held in enumerate(checks):
        result.check(str(number), ok=held, detail="")
    assert result.ok is ok
