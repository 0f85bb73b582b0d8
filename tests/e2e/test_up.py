"""A running ``certfleet up``: what it announces, what it keeps private, what comes back after a kill."""

from __future__ import annotations

import os
import signal
import smtplib
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.client import ApiClient
from tests.support.listening import READY, running_listen
from tests.support.places import private_directory
from tests.support.stack import RunningStack, logs, refused_start, running_stack, status_of, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stack")]

PROGRAMS = (
    *("postgres", "redis", "mail", "api", "worker", "worker-2", "courier", "beat"),
    *("envoy-cn-hangzhou", "envoy-eu-central-1", "envoy-us-west-1"),
)


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    """One running stack for the tests that leave it running."""
    with private_directory() as place, running_stack(place / "state") as running:
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


def test_listen_prints_verified_webhooks_of_the_running_stack_without_any_configuration(stack: RunningStack) -> None:
    client = ApiClient(stack.connection.url, stack.connection.token)
    with running_listen("--state-dir", str(stack.state.root)) as listening:
        listening.wait_until_told(READY)
        webhook = client.get("/v1/webhooks")["items"][0]["id"]
        body = {"source": "third_party", "type": "ca", "certificate": "no certificate", "regions": ["cn-hangzhou"]}
        client.post("/v1/certificates", body)
        assert "✓ " in listening.wait_for("job.failed")
        assert listening.end() == 0
    assert webhook not in [one["id"] for one in client.get("/v1/webhooks")["items"]]
    with running_listen("--state-dir", str(stack.state.root), "--after", "0", "--types", "job.failed") as following:
        assert "· " in following.wait_for("job.failed")
        assert following.end() == 0


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
    before = stack.condition(program).pid

    os.kill(before, signal.SIGKILL)

    wait_until(
        lambda: stack.condition(program).pid not in (0, before) and stack.condition(program).state == "RUNNING",
        seconds=30,
        otherwise=lambda: (stack.text(), logs(stack.state.root)),
    )
    wait_until(
        lambda: status_of(f"{stack.connection.url}/readyz") == 200,
        seconds=30,
        otherwise=lambda: logs(stack.state.root),
    )
    assert stack.process.poll() is None
