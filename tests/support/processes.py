"""The service's own programs, one by one, on the tests' servers: real Celery workers and a real gunicorn."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select

from services.cli.embedded import programs
from services.cli.embedded.layout import locate
from services.cli.embedded.program import Program, leashed
from shared.config.settings import load_settings
from shared.crypto.vault import create_kek_file
from shared.domain.rollout import FINAL_JOBS
from shared.domain.scopes import ALL_SCOPES
from shared.models import Deployment, Job
from shared.usecases.accounts import create_account
from shared.usecases.clock import utc_now
from shared.usecases.context import Context, build_context
from shared.usecases.submission import submit_certificate
from shared.usecases.tokens import Caller, create_token
from tests.support import pki
from tests.support.fleet import new_upload
from tests.support.memory_balancers import SITE
from tests.support.stack import clean_environment, status_of, wait_until

START_SECONDS: Final = 60.0


@dataclass(kw_only=True)
class Installation:
    """Settings, a database, a broker and one account; programs are started one by one."""

    place: Path
    environ: dict[str, str]
    context: Context
    caller: Caller
    token: str
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def worker(self, name: str = "worker", **environ: str) -> subprocess.Popen[bytes]:
        """A Celery worker that answers to pings."""
        node = f"{name}{len(self.running)}@test"
        process = self._start(programs.worker(name, node=node), environ)
        app = self.context.publisher._app  # type: ignore[attr-defined] # noqa: SLF001 - the one way to its pings
        wait_until(
            lambda: bool(app.control.ping(destination=[node], timeout=0.5)), seconds=START_SECONDS, otherwise=self.log
        )
        return process

    def api(self, port: int, **environ: str) -> subprocess.Popen[bytes]:
        """The API, answering."""
        process = self._start(programs.api(port), environ)
        wait_until(
            lambda: status_of(f"http://127.0.0.1:{port}/healthz") == 200, seconds=START_SECONDS, otherwise=self.log
        )
        return process

    def beat(self) -> subprocess.Popen[bytes]:
        """The clock."""
        (self.place / "run").mkdir(exist_ok=True)
        return self._start(programs.beat(locate(self.place)), {})

    def submit(self, region: str, *, number: int = 0) -> tuple[str, str]:
        """Submit a server certificate for one region; the job's and the certificate's id."""
        body = upload(region, number=number)
        new = new_upload(regions=[region], certificate=body["certificate"], private_key=body["private_key"])
        with self.context.transaction() as session:
            submitted = submit_certificate(self.context, session, self.caller, new, now=utc_now())
            return submitted.job.id, submitted.certificate.id

    def jobs(self) -> list[str]:
        """The states of all jobs."""
        with self.context.transaction() as session:
            return list(session.execute(select(Job.state)).scalars())

    def deployments(self) -> list[Deployment]:
        with self.context.transaction() as session:
            return list(session.execute(select(Deployment).order_by(Deployment.id)).scalars())

    def wait_for_jobs(self, *, seconds: float) -> None:
        """Until every job is final."""
        wait_until(lambda: set(self.jobs()) <= set(FINAL_JOBS), seconds=seconds, otherwise=self.log)

    def log(self) -> str:
        """What the programs printed."""
        return (self.place / "programs.log").read_text(encoding="utf-8", errors="replace")[-6000:]

    def _start(self, program: Program, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        environment = {**clean_environment(), **self.environ, **program.environment, **environ}
        with (self.place / "programs.log").open("ab") as log:
            process = subprocess.Popen(
                leashed(program.command), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.running.append(process)
        return process


@contextmanager
def installation(
    place: Path, *, database_url: str, redis_url: str, regions: str, **environ: str
) -> Iterator[Installation]:
    """``regions``: the text of a regions file. Everything that was started ends with the block."""
    create_kek_file(place / "keks.json", now=datetime.now(UTC))
    (place / "regions.toml").write_text(regions, encoding="utf-8")
    given = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "CERTFLEET_KEK_FILE": str(place / "keks.json"),
        "CERTFLEET_REGIONS": str(place / "regions.toml"),
        "PYTHONPATH": str(SITE),
        **environ,
    }
    context = build_context(load_settings(given))
    with context.transaction() as session:
        account = create_account(session, context.vault, name="default", now=utc_now())
        row, token = create_token(session, account_id=account.id, name="test", scopes=ALL_SCOPES, now=utc_now())
        caller = Caller(account_id=account.id, token_id=row.id, scopes=frozenset(ALL_SCOPES))
    found = Installation(place=place, environ=given, context=context, caller=caller, token=token)
    try:
        yield found
    finally:
        for process in found.running:
            if process.poll() is None:
                process.kill()
            process.wait()
        context.database.close()


def upload(region: str, *, number: int = 0) -> dict[str, Any]:
    """The body of a submission that is valid now."""
    now = datetime.now(UTC)
    issued = pki.server(
        f"h{number}.example.com", not_before=now - timedelta(days=1), not_after=now + timedelta(days=99)
    )
    return {
        "source": "third_party",
        "type": "server",
        "certificate": issued.pem,
        "private_key": issued.key_pem,
        "regions": [region],
    }


def slow_region(place: Path, region: str, *, delay_seconds: float) -> str:
    """A regions file with one region whose balancer takes so long for each verb."""
    return (
        f'[[region]]\nid = "{region}"\ndriver = "slow"\n[region.settings]\n'
        f'path = "{place / region}"\ndelay_seconds = {delay_seconds}\n'
    )


def seconds_until_end(process: subprocess.Popen[bytes], *signals: signal.Signals) -> float:
    """Send the signals, and wait for the end: how long it took."""
    began = time.monotonic()
    for number in signals:
        process.send_signal(number)
    process.wait(60)
    return time.monotonic() - began
