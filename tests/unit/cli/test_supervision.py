"""supervisord's configuration, and when restarts are too many."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from services.cli.embedded.layout import StateDir
from services.cli.embedded.program import LEASH, Program
from services.cli.embedded.stack import Patience, Restarts
from services.cli.embedded.supervision import Condition, render

pytestmark = pytest.mark.unit


def test_clients_are_ended_before_servers_and_servers_in_reverse() -> None:
    conf = configuration(a_program("postgres"), a_program("redis"), a_program("api", is_client=True))

    priorities = [
        conf.getint(section, "priority") for section in ("program:postgres", "program:redis", "group:clients")
    ]

    assert priorities == sorted(set(priorities))
    assert conf.get("group:clients", "programs") == "api"


def test_every_program_is_tied_to_supervisord_and_holds_the_state() -> None:
    conf = configuration(a_program("postgres", user="somebody", death_signal="QUIT"))

    command = conf.get("program:postgres", "command")

    assert (
        f"{LEASH} --parent /state/run/supervisord.pid --signal QUIT --hold /state/holders --user somebody -- "
        in command
    )


def test_supervisord_starts_nothing_by_itself_and_restarts_everything() -> None:
    conf = configuration(a_program("postgres"), a_program("api", is_client=True))

    for section in ("program:postgres", "program:api"):
        assert conf.get(section, "autostart") == "false"
        assert conf.get(section, "autorestart") == "true"
        assert conf.get(section, "killasgroup") == "true"


def test_a_first_start_is_no_restart() -> None:
    restarts = Restarts()

    assert restarts.observe([a_condition(pid=0)], now=0) == frozenset()
    assert restarts.observe([a_condition(pid=7)], now=1) == frozenset()
    assert restarts.observe([a_condition(pid=7)], now=2) == frozenset()


def test_another_process_id_is_a_restart_said_once() -> None:
    restarts = Restarts()
    restarts.observe([a_condition(pid=7)], now=0)

    assert restarts.observe([a_condition(pid=0)], now=1) == frozenset()
    assert restarts.observe([a_condition(pid=8)], now=2) == {"api"}
    assert restarts.observe([a_condition(pid=8)], now=3) == frozenset()


@pytest.mark.parametrize(("now", "too_many"), [(2.0, True), (61.0, True), (61.1, False)])
def test_restarts_are_too_many_only_within_the_window(now: float, *, too_many: bool) -> None:
    restarts = Restarts()
    for second, pid in enumerate((7, 8, 9)):
        restarts.observe([a_condition(pid=pid)], now=second)

    assert restarts.are_too_many("api", Patience(restarts=2, seconds=60), now=now) is too_many


def configuration(*programs: Program) -> configparser.RawConfigParser:
    state = StateDir(root=Path("/state"), sockets=Path("/state/run"))
    parser = configparser.RawConfigParser()
    parser.read_string(render(programs, state=state, socket=Path("/state/run/supervisor.sock")))
    return parser


def a_program(name: str, *, is_client: bool = False, user: str | None = None, death_signal: str = "KILL") -> Program:
    return Program(
        name=name, title=name, command=("/bin/true",), is_client=is_client, user=user, death_signal=death_signal
    )


def a_condition(*, pid: int, name: str = "api") -> Condition:
    return Condition(name=name, state="RUNNING", pid=pid)
