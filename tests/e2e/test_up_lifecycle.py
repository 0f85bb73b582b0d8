"""``certfleet up`` ends, is killed, starts again, and leaves nothing running."""

from __future__ import annotations

import os
import shutil
import signal
import stat
from pathlib import Path

import psycopg
import pytest

from services.cli.embedded.connection import read_connection
from tests.support.stack import STOP_SECONDS, alive, begin_stack, refused_start, running_stack, status_of, wait_until

pytestmark = pytest.mark.e2e

is_root = os.geteuid() == 0


def test_a_stop_ends_everything_and_a_second_start_finds_the_data(place: Path) -> None:
    with running_stack(place / "state") as first:
        token = first.connection.token
        with psycopg.connect(first.connection.database_url) as connection:
            connection.execute("UPDATE accounts SET contacts = %s", (["kept@example.com"],))
        assert first.stop() == 0
        assert alive(first.seen) == set()
        assert not first.state.connection.exists()
    with running_stack(place / "state") as second:
        assert second.connection.token == token
        assert status_of(f"{second.connection.url}/v1/regions", token=token) == 200
        with psycopg.connect(second.connection.database_url) as connection:
            assert connection.execute("SELECT contacts FROM accounts").fetchall() == [(["kept@example.com"],)]
        assert second.stop(signal.SIGINT) == 0


def test_a_killed_up_leaves_no_process_and_the_next_start_recovers(place: Path) -> None:
    with running_stack(place / "state") as first:
        first.note_processes()
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait(STOP_SECONDS)
    with running_stack(place / "state") as second:
        assert alive(first.seen) == set()
        assert second.stop() == 0


def test_a_killed_supervisor_leaves_no_process_and_is_said(place: Path) -> None:
    with running_stack(place / "state") as stack:
        processes = stack.note_processes() - {stack.process.pid}
        os.kill(stack.supervisor_pid(), signal.SIGKILL)
        assert stack.process.wait(STOP_SECONDS) == 2, stack.text()
        wait_until(lambda: not alive(processes), seconds=20, otherwise=lambda: alive(processes))
    assert "supervisord ended, and with it every program" in stack.text()
    assert read_connection(place / "state") is None


def test_everything_killed_at_once_leaves_a_state_that_starts_again(place: Path) -> None:
    with running_stack(place / "state") as first:
        for pid in (first.process.pid, *first.note_processes()):
            if alive({pid}):
                os.kill(pid, signal.SIGKILL)
        first.process.wait(STOP_SECONDS)
        assert (first.state.postgres / "postmaster.pid").exists()
        assert first.state.connection.exists()
        assert read_connection(place / "state") is None
        # After a reboot the number may belong to anybody; this test's own process stands for that.
        overwrite_first_line(first.state.postgres / "postmaster.pid", str(os.getpid()))
    with running_stack(place / "state") as second:
        assert second.stop() == 0


def test_a_program_that_keeps_dying_is_named_with_its_log(place: Path) -> None:
    with running_stack(place / "state") as first:
        assert first.stop() == 0
    for manifest in (place / "state" / "redis").rglob("*.manifest"):
        manifest.write_text("garbage\n", encoding="ascii")

    said = refused_start(place / "state")

    assert f"Redis keeps dying; see {place}/state/logs/redis.log." in said


@pytest.mark.skipif(not is_root, reason="the other tests already run as an ordinary user")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is needed to become an ordinary user")
def test_an_ordinary_user_needs_no_other_user(place: Path) -> None:
    shutil.chown(place, "nobody")
    with running_stack(place / "state", as_ordinary=True) as stack:
        owners = {Path(f"/proc/{pid}").owner() for pid in stack.note_processes()}
        assert stack.stop() == 0
    assert owners == {"nobody"}
    assert stat.S_IMODE((place / "state").stat().st_mode) == 0o700


def test_a_state_directory_too_deep_for_sockets_works(place: Path) -> None:
    deep = place / ("deep" * 20) / "with a space"
    deep.parent.mkdir()
    with running_stack(deep) as stack:
        assert len(os.fsencode(stack.state.sockets)) < 60
        assert stat.S_ISDIR(stack.state.sockets.lstat().st_mode)
        assert stack.stop() == 0
    assert not stack.state.sockets.exists()


def test_a_stop_while_starting_is_orderly(place: Path) -> None:
    stack = begin_stack(place / "state")
    wait_until(lambda: "PostgreSQL answers" in stack.text(), seconds=60, otherwise=stack.text)

    assert stack.stop() == 0
    assert alive(stack.seen) == set()


def overwrite_first_line(path: Path, text: str) -> None:
    """Replace the first line of a file in place, keeping its owner."""
    lines = path.read_text(encoding="ascii").splitlines()
    path.write_text("\n".join([text, *lines[1:], ""]), encoding="ascii")
