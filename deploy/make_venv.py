# ruff: noqa: INP001, T201, S603 - a script for make, run before anything is installed; it prints; the commands are its own
"""Makes ``.venv`` from the hashed lock. Standard library only; quick when all is done; safe to run twice at once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
VENV: Final = ROOT / ".venv"
STAMP: Final = VENV / "made-from"
LOCK_FILE: Final = ROOT / "deploy" / "requirements" / "dev.txt"
INPUTS: Final = (LOCK_FILE, ROOT / "pyproject.toml")


def main() -> int:
    """Bring ``.venv`` up to date; 0 when it is."""
    os.umask(0o022)  # root's PostgreSQL runs as another user and must be able to read its programs
    VENV.mkdir(exist_ok=True)
    with (VENV / "making").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_current():
            _make()
    STAMP.touch()
    return 0


def _is_current() -> bool:
    return STAMP.exists() and STAMP.read_text(encoding="ascii") == _digest() and _works()


def _digest() -> str:
    seen = hashlib.sha256(str(ROOT).encode())
    for path in INPUTS:
        seen.update(path.read_bytes())
    return seen.hexdigest()


def _works() -> bool:
    """A ``.venv`` whose Python was upgraded or removed under it does not."""
    python = VENV / "bin" / "python"
    return python.exists() and subprocess.run([python, "-c", "import pip"], check=False).returncode == 0


def _make() -> None:
    STAMP.unlink(missing_ok=True)
    if not _works():
        print(f"Making {VENV} with Python {sys.version.split()[0]} …", flush=True)
        for leftover in ("bin", "lib", "lib64", "include"):
            _remove(VENV / leftover)
        _run([sys.executable, "-m", "venv", VENV])
    print("Installing what deploy/requirements/dev.txt lists …", flush=True)
    pip = [VENV / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    _run([*pip, "--require-hashes", "--no-deps", "--requirement", LOCK_FILE])
    _run([*pip, "--no-deps", "--no-build-isolation", "--editable", ROOT])
    STAMP.write_text(_digest(), encoding="ascii")


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _run(command: list[str | Path]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(command, check=False, env=environment)
    if done.returncode != 0:
        sys.exit(f"make: failed: {' '.join(map(str, command))}; what went wrong stands above.")


if __name__ == "__main__":
    sys.exit(main())
