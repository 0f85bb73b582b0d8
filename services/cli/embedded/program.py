"""What one program of the stack is, and how it is started so that nothing of it can be left behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

LEASH: Final = Path(__file__).with_name("leash.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One supervised program.

    Attributes:
        title: as people call it, in sentences.
        stop_signal: asks for an orderly end (``TERM``, ``INT``).
        stop_seconds: then it is killed.
        death_signal: what the kernel sends when supervisord dies without stopping it.
        user: run as this user; None for our own.
        is_client: clients start after, and stop before, the servers.
    """

    name: str
    title: str
    command: tuple[str, ...]
    stop_signal: str = "TERM"
    stop_seconds: int = 10
    death_signal: str = "KILL"
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    is_client: bool = False


def leashed(
    command: Sequence[str],
    *,
    parent: int | Path | None = None,
    signal: str = "KILL",
    hold: Path | None = None,
    user: str | None = None,
) -> list[str]:
    """``command`` on a leash (``leash.py``); ``parent`` is a process id or a pid file, by default us."""
    options = ["--parent", str(os.getpid() if parent is None else parent), "--signal", signal]
    if hold:
        options += ["--hold", str(hold)]
    if user:
        options += ["--user", user]
    return [sys.executable, "-I", "-S", str(LEASH), *options, "--", *command]
