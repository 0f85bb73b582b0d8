"""Starts ``certfleet up`` for tests, and looks at what it left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.cli.embedded.connection import Connection, read_connection
from services.cli.embedded.layout import StateDir, locate
from services.cli.embedded.supervision import Condition, Supervisor

START_SECONDS: Final = 90.0
STOP_SECONDS: Final = 60.0
ORDINARY: Final = "nobody"
"""An ordinary user that every machine has."""

_AS_ORDINARY: Final = (
    *("setpriv", "--reuid", ORDINARY, "--regid", "65534", "--clear-groups"),
    # The checkout and the interpreter may lie where only root may look (/root); the right to look is all that is lent
    # (no_setuid_fixup: access(2) honours it as well, which supervisord asks).
    *("--securebits", "+no_setuid_fixup"),
    *(
        "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=-all,+dac_read_search",
        "--bounding-set=-all,+dac_read_search",
    ),
)


@dataclass(kw_only=True)
class RunningStack:
    """One ``certfleet up``. ``seen`` collects every process that it was seen to have."""

    process: subprocess.Popen[bytes]
    state: StateDir
    output: Path
    seen: set[int] = field(default_factory=set)

    @property
    def connection(self) -> Connection:
        """What connection.json says; fails when the stack is not ready."""
        found = read_connection(self.state.root)
        assert found, f"not ready:\n{self.text()}"
        return found

    def text(self) -> str:
        """Everything printed so far."""
        return self.output.read_text(encoding="utf-8")

    def condition(self, program: str) -> Condition:
        """What supervisord says of one program."""
        conditions = Supervisor(self.state, ()).conditions()
        assert conditions, logs(self.state.root)
        return conditions[program]

    def supervisor_pid(self) -> int:
        """The process id of supervisord."""
        return int((self.state.run / "supervisord.pid").read_text(encoding="ascii"))

    def note_processes(self) -> set[int]:
        """Remember, and return, all processes below ``certfleet up``."""
        self.seen |= descendants(self.process.pid)
        return self.seen

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and return the exit status."""
        self.note_processes()
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)


@contextmanager
def running_stack(
    state_dir: Path, *, environ: Mapping[str, str] | None = None, port: int = 0, as_ordinary: bool = False
) -> Iterator[RunningStack]:
    """Start ``certfleet up`` and wait until it is ready; whatever happens, end it."""
    stack = begin_stack(state_dir, environ=environ, port=port, as_ordinary=as_ordinary)
    try:
        wait_until(
            lambda: stack.process.poll() is not None or read_connection(state_dir) is not None,
            seconds=START_SECONDS,
            otherwise=stack.text,
        )
        assert stack.process.poll() is None, f"certfleet up ended:\n{stack.text()}\n{logs(state_dir)}"
        yield stack
    finally:
        if stack.process.poll() is None:
            stack.stop()


def begin_stack(
    state_dir: Path, *, environ: Mapping[str, str] | None = None, port: int = 0, as_ordinary: bool = False
) -> RunningStack:
    """Start ``certfleet up`` and do not wait."""
    output = state_dir.parent / f"{state_dir.name}.output"
    prefix: Sequence[str] = _AS_ORDINARY if as_ordinary else ()
    command = [
        *prefix,
        sys.executable,
        "-m",
        "services.cli.main",
        "up",
        "--state-dir",
        str(state_dir),
        "--port",
        str(port),
    ]
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=clean_environment() | dict(environ or {})
        )
    return RunningStack(process=process, state=locate(state_dir), output=output)


def refused_start(state_dir: Path, *, port: int = 0, environ: Mapping[str, str] | None = None) -> str:
    """Start ``certfleet up`` where it must refuse; return what it prints (exit status 2 is asserted)."""
    stack = begin_stack(state_dir, port=port, environ=environ)
    try:
        status = stack.process.wait(START_SECONDS)
    finally:
        if stack.process.poll() is None:
            stack.stop()
    assert status == 2, stack.text()
    assert "Traceback" not in stack.text()
    return stack.text()


def clean_environment() -> dict[str, str]:
    """This environment without settings of a developer's own servers."""
    ours = ("CERTFLEET_", "DATABASE_URL", "REDIS_URL", "SMTP_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def descendants(pid: int) -> set[int]:
    """The ids of all processes below ``pid`` (Linux)."""
    children: dict[int, set[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (parent := _parent_of(int(entry.name))) is not None:
            children.setdefault(parent, set()).add(int(entry.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        new = children.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that still run (a zombie does not)."""
    return {pid for pid in pids if _parent_of(pid) is not None}


def listening_ports(pid: int) -> set[int]:
    """The TCP ports that a process listens on (proc(5), /proc/PID/net/tcp: state 0A)."""
    links = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}  # noqa: PTH115 - no path
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]
    ]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in links}


def wait_until(is_true: Callable[[], bool], *, seconds: float, otherwise: Callable[[], object]) -> None:
    """Wait for a condition; fail with what ``otherwise`` says."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)


def status_of(url: str, *, token: str = "") -> int:
    """The status of a GET; 0 when nobody answers."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310 - our own http URL
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return int(error.code)
    except OSError:
        return 0


def logs(state_dir: Path) -> str:
    """The end of every log, for a failure's message."""
    return "\n".join(
        f"--- {log.name}\n{log.read_text(encoding='utf-8', errors='replace')[-1500:]}"
        for log in sorted((state_dir / "logs").glob("*.log"))
    )


def _parent_of(pid: int) -> int | None:
    """Field 4 of /proc/PID/stat (proc(5)); None for a process that is gone or a zombie."""
    try:
        state, parent = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:2]
        )
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else int(parent)
