"""What one start will run, decided and checked before anything runs."""

from __future__ import annotations

import hashlib
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from services.cli.embedded import envoy, postgres, programs, redis
from services.cli.embedded.envoy import Balancer
from services.cli.embedded.layout import StateDir, socket_directory
from services.cli.embedded.ports import Ports
from services.cli.embedded.program import Program
from services.cli.embedded.regions import keep_regions_file
from services.cli.embedded.sources import keep_sources_file, place_orders
from shared.config.settings import Settings, load_settings
from shared.crypto.vault import create_kek_file, load_vault
from shared.errors import Misconfigured

DEFAULT_ACCOUNT: Final = "default"

LOOPBACK: Final = "127.0.0.0/8,::1/128"
"""Where ``certfleet up`` lets webhooks go besides public addresses: a developer's receiver runs beside it."""

MALLOC_ARENAS: Final = "2"
"""Heaps of a program (mallopt(3), ``M_ARENA_MAX``). By default glibc makes up to 8 a core for threads, and what was
freed in one serves no other: over 5,000 jobs a worker grew by 12 MiB, all of it free; with two by 5, and then no more.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that is known before the first program runs.

    Attributes:
        cluster: the embedded PostgreSQL; None when ``DATABASE_URL`` points elsewhere.
        redis_socket: the embedded Redis; None when ``REDIS_URL`` points elsewhere.
        balancers: the embedded Envoys; none when ``CERTFLEET_REGIONS`` declares others.
        nodes: the workers' Celery node names.
    """

    state: StateDir
    port: int
    settings: Settings
    environment: Mapping[str, str]
    programs: tuple[Program, ...]
    cluster: postgres.Cluster | None
    redis_socket: Path | None
    balancers: tuple[Balancer, ...]
    nodes: tuple[str, ...]


def make_plan(
    state: StateDir, *, port: int, ports: Ports, environ: Mapping[str, str], say: Callable[[str], None]
) -> Plan:
    """Check and complete the state directory; ``environ`` decides which servers are real ones elsewhere.

    The load balancers' addresses are taken from ``ports``, and are theirs for as long as it is open.

    Raises:
        Misconfigured: with one sentence for each thing in the way.
    """
    sockets = _fresh_sockets(state)
    has_own_regions = not environ.get("CERTFLEET_REGIONS")
    if has_own_regions:
        keep_regions_file(state, sockets=sockets, ports=ports, say=say)
    has_own_sources = "CERTFLEET_SOURCES" not in environ
    if has_own_sources:
        keep_sources_file(state, account=DEFAULT_ACCOUNT)
    cluster = None if environ.get("DATABASE_URL") else _cluster(state, sockets)
    redis_socket = None if environ.get("REDIS_URL") else sockets / "redis.sock"
    environment = _environment(state, port=port, environ=environ) | _addresses(cluster, redis_socket)
    _prepare_keys(state, Path(environment["CERTFLEET_KEK_FILE"]))
    settings = load_settings(environment)
    if has_own_sources:
        place_orders(settings.sources)
    balancers: tuple[Balancer, ...] = ()
    if has_own_regions:
        balancers = envoy.find_balancers(settings.regions, state=state, sockets=sockets, ports=ports)
    if cluster:
        postgres.prepare(cluster, say=say)
    nodes = tuple(f"{name}@{_digest(state)}" for name in programs.WORKERS)
    return Plan(
        state=state,
        port=port,
        settings=settings,
        environment=environment,
        programs=(
            *_servers(state, cluster, redis_socket, environ=environ, environment=environment),
            *(envoy.program(balancer, run=state.run) for balancer in balancers),
            *_clients(state, port=port, nodes=nodes),
        ),
        cluster=cluster,
        redis_socket=redis_socket,
        balancers=balancers,
        nodes=nodes,
    )


def choose_port(asked: int) -> int:
    """``asked`` if it is free on 127.0.0.1, or any free port for 0.

    Raises:
        Misconfigured: something else listens there.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", asked))
        except OSError as error:
            raise Misconfigured(
                (f"Port {asked} on 127.0.0.1 cannot be used ({error.strerror}); free it or choose another: --port N.",)
            ) from error
        return int(listener.getsockname()[1])


def _fresh_sockets(state: StateDir) -> Path:
    _empty(state.run)
    sockets = socket_directory(state.run)
    _empty(sockets)
    return sockets


def _cluster(state: StateDir, sockets: Path) -> postgres.Cluster:
    return postgres.Cluster(data=state.postgres, sockets=sockets / "pg", user=postgres.own_user())


def _environment(state: StateDir, *, port: int, environ: Mapping[str, str]) -> dict[str, str]:
    given = {name: value for name, value in environ.items() if value}
    defaults = {
        "CERTFLEET_REGIONS": str(state.regions_file),
        "CERTFLEET_SOURCES": str(state.sources_file),
        "CERTFLEET_KEK_FILE": str(state.kek_file),
        "CERTFLEET_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "CERTFLEET_WEBHOOK_ALLOWED_NETWORKS": LOOPBACK,
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": MALLOC_ARENAS,
    }
    # Set and empty means "none" here, and is told apart from not set.
    for name in ("CERTFLEET_WEBHOOK_ALLOWED_NETWORKS", "CERTFLEET_SOURCES"):
        if name in environ:
            defaults[name] = ""
    if "SMTP_URL" not in given:
        defaults["SMTP_URL"] = f"smtp://127.0.0.1:{choose_port(0)}"
    return defaults | given


def _addresses(cluster: postgres.Cluster | None, redis_socket: Path | None) -> dict[str, str]:
    addresses = {}
    if cluster:
        addresses["DATABASE_URL"] = cluster.url()
    if redis_socket:
        addresses["REDIS_URL"] = redis.url(redis_socket)
    return addresses


def _servers(
    state: StateDir,
    cluster: postgres.Cluster | None,
    redis_socket: Path | None,
    *,
    environ: Mapping[str, str],
    environment: Mapping[str, str],
) -> list[Program]:
    chosen: list[Program] = []
    if cluster:
        chosen.append(postgres.program(cluster))
    if redis_socket:
        chosen.append(redis.program(data=state.redis, socket=redis_socket, configuration=state.run / "redis.conf"))
    if not environ.get("SMTP_URL"):
        chosen.append(programs.mail_sink(state, int(environment["SMTP_URL"].rpartition(":")[2])))
    return chosen


def _clients(state: StateDir, *, port: int, nodes: tuple[str, ...]) -> list[Program]:
    workers = [programs.worker(name, node=node) for name, node in zip(programs.WORKERS, nodes, strict=True)]
    return [programs.api(port), *workers, programs.beat(state)]


def _prepare_keys(state: StateDir, kek_file: Path) -> None:
    if not kek_file.exists() and (state.postgres / "PG_VERSION").exists():
        raise Misconfigured(
            (f"{kek_file} is missing, and keys in {state.postgres} are sealed with it; restore it from a backup.",)
        )
    try:
        create_kek_file(kek_file, now=datetime.now(UTC))
    except OSError as error:
        raise Misconfigured((f"The key file {kek_file} cannot be made: {error.strerror}.",)) from error
    load_vault(kek_file)


def _empty(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _digest(state: StateDir) -> str:
    return hashlib.sha256(str(state.root).encode("utf-8", "surrogateescape")).hexdigest()[:12]
