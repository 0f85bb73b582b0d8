"""``certfleet up``: starts, survives, ends, starts again, and leaves nothing running."""

from __future__ import annotations

import os
import shutil
import signal
import smtplib
import stat
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from services.cli.embedded.connection import read_connection
from tests.support.stack import (
    STOP_SECONDS,
    RunningStack,
    alive,
    begin_stack,
    logs,
    refused_start,
    running_stack,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stack")]

PROGRAMS = ("postgres", "redis", "mail", "api", "worker", "courier", "beat")
is_root = os.geteuid() == 0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One running stack for the tests that leave it running."""
    with running_stack(tmp_path_factory.mktemp("up") / "state") as running:
        yield running


def test_connection_file_is_private_and_opens_the_api(stack: RunningStack) -> None:
    found = stack.connection

    assert stat.S_IMODE(stack.state.connection.stat().st_mode) == 0o600
    assert status_of(f"{found.url}/v1/regions", token=found.token) == 200
    assert found.pid == stack.process.pid


def test_nothing_in_the_state_directory_can_be_read_by_others(stack: RunningStack) -> None:
    readable = [path for path in stack.state.root.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o066]

    assert readable == []
    assert not stack.state.root.stat().st_mode & 0o066


def test_three_regions_are_there_without_any_configuration(stack: RunningStack) -> None:
    text = stack.state.regions_file.read_text(encoding="utf-8")

    assert [line for line in text.splitlines() if line.startswith("id")] == [
        'id = "cn-hangzhou"',
        'id = "eu-central-1"',
        'id = "us-west-1"',
    ]


def test_a_mail_becomes_a_private_file_with_its_envelope(stack: RunningStack) -> None:
    host, port = stack.connection.smtp_url.removeprefix("smtp://").split(":")
    with smtplib.SMTP(host, int(port), timeout=10) as client:
        client.sendmail("from@example.com", ["to@example.com"], "Subject: hello\r\n\r\nA line\r\n")

    mails = [path for path in stack.state.mailbox.glob("*.eml") if "Subject: hello" in path.read_text()]

    assert len(mails) == 1
    assert mails[0].read_text().startswith("Return-Path: <from@example.com>\nDelivered-To: to@example.com\n")
    assert stat.S_IMODE(mails[0].stat().st_mode) == 0o600


def test_a_second_start_on_the_same_state_is_refused(stack: RunningStack) -> None:
    said = refused_start(stack.state.root)

    assert f"Another certfleet up (process {stack.process.pid}) uses {stack.state.root}; stop it first." in said
    assert stack.connection


def test_a_busy_port_is_named_and_nothing_is_made(stack: RunningStack, tmp_path: Path) -> None:
    port = int(stack.connection.url.rpartition(":")[2])

    said = refused_start(tmp_path / "state", port=port)

    assert (
        f"Port {port} on 127.0.0.1 cannot be used (Address already in use); free it or choose another: --port N."
        in said
    )
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_killed_program_comes_back(stack: RunningStack, program: str) -> None:
    before = stack.conditions()[program].pid

    os.kill(before, signal.SIGKILL)

    wait_until(
        lambda: stack.conditions()[program].pid not in (0, before) and stack.conditions()[program].state == "RUNNING",
        seconds=30,
        otherwise=lambda: (stack.text(), logs(stack.state.root)),
    )
    wait_until(
        lambda: status_of(f"{stack.connection.url}/readyz") == 200,
        seconds=30,
        otherwise=lambda: logs(stack.state.root),
    )
    assert stack.process.poll() is None


def test_a_stop_ends_everything_and_a_second_start_finds_the_data(tmp_path: Path) -> None:
    with running_stack(tmp_path / "state") as first:
        token = first.connection.token
        with psycopg.connect(first.connection.database_url) as connection:
            connection.execute("UPDATE accounts SET contacts = %s", (["kept@example.com"],))
        assert first.stop() == 0
        assert alive(first.seen) == set()
        assert not first.state.connection.exists()
    with running_stack(tmp_path / "state") as second:
        assert second.connection.token == token
        assert status_of(f"{second.connection.url}/v1/regions", token=token) == 200
        with psycopg.connect(second.connection.database_url) as connection:
            assert connection.execute("SELECT contacts FROM accounts").fetchall() == [(["kept@example.com"],)]
        assert second.stop(signal.SIGINT) == 0


def test_a_killed_up_leaves_no_process_and_the_next_start_recovers(tmp_path: Path) -> None:
    with running_stack(tmp_path / "state") as first:
        first.note_processes()
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait(STOP_SECONDS)
    with running_stack(tmp_path / "state") as second:
        assert alive(first.seen) == set()
        assert second.stop() == 0


def test_a_killed_supervisor_leaves_no_process_and_is_said(tmp_path: Path) -> None:
    with running_stack(tmp_path / "state") as stack:
        processes = stack.note_processes() - {stack.process.pid}
        os.kill(stack.supervisor_pid(), signal.SIGKILL)
        assert stack.process.wait(STOP_SECONDS) == 2
        wait_until(lambda: not alive(processes), seconds=20, otherwise=lambda: alive(processes))
    assert "supervisord ended, and with it every program" in stack.text()
    assert read_connection(tmp_path / "state") is None


def test_everything_killed_at_once_leaves_a_state_that_starts_again(tmp_path: Path) -> None:
    with running_stack(tmp_path / "state") as first:
        for pid in (first.process.pid, *first.note_processes()):
            if alive({pid}):
                os.kill(pid, signal.SIGKILL)
        first.process.wait(STOP_SECONDS)
        assert (first.state.postgres / "postmaster.pid").exists()
        assert first.state.connection.exists()
        assert read_connection(tmp_path / "state") is None
        # After a reboot the number may belong to anybody; this test's own process stands for that.
        overwrite_first_line(first.state.postgres / "postmaster.pid", str(os.getpid()))
    with running_stack(tmp_path / "state") as second:
        assert second.stop() == 0


def test_a_program_that_keeps_dying_is_named_with_its_log(tmp_path: Path) -> None:
    with running_stack(tmp_path / "state") as first:
        assert first.stop() == 0
    for manifest in (tmp_path / "state" / "redis").rglob("*.manifest"):
        manifest.write_text("garbage\n", encoding="ascii")

    said = refused_start(tmp_path / "state")

    assert f"Redis keeps dying; see {tmp_path}/state/logs/redis.log." in said


@pytest.mark.skipif(not is_root, reason="the other tests already run as an ordinary user")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is needed to become an ordinary user")
def test_an_ordinary_user_needs_no_other_user(tmp_path: Path) -> None:
    place = tmp_path / "nobody"
    place.mkdir(mode=0o700)
    shutil.chown(place, "nobody")
    with running_stack(place / "state", as_ordinary=True) as stack:
        owners = {Path(f"/proc/{pid}").owner() for pid in stack.note_processes()}
        assert stack.stop() == 0
    assert owners == {"nobody"}
    assert stat.S_IMODE((place / "state").stat().st_mode) == 0o700


def test_a_state_directory_too_deep_for_sockets_works(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 20) / "with a space"
    deep.parent.mkdir()
    with running_stack(deep) as stack:
        assert len(os.fsencode(stack.state.sockets)) < 60
        assert stat.S_ISDIR(stack.state.sockets.lstat().st_mode)
        assert stack.stop() == 0


def test_a_stop_while_starting_is_orderly(tmp_path: Path) -> None:
    stack = begin_stack(tmp_path / "state")
    wait_until(lambda: "PostgreSQL answers" in stack.text(), seconds=60, otherwise=stack.text)

    assert stack.stop() == 0
    assert alive(stack.seen) == set()


def status_of(url: str, *, token: str = "") -> int:
    """Return the status of a GET; 0 when nobody answers."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310 - our own http URL
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return int(error.code)
    except OSError:
        return 0


def overwrite_first_line(path: Path, text: str) -> None:
    """Replace the first line of a file in place, keeping its owner."""
    lines = path.read_text(encoding="ascii").splitlines()
    path.write_text("\n".join([text, *lines[1:], ""]), encoding="ascii")
