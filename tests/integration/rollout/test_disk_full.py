"""No room in a region's directory: it waits and says so, serves what it served, and takes the next when it can."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from shared.usecases.driver_registry import build_driver
from tests.support.fleet import Fleet, build_fleet, region, server_upload

REGION = "cn-hangzhou"
SIZE = 512 * 1024
"""Bytes of the file system: room for a few generations."""
SMALL = 512
"""Bytes: smaller than any certificate."""


@contextmanager
def no_file_grows(_directory: Path) -> Iterator[None]:
    """As a quota: a write beyond it fails (setrlimit(2), RLIMIT_FSIZE; Python ignores the signal)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def full(directory: Path) -> Iterator[None]:
    """The file system has no byte left."""
    filling = directory / "filling"
    with filling.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
    try:
        yield
    finally:
        filling.unlink()


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """A real file system of its own, where this machine lets us mount one."""
    mount = shutil.which("mount")
    directory = place / "disk"
    directory.mkdir()
    command = [str(mount), "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(directory)]
    if os.geteuid() != 0 or mount is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount a file system; the other test limits the size of files instead")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk_is_waited_for(database_url: str, tmp_path: Path, small_disk: Path) -> None:
    assert_waited_for(database_url, tmp_path, small_disk, without_room=full(small_disk))


def test_a_limit_on_files_is_waited_for(database_url: str, tmp_path: Path) -> None:
    assert_waited_for(database_url, tmp_path, tmp_path, without_room=no_file_grows(tmp_path))


def assert_waited_for(
    database_url: str, tmp_path: Path, disk: Path, *, without_room: AbstractContextManager[None]
) -> None:
    declared = region(disk, REGION)
    fleet = build_fleet(database_url, tmp_path, regions=[declared])
    _, first = fleet.submit(server_upload("first.example.com", regions=[REGION]))
    fleet.run()
    served = published(disk)
    job_id, second = fleet.submit(server_upload("second.example.com", regions=[REGION]))
    with without_room:
        fleet.run()
        row = fleet.deployments(second)[REGION]
        assert row.error is not None
        assert (row.state, row.error["code"], row.error["retryable"]) == ("pending", "busy", True)
        assert "There is no room to write" in row.error["message"]
        assert fleet.job(job_id).state == "deploying"
        assert published(disk) == served
    assert certificates_in(fleet, declared_region=REGION) == {first}
    work_again(fleet, row.id)
    assert fleet.job(job_id).state == "succeeded"
    assert certificates_in(fleet, declared_region=REGION) == {first, second}
    assert build_driver(declared).snapshot().anomalies == ()
    fleet.context.database.close()


def published(disk: Path) -> dict[str, bytes]:
    """What a balancer reads."""
    current = disk / REGION / "current"
    return {file.name: file.read_bytes() for file in sorted(current.iterdir()) if file.is_file()}


def certificates_in(fleet: Fleet, *, declared_region: str) -> set[str]:
    snapshot = build_driver(fleet.context.settings.regions[declared_region]).snapshot()
    return {held.ref.name.certificate_id for held in snapshot.objects}


def work_again(fleet: Fleet, deployment_id: str) -> None:
    """After the longest pause."""
    fleet.pass_time(timedelta(minutes=11))
    fleet.work(deployment_id)
