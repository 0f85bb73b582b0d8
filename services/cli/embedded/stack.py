"""``certfleet up``: plan, start in order, announce, watch, end in order."""

from __future__ import annotations

import http.client
import os
import shutil
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Final

from services.cli.embedded import envoy, postgres, programs, redis
from services.cli.embedded.connection import Connection, write_connection, write_private
from services.cli.embedded.layout import locked, prepare, wait_for_holders
from services.cli.embedded.plan import DEFAULT_ACCOUNT, Plan, choose_port, make_plan
from services.cli.embedded.ports import Ports
from services.cli.embedded.program import Program
from services.cli.embedded.supervision import Condition, ProgramFailed, Supervisor
from shared.crypto.vault import load_vault
from shared.domain.scopes import ALL_SCOPES
from shared.errors import Misconfigured, NotFound, Unauthenticated
from shared.models.database import Database
from shared.models.revisions import upgrade
from shared.usecases.accounts import callback_secret, create_account, find_account
from shared.usecases.people import add_person, create_link, find_person, link_address
from shared.usecases.tokens import authenticate, create_token
from shared.wakeups import producer

OPERATOR: Final = "operator@localhost"
"""Who signs in to the embedded stack's console."""

START_SECONDS: Final = 90.0
STOP_SECONDS: Final = 56.0
"""Above the sum that a stop can take: 30 s for the clients together, then each server in turn."""

_POLL_SECONDS: Final = 0.05
_WATCH_SECONDS: Final = 0.5


class Interrupted(Exception):
    """SIGTERM or Ctrl-C came while we waited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How many restarts of one program within a window are too many."""

    restarts: int
    seconds: float


WHILE_STARTING: Final = Patience(restarts=3, seconds=60)
WHILE_RUNNING: Final = Patience(restarts=20, seconds=60)
"""supervisord gives up programs that die within a second; this catches those that take a little longer each time."""


def run(state_dir: Path, *, port: int, environ: Mapping[str, str], say: Callable[[str], None], stop: Event) -> None:
    """Run the whole stack until ``stop`` is set.

    Raises:
        Misconfigured: it cannot be started; nothing runs then.
        ProgramFailed: a program keeps dying; everything has been stopped.
    """
    began = time.monotonic()
    os.umask(0o077)
    programs.check_installed(
        with_mail_sink=not environ.get("SMTP_URL"), with_balancers=not environ.get("CERTFLEET_REGIONS")
    )
    chosen = choose_port(port)
    state = prepare(state_dir)
    with locked(state, say=say) as lock, Ports(api=chosen) as ports:
        state.connection.unlink(missing_ok=True)
        wait_for_holders(state)
        plan = _planned(state_dir, lambda: make_plan(state, port=chosen, ports=ports, environ=environ, say=say))
        _Run(plan, say=say, stop=stop).run(lock=lock, began=began)


def _planned(state_dir: Path, make: Callable[[], Plan]) -> Plan:
    try:
        return make()
    except OSError as error:
        place = error.filename or state_dir
        raise Misconfigured((f"The state directory {state_dir} cannot be used: {place}: {error.strerror}.",)) from error


class _Run:
    """One run of a plan."""

    def __init__(self, plan: Plan, *, say: Callable[[str], None], stop: Event) -> None:
        self.plan = plan
        self.say = say
        self.stop = stop
        self.supervisor = Supervisor(plan.state, plan.programs)
        self.restarts = Restarts()

    def run(self, *, lock: int, began: float) -> None:
        try:
            self.supervisor.launch(self.plan.environment, lock=lock)
            self.wait(self.supervisor.is_answering, "supervisord")
            self.start_servers()
            self.migrate()
            self.await_balancers()
            self.start_clients()
            self.announce(began)
            self.watch()
        except Interrupted:
            pass
        finally:
            self.end()

    def start_servers(self) -> None:
        servers = [program for program in self.plan.programs if not program.is_client]
        for program in servers:
            self.supervisor.start(program)
        cluster, redis_socket = self.plan.cluster, self.plan.redis_socket
        if cluster:
            self.wait(lambda: postgres.is_answering(cluster), "PostgreSQL")
            postgres.create_database(cluster)
            self.say("PostgreSQL answers")
        if redis_socket:
            self.wait(lambda: redis.is_answering(redis_socket), "Redis")
            self.say("Redis answers")

    def migrate(self) -> None:
        upgrade(self.plan.settings.database_url)
        self.say("the database is up to date")

    def await_balancers(self) -> None:
        """They came up while the database did; the workers must not find them missing."""
        if self.plan.balancers:
            self.wait(lambda: all(envoy.is_answering(one) for one in self.plan.balancers), "the load balancers")
            self.say("the load balancers answer")

    def start_clients(self) -> None:
        for program in self.plan.programs:
            if program.is_client:
                self.supervisor.start(program)
        self.wait(lambda: _is_ready(self.plan.port), "the API")
        self.say("the API answers")
        with producer(self.plan.settings.redis_url) as app:
            nodes = list(self.plan.nodes)
            self.wait(lambda: len(app.control.ping(destination=nodes, timeout=0.5) or ()) == len(nodes), "the workers")
        self.say("the workers answer")

    def announce(self, began: float) -> None:
        plan, settings = self.plan, self.plan.settings
        url = f"http://127.0.0.1:{plan.port}"
        connection = Connection(
            url=url,
            token=_token(plan),
            mailbox=str(plan.state.mailbox),
            database_url=settings.database_url,
            redis_url=settings.redis_url,
            smtp_url=settings.smtp_url or "",
            regions_file=plan.environment["CERTFLEET_REGIONS"],
            kek_file=str(settings.kek_file),
            state_dir=str(plan.state.root),
            pid=os.getpid(),
            sources_file=plan.environment["CERTFLEET_SOURCES"],
        )
        link = _sign_in_link(plan, url)
        write_connection(plan.state, connection)  # "ready" to whoever waits for it: nothing may fail from here on
        self.say(f"ready in {time.monotonic() - began:.1f} s: {url}  (token and the rest: {plan.state.connection})")
        self.say(f"sign in to the console, once, within an hour: {link}")

    def watch(self) -> None:
        while not self.stop.wait(_WATCH_SECONDS):
            for program in self.look(WHILE_RUNNING):
                self.say(f"{program.title} died and was restarted; its log: {self.plan.state.log_of(program.name)}")

    def wait(self, is_true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not is_true():
            self.look(WHILE_STARTING)
            if time.monotonic() > deadline:
                raise ProgramFailed(f"Gave up on {what} after {START_SECONDS:.0f} s; see {self.plan.state.logs}.")
            if self.stop.wait(_POLL_SECONDS):
                raise Interrupted

    def look(self, patience: Patience) -> list[Program]:
        """The programs restarted since the last look; raise for one that cannot be kept running."""
        if not self.supervisor.is_alive:
            logs = self.plan.state.log_of("supervisord*")
            raise ProgramFailed(f"supervisord ended, and with it every program; see {logs}.")
        conditions = self.supervisor.conditions()
        if conditions is None:
            return []
        restarted = self.restarts.observe(conditions.values(), now=time.monotonic())
        for program in self.plan.programs:
            given_up = conditions[program.name].is_given_up
            if given_up or self.restarts.are_too_many(program.name, patience, now=time.monotonic()):
                title = program.title[0].upper() + program.title[1:]
                raise ProgramFailed(f"{title} keeps dying; see {self.plan.state.log_of(program.name)}.")
        return [program for program in self.plan.programs if program.name in restarted]

    def end(self) -> None:
        self.plan.state.connection.unlink(missing_ok=True)
        self.say("stopping")
        orderly = self.supervisor.shut_down(STOP_SECONDS)
        if self.plan.state.sockets != self.plan.state.run:
            shutil.rmtree(
                self.plan.state.sockets, ignore_errors=True
            )  # in the temporary directory; made anew next time
        self.say("stopped" if orderly else "stopped, some programs by force")


class Restarts:
    """Remembers process ids, and when they changed."""

    def __init__(self) -> None:
        self._pids: dict[str, int] = {}
        self._times: defaultdict[str, deque[float]] = defaultdict(deque)

    def observe(self, conditions: Iterable[Condition], *, now: float) -> frozenset[str]:
        """The names of programs whose process is another one than before; ``now`` is monotonic seconds."""
        restarted = set()
        for condition in conditions:
            known = self._pids.get(condition.name)
            if not condition.pid or known == condition.pid:
                continue
            self._pids[condition.name] = condition.pid
            if known is not None:
                self._times[condition.name].append(now)
                restarted.add(condition.name)
        return frozenset(restarted)

    def are_too_many(self, name: str, patience: Patience, *, now: float) -> bool:
        """Whether ``name`` was restarted more often than ``patience`` allows."""
        times = self._times[name]
        while times and times[0] < now - patience.seconds:
            times.popleft()
        return len(times) >= patience.restarts


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _token(plan: Plan) -> str:
    """The default account's token: the kept one while it works, else a new one."""
    kept = _read(plan.state.token)
    vault = load_vault(plan.settings.kek_file)
    database = Database(plan.settings.database_url, pool=1)
    now = datetime.now(UTC)
    try:
        with database.session() as session:
            try:
                account = find_account(session, name=DEFAULT_ACCOUNT)
            except NotFound:
                account = create_account(session, vault, name=DEFAULT_ACCOUNT, now=now)
            callback_secret(session, vault, account.id)  # the keys fit this database, or nothing starts
            try:
                authenticate(session, kept, now=now)
            except Unauthenticated:
                _, kept = create_token(session, account_id=account.id, name="certfleet up", scopes=ALL_SCOPES, now=now)
        write_private(plan.state.token, kept)
    finally:
        database.close()
    return kept


def _sign_in_link(plan: Plan, url: str) -> str:
    """For the operator, who is a person of the default account from the first start on."""
    database = Database(plan.settings.database_url, pool=1)
    now = datetime.now(UTC)
    try:
        with database.session() as session:
            account = find_account(session, name=DEFAULT_ACCOUNT)
            try:
                person = find_person(session, account.id, email=OPERATOR)
            except NotFound:
                person = add_person(session, account_id=account.id, email=OPERATOR, now=now)
            return link_address(url, create_link(session, person, now=now, life=timedelta(hours=1)))
    finally:
        database.close()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return ""
