"""Runs a program that cannot outlive its parent: ``leash.py OPTIONS -- COMMAND``.

Standard library only and started by path (``python -I -S leash.py``), so that it costs some 20 ms and imports nothing
of ours. The order matters: Linux clears the parent-death signal when a process changes its user (prctl(2),
PR_SET_PDEATHSIG), so it is set after that, and the parent is looked at once more after the signal is set. What needs
our own rights (the pid file, the lock file, Python's modules) is read before the user changes.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import pwd
import signal
import sys
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
"""Linux, include/uapi/linux/prctl.h."""

PARENT_IS_GONE: Final = 75
"""EX_TEMPFAIL of sysexits.h."""


def main(arguments: list[str]) -> None:
    """Become the command: hold the lock file, change the user, tie the life to the parent, then exec."""
    options = _parser().parse_args(arguments)
    parent = _expected_parent(options.parent)
    if options.hold:
        _hold(options.hold)
    if options.user:
        _become(options.user)
    os.umask(0o077)
    _die_with_parent(signal.Signals[f"SIG{options.signal}"], parent)
    os.execvp(options.command[0], options.command)  # noqa: S606 - becoming another program is what this file is for


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parent", required=True, help="the parent's process id, or a file that holds it")
    parser.add_argument("--signal", default="KILL", help="what the program gets when the parent dies: KILL, TERM, QUIT")
    parser.add_argument("--hold", help="a file to keep a shared lock on for as long as the program lives")
    parser.add_argument("--user", help="run as this user, with an empty environment")
    parser.add_argument("command", nargs="+")
    return parser


def _hold(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    fcntl.fcntl(descriptor, fcntl.F_SETFD, 0)  # survives the exec
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def _become(name: str) -> None:
    """Change to ``name``. The environment is dropped: it may hold secrets, and /proc shows it to its process's user."""
    user = pwd.getpwnam(name)
    os.initgroups(name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ.clear()
    os.environ.update({"PATH": "/usr/bin:/bin", "LC_ALL": "C", "USER": name})
    os.chdir("/")


def _expected_parent(text: str) -> int:
    return int(text) if text.isdecimal() else int(Path(text).read_text(encoding="ascii"))


def _die_with_parent(when_it_dies: signal.Signals, parent: int) -> None:
    if sys.platform != "linux":
        return
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(when_it_dies), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit(PARENT_IS_GONE)


if __name__ == "__main__":
    main(sys.argv[1:])
