"""A balancer's record of its newest writer: raised, compared, never half written, told when damaged."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from services.worker.drivers.directory import DirectoryDriver, DirectorySettings
from services.worker.drivers.disk import exclusive_lock
from services.worker.drivers.fencing import admit
from shared.errors import Busy, Corrupt, Replan, Unsupported
from tests.contract.driver_kit import absent_ref, owner, server_material

pytestmark = pytest.mark.unit


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "fence"


def test_the_first_number_is_taken_whatever_it_is(record: Path) -> None:
    admit(record, 41)
    assert record.read_text() == "41\n"


@pytest.mark.parametrize(("fence", "kept"), [(7, 7), (8, 8), (2**63 - 1, 2**63 - 1), (None, 7)])
def test_the_same_a_newer_and_no_number_pass(record: Path, fence: int | None, kept: int) -> None:
    admit(record, 7)
    admit(record, fence)
    assert int(record.read_text()) == kept


def test_an_older_number_is_refused_with_both_numbers_and_a_way_out(record: Path) -> None:
    admit(record, 7)
    with pytest.raises(Replan, match=r"newer writer \(7\).*this one \(6\)") as refused:
        admit(record, 6)
    assert str(record) in refused.value.hint
    assert record.read_text() == "7\n"


def test_without_a_number_nothing_is_read_or_written(record: Path) -> None:
    admit(record, None)
    assert not record.exists()
    record.write_text("junk")
    admit(record, None)


def test_a_number_that_is_known_is_not_written_again(record: Path) -> None:
    admit(record, 7)
    before = record.stat()
    admit(record, 7)
    assert (record.stat().st_ino, record.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_record_is_its_owners_alone_whatever_the_umask(record: Path) -> None:
    before = os.umask(0)
    try:
        admit(record, 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE(record.stat().st_mode) == 0o600


@pytest.mark.parametrize("before", [b"7\n", b"7", b" 7", b"007\n", b"7\n\n", b"99\n"])
def test_whatever_the_old_number_looks_like_the_new_one_is_whole(record: Path, before: bytes) -> None:
    record.write_bytes(before)
    for fence in (100, 101, 999, 1000):
        admit(record, fence)
        assert record.read_text() == f"{fence}\n"


def test_a_number_of_as_many_digits_makes_no_new_file(record: Path) -> None:
    admit(record, 100)
    before = record.stat().st_ino
    admit(record, 101)
    assert record.stat().st_ino == before


def test_what_a_killed_writer_left_is_in_nobodys_way(record: Path) -> None:
    left = record.with_name("fence.next")
    left.write_text("9")
    admit(record, 7)
    assert record.read_text() == "7\n"
    assert not left.exists()


@pytest.mark.parametrize("content", [b"", b"seven", b"-7", b"+7", b"1_000", b"7 8", b"\0\0", b"\xd9\xa7", b"9" * 21])
def test_anything_but_a_number_is_an_alarm_and_stays(record: Path, content: bytes) -> None:
    record.write_bytes(content)
    with pytest.raises(Corrupt, match="no fencing number"):
        admit(record, 7)
    assert record.read_bytes() == content


def directory(path: Path) -> DirectoryDriver:
    return DirectoryDriver(DirectorySettings(path=path))


def test_a_directory_keeps_the_number_in_its_root_and_calls_it_no_anomaly(tmp_path: Path) -> None:
    directory(tmp_path / "region").fenced(7).stage(server_material(), owner=owner())
    kept = tmp_path / "region" / "fence"
    assert (kept.read_text(), stat.S_IMODE(kept.stat().st_mode)) == ("7\n", 0o600)
    assert directory(tmp_path / "region").snapshot().anomalies == ()


def test_a_directory_remembers_a_writer_who_found_nothing_to_change(tmp_path: Path) -> None:
    staged = directory(tmp_path).stage(server_material(), owner=owner())
    assert directory(tmp_path).fenced(7).stage(server_material(), owner=owner()).created is False
    with pytest.raises(Replan):
        directory(tmp_path).fenced(6).retire(staged.ref)


def test_an_older_writer_leaves_even_the_rubbish_of_a_killed_one(tmp_path: Path) -> None:
    directory(tmp_path).fenced(7).stage(server_material(), owner=owner())
    rubbish = tmp_path / "generations" / ".building-2"
    rubbish.mkdir()
    with pytest.raises(Replan):
        directory(tmp_path).fenced(6).retire(absent_ref())
    assert rubbish.exists()


def test_the_number_is_compared_under_the_lock(tmp_path: Path) -> None:
    directory(tmp_path).fenced(7).stage(server_material(), owner=owner())
    settings = DirectorySettings(path=tmp_path, lock_timeout=DirectorySettings(path=tmp_path).lock_timeout / 1000)
    with exclusive_lock(tmp_path / "lock", timeout=settings.lock_timeout), pytest.raises(Busy):
        DirectoryDriver(settings).fenced(8).stage(server_material(serial=2), owner=owner())
    assert (tmp_path / "fence").read_text() == "7\n"


def test_a_record_that_cannot_be_written_is_a_drivers_error(tmp_path: Path) -> None:
    (tmp_path / "fence.next").mkdir()
    with pytest.raises(Unsupported, match=r"fence\.next"):
        directory(tmp_path).fenced(7).stage(server_material(), owner=owner())
    assert directory(tmp_path).snapshot().objects == ()
