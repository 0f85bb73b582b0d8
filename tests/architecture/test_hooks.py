"""What runs before a commit is what `make lint` runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import yaml

ROOT: Final = Path(__file__).parents[2]
_FILES_OR_FLAGS: Final = re.compile(r" (--force-exclude|\.)(?= |$)")


def test_the_hooks_run_the_tools_of_make_lint_and_download_nothing() -> None:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    hooks = [hook for repository in repositories for hook in repository["hooks"]]

    assert [repository["repo"] for repository in repositories] == ["local"]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert [_plain(hook["entry"].removeprefix(".venv/bin/")) for hook in hooks] == make_lint()


def make_lint() -> list[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)
    assert found
    return [_plain(line.strip().removeprefix("$(BIN)/")) for line in found[1].splitlines()]


def _plain(command: str) -> str:
    return _FILES_OR_FLAGS.sub("", command)
