"""Certfleet as real processes on servers of its own, each of which can be killed, kept away and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import redis as redis_client

from services.cli.embedded import programs, redis
from services.cli.embedded.layout import locate, socket_directory
from services.cli.embedded.plan import choose_port
from services.cli.embedded.program import Program, leashed
from shared.config.settings import load_settings
from shared.crypto.vault import create_kek_file
from shared.domain.scopes import ALL_SCOPES
from shared.usecases.accounts import create_account
from shared.usecases.clock import utc_now
from shared.usecases.context import Context, build_context
from shared.usecases.tokens import Caller, create_token
from shared.usecases.webhooks import NewWebhook, create_webhook
from tests.support.memory_balancers import SITE
from tests.support.outages import OwnPostgres, own_postgres
from tests.support.stack import clean_environment, descendants, status_of, wait_until

WORKERS: Final = ("worker-0", "worker-1")
BEATS: Final = ("beat-0", "beat-1")
OURS: Final = (*WORKERS, "courier", *BEATS, "api")
REGION: Final = """
[[region]]
id = "{id}"
driver = "chaotic"
max_attempts = 100
repair = true
retry = {{ base_seconds = 0.2, cap_seconds = 2, deadline_seconds = 3600 }}
quota = {{ server = 100000, ca = 100000 }}
[region.settings]
path = "{place}/{id}"
journal = "{place}/{id}.journal"
seed = "{seed} {id}"
{mood}
"""
QUICK: Final = {
    "CERTFLEET_LEASE_SECONDS": "3",
    "CERTFLEET_SWEEP_SECONDS": "1",
    "CERTFLEET_REMINDERS_SECONDS": "2",
    "CERTFLEET_PATROL_SECONDS": "3",
    "CERTFLEET_WEBHOOK_TIMEOUT_SECONDS": "1",
    "CERTFLEET_WEBHOOK_RETRY_SCHEDULE": ",".join(["0.3"] * 10 + ["1"] * 60),
    "CERTFLEET_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    "CERTFLEET_LOG_LEVEL": "WARNING",
}
"""Hours made seconds: what takes its time by default has to happen often here."""


@dataclass(kw_only=True)
class ChaosStack:
    """``context`` looks at the database from outside. ``kills`` counts by program."""

    place: Path
    url: str
    token: str
    caller: Caller
    context: Context
    postgres: OwnPostgres
    redis_socket: Path
    regions: tuple[str, ...]
    environ: Mapping[str, str]
    programs: Mapping[str, Program]
    kills: dict[str, int] = field(default_factory=dict)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def hear(self, url: str) -> None:
        """Every event of the account goes to this endpoint from now on."""
        with self.context.transaction() as session:
            create_webhook(self.context, session, self.caller, NewWebhook(url=url, types=("*",)), now=utc_now())

    def start(self, *names: str) -> None:
        """Start programs that do not run; nothing is waited for."""
        for name in names:
            if not self.is_running(name):
                self._running[name] = self._spawn(name)

    def is_running(self, name: str) -> bool:
        """Whether the program lives."""
        process = self._running.get(name)
        return process is not None and process.poll() is None

    def kill(self, *names: str) -> None:
        """Kill -9, and everything below."""
        for name in names:
            process = self._running[name]
            for pid in (process.pid, *descendants(process.pid)):
                _kill(pid)
            process.wait()
            self._count(name)

    def kill_child(self, name: str) -> None:
        """Kill -9 one process below the program, which starts another by itself; the program if it has none."""
        below = sorted(descendants(self._running[name].pid))
        if not below:
            self.kill(name)
            return
        _kill(below[0])
        self._count(f"{name}'s child")

    def revive(self) -> list[str]:
        """Start what died; its names."""
        dead = [name for name in self._running if not self.is_running(name)]
        self.start(*dead)
        return dead

    def forget_redis(self) -> None:
        """Redis is killed, and what it had on disk is gone."""
        self.kill("redis")
        shutil.rmtree(self.place / "redis")
        (self.place / "redis").mkdir()

    def flush_redis(self) -> None:
        """Every message is gone."""
        with redis_client.Redis(unix_socket_path=str(self.redis_socket), socket_timeout=2) as client:
            client.flushall()
        self._count("redis flushed")

    def restart_postgres(self, *, crash: bool) -> None:
        """All connections are cut."""
        if crash:
            self.postgres.crash()
        else:
            self.postgres.stop()
        self.postgres.start()
        self._count("postgres")

    def wait_until_ready(self) -> None:
        """The API answers, and the servers that it needs."""
        wait_until(lambda: status_of(f"{self.url}/healthz") == 200, seconds=90, otherwise=self.log)

    def log(self) -> str:
        """The end of what the programs printed."""
        return (self.place / "programs.log").read_text(encoding="utf-8", errors="replace")[-6000:]

    def end(self) -> None:
        """Everything is gone."""
        for process in self._running.values():
            if process.poll() is None:
                process.kill()
            process.wait()

    def _count(self, name: str) -> None:
        self.kills[name] = self.kills.get(name, 0) + 1

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        program = self.programs[name]
        environment = {**clean_environment(), **self.environ, **program.environment}
        with (self.place / "programs.log").open("ab") as log:
            return subprocess.Popen(
                leashed(program.command), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )


@contextmanager
def chaos_stack(place: Path, *, seed: int, regions: int, mood: str = "", **environ: str) -> Iterator[ChaosStack]:
    """Servers run, nothing of ours yet. ``mood``: further settings of the regions (TOML lines)."""
    names = tuple(f"region-{number}" for number in range(regions))
    create_kek_file(place / "keks.json", now=datetime.now(UTC))
    (place / "regions.toml").write_text("".join(REGION.format(id=n, place=place, seed=seed, mood=mood) for n in names))
    for directory in ("redis", "run", "mailbox"):
        (place / directory).mkdir()
    socket = socket_directory(place / "run") / "redis.sock"
    with own_postgres(place) as postgres:
        port, mail = choose_port(0), choose_port(0)
        given = {
            "DATABASE_URL": postgres.url,
            "REDIS_URL": redis.url(socket),
            "SMTP_URL": f"smtp://127.0.0.1:{mail}",
            "CERTFLEET_KEK_FILE": str(place / "keks.json"),
            "CERTFLEET_REGIONS": str(place / "regions.toml"),
            "CERTFLEET_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "PYTHONPATH": str(SITE),
            **QUICK,
            **environ,
        }
        context = build_context(load_settings(given))
        caller, token = _account(context)
        stack = ChaosStack(
            place=place,
            url=given["CERTFLEET_PUBLIC_URL"],
            token=token,
            caller=caller,
            context=context,
            postgres=postgres,
            redis_socket=socket,
            regions=names,
            environ=given,
            programs=_programs(place, socket, port=port, mail=mail),
        )
        try:
            stack.start("redis", "mail")
            wait_until(lambda: redis.is_answering(socket), seconds=30, otherwise=stack.log)
            yield stack
        finally:
            stack.end()
            context.database.close()


def _programs(place: Path, socket: Path, *, port: int, mail: int) -> dict[str, Program]:
    for beat in BEATS:
        (place / beat / "run").mkdir(parents=True)
    return {
        "redis": redis.program(data=place / "redis", socket=socket, configuration=place / "redis.conf"),
        "mail": programs.mail_sink(locate(place), mail),
        "api": programs.api(port),
        "courier": programs.worker("courier", node="courier@chaos"),
        **{name: programs.worker("worker", node=f"{name}@chaos") for name in WORKERS},
        **{name: programs.beat(locate(place / name)) for name in BEATS},
    }


def _account(context: Context) -> tuple[Caller, str]:
    now = utc_now()
    with context.transaction() as session:
        account = create_account(session, context.vault, name="default", now=now)
        row, token = create_token(session, account_id=account.id, name="chaos", scopes=ALL_SCOPES, now=now)
        return Caller(account_id=account.id, token_id=row.id, scopes=frozenset(ALL_SCOPES)), token


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
