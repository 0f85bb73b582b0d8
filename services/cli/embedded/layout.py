"""Where everything of one embedded stack lies: the state directory, its sockets, its locks."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from shared.errors import Misconfigured

SOCKET_PATH_BYTES: Final = 107
"""Longest path of a unix socket on Linux: ``sun_path`` is 108 bytes with its NUL (unix(7))."""

_LONGEST_SOCKET: Final = len("/supervisor.sock.1234567")
"""supervisord binds a name with its process id appended, then renames."""

WIND_DOWN_SECONDS: Final = 40.0
"""How long a start waits for what an earlier, killed run left behind: the longest ordered stop, and some."""

_BREAKS_SUPERVISOR: Final = re.compile(r"[\x00-\x1f%]|\s[;#]")
"""supervisord's configuration has no safe way to write these: line breaks, %, and a comment sign after a space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDir:
    """The paths of one stack. ``sockets`` is ``root/run`` unless that is too deep for a unix socket."""

    root: Path
    sockets: Path

    @property
    def run(self) -> Path:
        """What only a running stack needs; emptied at each start."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """One log a program, rotated by supervisord."""
        return self.root / "logs"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data directory."""
        return self.root / "postgres"

    @property
    def redis(self) -> Path:
        """Redis's append-only file."""
        return self.root / "redis"

    @property
    def mailbox(self) -> Path:
        """One ``.eml`` a mail."""
        return self.root / "mailbox"

    @property
    def regions(self) -> Path:
        """What the default regions' load balancers serve, one directory each; written by the regions' drivers."""
        return self.root / "regions"

    @property
    def regions_file(self) -> Path:
        """The default regions file."""
        return self.root / "regions.toml"

    @property
    def sources_file(self) -> Path:
        """The default sources file."""
        return self.root / "sources.toml"

    @property
    def local_ca(self) -> Path:
        """The local certificate authority: its key, and what it issued."""
        return self.root / "local-ca"

    @property
    def kek_file(self) -> Path:
        """The key-encryption keys. Without them, stored private keys cannot be read again."""
        return self.root / "keks.json"

    @property
    def token(self) -> Path:
        """The default account's API token, kept from start to start."""
        return self.root / "token"

    @property
    def connection(self) -> Path:
        """``connection.json``: there only while the stack is ready."""
        return self.root / "connection.json"

    @property
    def lock(self) -> Path:
        """Locked by ``certfleet up`` and its supervisord; holds the former's process id."""
        return self.root / "lock"

    @property
    def holders(self) -> Path:
        """Locked (shared) by every program of the stack for as long as it lives."""
        return self.root / "holders"

    def log_of(self, program: str) -> Path:
        """The log of one program."""
        return self.logs / f"{program}.log"


def locate(root: Path) -> StateDir:
    """The paths for ``root``; nothing is touched."""
    absolute = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links that may be missing
    return StateDir(root=absolute, sockets=_socket_place(absolute / "run"))


def prepare(root: Path) -> StateDir:
    """Make the state directory where it is missing, private to us.

    Raises:
        Misconfigured: it cannot be used; nothing was changed then.
    """
    state = locate(root)
    if _BREAKS_SUPERVISOR.search(str(state.root)):
        raise Misconfigured((f"The state directory's name {str(state.root)!r} has characters that cannot be used.",))
    try:
        _make_private(state.root)
        for directory in (state.run, state.logs, state.redis, state.mailbox):
            directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        place = error.filename or state.root
        raise Misconfigured(
            (f"The state directory {state.root} cannot be used: {place}: {error.strerror}.",)
        ) from error
    return state


def socket_directory(preferred: Path) -> Path:
    """``preferred``, or a private directory under the temporary one when ``preferred`` is too deep. It exists.

    Raises:
        Misconfigured: somebody else owns that temporary directory, or can enter it.
    """
    place = _socket_place(preferred)
    place.mkdir(mode=0o700, parents=place == preferred, exist_ok=True)
    status = place.lstat()
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o066
    if not private and place != preferred:
        raise Misconfigured((f"{place} must be a directory of this user alone; remove it and start again.",))
    return place


@contextmanager
def locked(state: StateDir, *, say: Callable[[str], None]) -> Iterator[int]:
    """Hold the state directory. Yields the lock's descriptor, for supervisord to inherit.

    Raises:
        Misconfigured: another ``certfleet up`` runs here.
    """
    with _open_lock(state.lock) as lock:
        _acquire(lock, state, say=say)
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock.fileno()


def is_locked(state: StateDir) -> bool:
    """Whether a ``certfleet up`` runs (or winds down) here."""
    try:
        with state.lock.open("r", encoding="ascii") as lock:
            return not _try_lock(lock, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def is_alive(pid: int) -> bool:
    """Whether a process of that id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def wait_for_holders(state: StateDir, *, seconds: float = WIND_DOWN_SECONDS) -> None:
    """Wait until no program of an earlier run lives.

    Raises:
        Misconfigured: some still live after ``seconds``.
    """
    with _open_lock(state.holders) as holders:
        if not _poll(lambda: _try_lock(holders, fcntl.LOCK_EX), seconds):
            raise Misconfigured(
                (f"Programs of an earlier run still use {state.root}; find them with: fuser {state.holders}.",)
            )


def _socket_place(preferred: Path) -> Path:
    if len(os.fsencode(preferred)) + _LONGEST_SOCKET <= SOCKET_PATH_BYTES:
        return preferred
    digest = hashlib.sha256(os.fsencode(preferred)).hexdigest()[:16]
    place = Path(tempfile.gettempdir()) / f"certfleet-{digest}"
    return place if len(os.fsencode(place)) + _LONGEST_SOCKET <= SOCKET_PATH_BYTES else Path("/tmp") / place.name  # noqa: S108 - private and its owner verified


def _make_private(root: Path) -> None:
    is_new = not root.exists()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = stat.S_IMODE(root.stat().st_mode)
    if mode & stat.S_IWOTH:
        raise Misconfigured((f"Everybody can write to {root}; choose another --state-dir, or: chmod o-w {root}.",))
    if is_new or not any(root.iterdir()):
        root.chmod(0o700)


def _open_lock(path: Path) -> IO[str]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Misconfigured(
            (f"The state directory {path.parent} cannot be used: {path}: {error.strerror}.",)
        ) from error
    return os.fdopen(descriptor, "r+", encoding="ascii", errors="replace")


def _acquire(lock: IO[str], state: StateDir, *, say: Callable[[str], None]) -> None:
    if _try_lock(lock, fcntl.LOCK_EX):
        return
    owner = lock.read(20).strip()
    in_use = Misconfigured((f"Another certfleet up (process {owner or '?'}) uses {state.root}; stop it first.",))
    if owner.isdecimal() and is_alive(int(owner)):
        raise in_use
    say("Waiting for an earlier run to end …")
    if not _poll(lambda: _try_lock(lock, fcntl.LOCK_EX), WIND_DOWN_SECONDS):
        raise in_use


def _try_lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _poll(is_true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
