"""Operating system errors become driver errors; the lock is exclusive and bounded; files are exactly as asked."""

from __future__ import annotations

import errno
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from services.worker.drivers.disk import driver_error, exclusive_lock, write_new
from shared.errors import Busy, DriverError, Unreachable, Unsupported

pytestmark = pytest.mark.unit

PLACE = Path("/srv/region")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, Busy),
        (errno.EDQUOT, Busy),
        (errno.EFBIG, Busy),
        (errno.EMFILE, Busy),
        (errno.EACCES, Unsupported),
        (errno.EPERM, Unsupported),
        (errno.EROFS, Unsupported),
        (errno.ENOTDIR, Unsupported),
        (errno.EEXIST, Unsupported),
        (errno.EIO, Unreachable),
        (errno.ESTALE, Unreachable),
        (errno.ENOENT, Unreachable),
        (errno.ETIMEDOUT, Unreachable),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else None,
)
def test_an_operating_system_error_becomes(number: int, kind: type[DriverError]) -> None:
    error = driver_error(OSError(number, os.strerror(number)), PLACE)
    assert type(error) is kind
    assert str(PLACE) in error.message
    assert os.strerror(number).lower() in error.message


def test_what_only_an_administrator_can_end_comes_with_a_remedy() -> None:
    error = driver_error(OSError(errno.EROFS, "Read-only file system"), PLACE)
    assert error.hint == "Mount it writable."


def test_the_message_names_the_file_when_it_is_known() -> None:
    error = driver_error(PermissionError(errno.EACCES, "Permission denied", "/srv/region/lock"), PLACE)
    assert "/srv/region/lock: permission denied" in error.message


def test_a_second_holder_gives_up_after_the_timeout(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with (
        exclusive_lock(lock, timeout=timedelta(seconds=5)),
        pytest.raises(Busy, match=str(lock)),
        exclusive_lock(lock, timeout=timedelta(milliseconds=20)),
    ):
        pytest.fail("two writers at once")


def test_the_lock_is_free_after_its_holder_failed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with pytest.raises(KeyError), exclusive_lock(lock, timeout=timedelta(0)):
        raise KeyError
    with exclusive_lock(lock, timeout=timedelta(0)):
        assert lock.exists()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"), exclusive_lock(tmp_path / "lock", timeout=timedelta(0)):
        pytest.fail("followed")
    assert not (tmp_path / "elsewhere").exists()


def test_a_new_file_has_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        write_new(tmp_path / "file", b"content", mode=0o644)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
    assert (tmp_path / "file").read_bytes() == b"content"


def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "file").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "file", b"content", mode=0o644)
