"""A suite whose balancer, or whose Node, is not there is left out aloud, and is a failure in CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = """
from tests.support.debian import require
from tests.support.node import node

def test_one():
    require("no-such-balancer")

def test_two():
    require("no-such-balancer")

def test_three():
    node()
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_terminal_summary\n")
    file = tmp_path / "test_suite.py"
    file.write_text(SUITE)
    return file


def run(suite: Path, *, ci: str) -> subprocess.CompletedProcess[str]:
    """Without apt-get on the path, as root or not."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(suite.parent),
        str(suite),
    ]
    environ = {**os.environ, "CI": ci, "PATH": str(suite.parent), "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=suite.parent, env=environ, capture_output=True, text=True, check=False)


def test_a_suite_that_cannot_run_here_is_named_in_one_line(suite: Path) -> None:
    done = run(suite, ci="")
    assert done.returncode == 0
    assert "3 skipped" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("left out: ")]
    assert line.count("the no-such-balancer suite: no-such-balancer is not installed and") == 1
    assert line.count("the Node suite: node is not installed") == 1


def test_in_ci_it_fails(suite: Path) -> None:
    done = run(suite, ci="true")
    assert done.returncode == 1
    assert "3 failed" in done.stdout
    assert "the no-such-balancer suite: no-such-balancer is not installed" in done.stdout
