"""Programs of Debian (balancers, the browser): found, or installed when we may; else their suite is left out aloud."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final

from tests.support.left_out import leave_out

SYSTEM_PATH: Final = "/usr/sbin:/usr/local/sbin:/sbin"
"""Daemons live here; an ordinary user's PATH leaves it out."""

POLICY: Final = Path("/usr/sbin/policy-rc.d")
"""Debian Policy §9.3.3 (invoke-rc.d): asked before a package starts its service; 101 means that it must not."""

INSTALL_SECONDS: Final = 150
"""Below the timeout of one test (pyproject.toml), so that a hanging mirror is told as such."""


def require(package: str) -> Path:
    """The path of ``package``'s binary of the same name, installed by apt-get if need be and allowed.

    Skips the calling test with one line otherwise; with ``CI=true`` it fails: a left-out suite proves nothing.
    """
    found = _found(package) or _installed(package)
    if not isinstance(found, Path):
        leave_out(package, f"{package} is not installed and {found}")
    return found


def _found(program: str) -> Path | None:
    found = shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", ""), SYSTEM_PATH)))
    return Path(found) if found else None


@cache
def _installed(package: str) -> Path | str:
    """The path, or why there is none. Asked once a process."""
    if os.geteuid() != 0:
        return "only root may install it"
    if shutil.which("apt-get") is None:
        return "there is no apt-get to install it"
    with _alone():
        return _found(package) or _install(package)


@contextmanager
def _alone() -> Iterator[None]:
    """One pytest-xdist worker installs, the others wait and find it."""
    with (Path(tempfile.gettempdir()) / "certfleet-apt.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(package: str) -> Path | str:
    with suppress(subprocess.SubprocessError), _services_stay_off():
        if not _apt("install", "-y", "--no-install-recommends", package):
            _apt("update")
            _apt("install", "-y", "--no-install-recommends", package)
    return _found(package) or "apt-get could not install it"


@contextmanager
def _services_stay_off() -> Iterator[None]:
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def _apt(*arguments: str) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ("apt-get", "-q", *arguments)
    done = subprocess.run(command, env=environment, capture_output=True, timeout=INSTALL_SECONDS, check=False)
    return done.returncode == 0
