"""Node and the packages of ``docs/examples``, installed from their lock; otherwise the suite is left out aloud."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.support.left_out import leave_out

EXAMPLES: Final = Path(__file__).parents[2] / "docs" / "examples"
OLDEST: Final = 18
"""Node's oldest release whose ``node:`` modules and top-level syntax the examples use."""
INSTALL_SECONDS: Final = 100
"""Below the timeout of one test (pyproject.toml), so that a hanging registry is told as such."""


def node() -> Path:
    """The path of Node's program; the calling test is left out where there is none, or one too old."""
    found = shutil.which("node")
    if found is None:
        leave_out("Node", "node is not installed")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    if int(version.removeprefix("v").split(".")[0] or 0) < OLDEST:
        leave_out("Node", f"node is {version or 'broken'}, and {OLDEST} or newer is needed")
    return Path(found)


def installed_examples(place: Path) -> Path:
    """A copy of ``docs/examples`` with the packages of its lock beside it, by npm from the configured registry."""
    npm = shutil.which("npm")
    if npm is None:
        leave_out("Node", "npm is not installed")
    copy = place / "examples"
    shutil.copytree(EXAMPLES, copy)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    try:
        done = subprocess.run(command, cwd=copy, capture_output=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        leave_out("Node", "npm did not answer")
    if done.returncode != 0:
        leave_out("Node", "npm could not install the packages of docs/examples")
    return copy
