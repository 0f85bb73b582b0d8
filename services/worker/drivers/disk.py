"""File system calls of the drivers that write files: durable, bounded, with errors translated."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from shared.errors import Busy, DriverError, Unreachable, Unsupported

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SHORT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
_REMEDIES: Final = {
    errno.EACCES: "give the worker's user the right to read, write and search it",
    errno.EPERM: "give the worker's user ownership of it and membership of the configured group",
    errno.EROFS: "mount it writable",
    errno.ENOTDIR: "name a directory; one part of the path is something else",
    errno.EEXIST: "name a directory; something else of that name is in the way",
    errno.EISDIR: "remove the directory that stands where a file belongs",
    errno.ELOOP: "remove the symbolic link that stands where a file belongs",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.EINVAL: "remove what stands in place of a symbolic link",
    errno.EXDEV: "keep the whole directory on one file system",
    errno.EMLINK: "choose a file system that allows more hard links",
    errno.EOPNOTSUPP: "choose a file system with hard links, symbolic links and locks",
}
"""What stays wrong until somebody changes the machine, and what to change."""

_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05


@contextmanager
def translated(place: Path) -> Iterator[None]:
    """Turn every ``OSError`` inside into the ``DriverError`` of :func:`driver_error`."""
    try:
        yield
    except OSError as error:
        raise driver_error(error, place) from error


def driver_error(error: OSError, place: Path) -> DriverError:
    """Say what an operating system's error means for a deployment; names paths, never content.

    A full disk is ``Busy``: it is retried, since it ends when somebody makes room, and it is no matter of the
    account's quota. What only an administrator can end is ``Unsupported``, with the remedy. The rest (input/output
    errors, a stale network file system, a directory that vanished) is ``Unreachable``.
    """
    named = Path(error.filename) if isinstance(error.filename, str) else place
    reason = f"{named if named.is_absolute() else place}: {(error.strerror or type(error).__name__).lower()}"
    if error.errno in _FULL:
        return Busy(
            f"There is no room to write: {reason}.", hint="Free space there, or raise the limit; it is retried."
        )
    if error.errno in _SHORT_OF_RESOURCES:
        return Busy(f"The machine is short of resources: {reason}.")
    if error.errno in _REMEDIES:
        remedy = _REMEDIES[error.errno]
        return Unsupported(f"The directory cannot be used: {reason}; {remedy}.", hint=remedy.capitalize() + ".")
    return Unreachable(f"The directory cannot be reached: {reason}.")


@contextmanager
def exclusive_lock(path: Path, *, timeout: timedelta) -> Iterator[None]:
    """Hold ``flock(2)`` on a file: one writer over all threads and processes; the kernel frees it at any death.

    Raises:
        Busy: another writer held it for the whole timeout.
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, path, timeout)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, timeout: timedelta) -> None:
    deadline = time.monotonic() + timeout.total_seconds()
    pause = _FIRST_PAUSE
    while not _try_lock(descriptor):
        left = deadline - time.monotonic()
        if left <= 0:
            raise Busy(f"Another writer holds {path} for more than {timeout.total_seconds():g} s.")
        time.sleep(min(left, pause * random.uniform(0.5, 1.0)))  # noqa: S311  # spreads waiters, protects nothing
        pause = min(pause * 2, _LONGEST_PAUSE)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_new(path: Path, content: bytes, *, mode: int, group_id: int | None = None) -> None:
    """Create a file with exactly this mode (whatever the umask), content and group; on the disk when this returns.

    Raises:
        OSError: ``EEXIST`` if anything of that name is there, a dangling link included.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        set_access(descriptor, mode=mode, group_id=group_id)
        os.fsync(descriptor)


def overwrite(path: Path, content: bytes) -> None:
    """Put the content over the first bytes of a file, by one write; on the disk when this returns.

    Raises:
        OSError: it is not there, or is a link.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, content, 0)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def set_access(target: int | Path, *, mode: int, group_id: int | None) -> None:
    """Set group, then mode: the other way round the old group could read for a moment."""
    if group_id is not None:
        os.chown(target, -1, group_id)
    os.chmod(target, mode)  # noqa: PTH101  # also takes a descriptor


def sync_directory(path: Path) -> None:
    """Make names created, removed or renamed in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_at(directory: int, name: str) -> bytes:
    """Read a file of an open directory, following no link."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()
