"""supervisord as a child: its configuration, its start, and what it is asked over its unix socket."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

from supervisor.xmlrpc import SupervisorTransport

from services.cli.embedded.layout import StateDir
from services.cli.embedded.program import Program, leashed
from shared.errors import CertfleetError

CLIENTS: Final = "clients"
_CLIENT_PRIORITY: Final = 900
_FIRST_SERVER_PRIORITY: Final = 100
START_TRIES: Final = 4
"""supervisord waits 1, 2, 3 … s between tries: a program that cannot start is given up after some 10 s."""


_NO_ANSWER: Final = (OSError, HTTPException, xmlrpc.client.Error)


class ProgramFailed(CertfleetError):
    """A program of the stack cannot be kept running."""

    code = "program_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What supervisord knows of one program."""

    name: str
    state: str
    pid: int

    @property
    def is_given_up(self) -> bool:
        """Whether supervisord stopped restarting it."""
        return self.state == "FATAL"


class Supervisor:
    """One supervisord in the foreground, ended by ``shut_down`` or with this process, whatever kills it."""

    def __init__(self, state: StateDir, programs: Sequence[Program]) -> None:
        self.programs = tuple(programs)
        self._state = state
        self._socket = state.sockets / "supervisor.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, environment: Mapping[str, str], *, lock: int) -> None:
        """Start supervisord, which starts no program yet. It keeps ``lock``, so that the state stays taken.

        The programs get ``environment`` by inheritance, so that no secret is written into the configuration.
        """
        conf = self._state.run / "supervisord.conf"
        conf.write_text(render(self.programs, state=self._state, socket=self._socket), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "supervisor.supervisord",
            "--nodaemon",
            "--silent",
            "--configuration",
            str(conf),
        ]
        with self._state.log_of("supervisord-errors").open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own words
                leashed(command, signal="TERM"),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=(lock,),
                start_new_session=True,  # a terminal's Ctrl-C is for us alone: the order of the end is ours
            )

    @property
    def is_alive(self) -> bool:
        """Whether supervisord runs."""
        return self._process is not None and self._process.poll() is None

    def is_answering(self) -> bool:
        """Whether supervisord can be asked."""
        try:
            self._call("getState")
        except _NO_ANSWER:
            return False
        return True

    def start(self, program: Program) -> None:
        """Begin to start one program.

        Raises:
            ProgramFailed: supervisord refuses, for example because the program's file is not there.
        """
        try:
            self._call("startProcess", _full_name(program), False)  # noqa: FBT003 - supervisor's RPC takes no names
        except _NO_ANSWER as error:
            reason = getattr(error, "faultString", None) or type(error).__name__
            logs = self._state.log_of("supervisord*")
            raise ProgramFailed(f"supervisord does not start {program.title} ({reason}); see {logs}.") from error

    def conditions(self) -> dict[str, Condition] | None:
        """Every program's state and process id, by name; None when supervisord gives no answer now."""
        try:
            answer = self._call("getAllProcessInfo")
        except _NO_ANSWER:
            return None
        return {
            found["name"]: Condition(name=found["name"], state=found["statename"], pid=found["pid"]) for found in answer
        }

    def shut_down(self, seconds: float) -> bool:
        """End clients, then servers in reverse order, then supervisord; False when it had to be killed."""
        if self._process is None:
            return True
        self._process.terminate()
        deadline = time.monotonic() + seconds
        while self.is_alive and time.monotonic() < deadline:
            self.is_answering()  # a question makes supervisord look at its children now, not within a second
            time.sleep(0.05)
        if self.is_alive:
            self._process.kill()
        self._process.wait()
        return self._process.returncode == 0

    def _call(self, method: str, *arguments: Any) -> Any:
        proxy = xmlrpc.client.ServerProxy(
            "http://supervisor", transport=SupervisorTransport(None, None, f"unix://{self._socket}")
        )
        with proxy:
            return getattr(proxy.supervisor, method)(*arguments)


def render(programs: Sequence[Program], *, state: StateDir, socket: Path) -> str:
    """The configuration of supervisord. Servers get ascending priorities; the clients are one group, ended first."""
    main = {
        "nodaemon": "true",
        "logfile": _escaped(state.log_of("supervisord")),
        "logfile_maxbytes": "10MB",
        "logfile_backups": "3",
        "pidfile": _escaped(state.run / "supervisord.pid"),
        "childlogdir": _escaped(state.logs),
        "umask": "077",
        **({"user": "root"} if os.geteuid() == 0 else {}),
    }
    rpc = {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"}
    sections = [
        _section("supervisord", main),
        _section("unix_http_server", {"file": _escaped(socket), "chmod": "0700"}),
        _section("rpcinterface:supervisor", rpc),
    ]
    for number, program in enumerate(programs):
        sections.append(_program_section(program, state, priority=_FIRST_SERVER_PRIORITY + number))
    clients = ",".join(program.name for program in programs if program.is_client)
    if clients:
        sections.append(_section(f"group:{CLIENTS}", {"programs": clients, "priority": str(_CLIENT_PRIORITY)}))
    return "\n".join(sections)


def _program_section(program: Program, state: StateDir, *, priority: int) -> str:
    command = leashed(
        program.command,
        parent=state.run / "supervisord.pid",
        signal=program.death_signal,
        hold=state.holders,
        user=program.user,
    )
    environment = ",".join(f'{name}="{value}"' for name, value in program.environment.items())
    return _section(
        f"program:{program.name}",
        {
            "command": _escaped(shlex.join(command)),
            "autostart": "false",
            "autorestart": "true",
            "startsecs": "1",
            "startretries": str(START_TRIES),
            "stopsignal": program.stop_signal,
            "stopwaitsecs": str(program.stop_seconds),
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": _escaped(state.log_of(program.name)),
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": "3",
            "priority": str(priority),
            **({"environment": environment} if environment else {}),
        },
    )


def _section(name: str, values: Mapping[str, str]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())


def _escaped(value: str | Path) -> str:
    """``%`` begins an expansion in supervisord's configuration."""
    return str(value).replace("%", "%%")


def _full_name(program: Program) -> str:
    return f"{CLIENTS}:{program.name}" if program.is_client else program.name
