"""docker-compose.yml without Docker: what it promises, and one job through its services as plain processes."""

from __future__ import annotations

import http.client
import json
import re
import secrets
import shlex
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from services.cli.embedded import postgres, programs, redis
from services.cli.embedded.layout import locate
from services.cli.embedded.plan import choose_port
from shared.wakeups import QUEUES
from tests.support import pki
from tests.support.compose import COMPOSE_FILE, ROOT, Here, Service, composed, read_compose
from tests.support.servers import Servers

DOCKERFILE: Final = ROOT / "deploy" / "docker" / "Dockerfile"
REGIONS_FILE: Final = ROOT / "deploy" / "docker" / "regions.toml"
DOTENV: Final = {"POSTGRES_PASSWORD": "from-dotenv", "CERTFLEET_MAIL_FROM": "certfleet@example.test"}
JOB_SECONDS: Final = 60.0

SERVICES: Final = read_compose(DOTENV)
OURS: Final = {name: service for name, service in SERVICES.items() if service.target}


def by_name(services: Mapping[str, Service]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("service", services.values(), ids=services)


def dockerfile_stages() -> dict[str, str]:
    """The text of each named stage, with continued lines joined."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    parts = re.split(r"^FROM \S+ AS (\S+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def instruction(stage: str, name: str) -> tuple[str, ...]:
    """The words of the stage's last ``CMD [...]``, or of the ``CMD`` of its ``HEALTHCHECK``."""
    (*_, words) = re.findall(rf"^{name}.*?(\[.*\])$", dockerfile_stages()[stage], flags=re.MULTILINE)
    return tuple(json.loads(words))


def without(words: tuple[str, ...], *options: str) -> list[str]:
    """The words without these options and their values."""
    kept, skips = [], False
    for word in words:
        if not skips and word not in options:
            kept.append(word)
        skips = not skips and word in options
    return kept


@by_name(OURS)
def test_our_services_run_as_a_numbered_user_that_is_not_root_and_may_change_nothing(service: Service) -> None:
    uid, _, gid = service.raw["user"].partition(":")
    assert int(uid) > 0
    assert int(gid) > 0
    assert service.raw["read_only"] is True
    assert service.raw["cap_drop"] == ["ALL"]
    assert service.raw["security_opt"] == ["no-new-privileges:true"]


@by_name(OURS)
def test_our_services_are_targets_of_the_one_dockerfile_whose_user_is_the_same_number(service: Service) -> None:
    assert service.raw["build"]["dockerfile"] == DOCKERFILE.relative_to(ROOT).as_posix()
    assert service.target in dockerfile_stages()
    assert service.raw["image"] == f"certfleet-{service.target}"
    assert f"USER {service.raw['user']}" in dockerfile_stages()["runtime"]


@by_name(SERVICES)
def test_a_service_has_a_health_check_or_runs_once(service: Service) -> None:
    runs_once = service.raw["restart"] == "no"
    assert bool(service.health) is not runs_once


@by_name(SERVICES)
def test_a_service_that_must_be_healthy_first_has_a_health_check(service: Service) -> None:
    for name, condition in service.needs.items():
        assert bool(SERVICES[name].health) is (condition == "service_healthy")


def test_every_queue_has_exactly_one_consumer() -> None:
    consumed = [
        queue
        for service in SERVICES.values()
        if "-Q" in service.words
        for queue in service.words[service.words.index("-Q") + 1].split(",")
    ]
    assert sorted(consumed) == sorted(QUEUES)


def test_no_password_is_in_the_file() -> None:
    text = COMPOSE_FILE.read_text(encoding="utf-8")
    assert not re.findall(r"://[^\s:@/]*:(?!\$\{)[^\s@/]*@", text)
    values = re.findall(r"^\s*\w*(?:PASSWORD|SECRET|TOKEN)\w*:\s*(.+)$", text, flags=re.MULTILINE)
    assert values
    assert all(value.startswith("${") for value in values)


def test_without_a_password_nothing_starts() -> None:
    with pytest.raises(KeyError, match="POSTGRES_PASSWORD"):
        read_compose({})


def test_the_key_file_is_mounted_by_those_alone_who_open_secrets_and_written_by_the_operator_alone() -> None:
    mounts = {
        name: mount for name, service in OURS.items() for mount in service.raw.get("volumes", ()) if "keys" in mount
    }
    readers = {name for name, mount in mounts.items() if mount.endswith(":ro")}
    assert readers == {"api", "worker", "courier"}
    assert set(mounts) - readers == {"cli"}


def test_databases_are_out_of_reach_from_outside() -> None:
    for name in ("postgres", "redis"):
        assert SERVICES[name].raw["networks"] == ["data"]
        assert "ports" not in SERVICES[name].raw


def test_only_loopback_is_published() -> None:
    published = [port for service in SERVICES.values() for port in service.raw.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_api_runs_as_in_the_embedded_stack() -> None:
    embedded = programs.api(8080).command
    assert embedded[:3] == (sys.executable, "-m", "gunicorn")
    assert without(SERVICES["api"].words[1:], "--bind") == without(embedded[3:], "--bind")


@pytest.mark.parametrize("name", programs.WORKER_QUEUES)
def test_a_worker_runs_as_in_the_embedded_stack(name: str) -> None:
    embedded = programs.worker(name, node=f"{name}@%h")
    assert SERVICES[name].words == embedded.command[2:]
    assert SERVICES[name].environment.items() >= embedded.environment.items()


def test_beat_runs_as_in_the_embedded_stack(tmp_path: Path) -> None:
    embedded = programs.beat(locate(tmp_path)).command
    assert without(SERVICES["beat"].words, "--schedule") == without(embedded[2:], "--schedule")


def test_redis_keeps_its_promises_as_in_the_embedded_stack(tmp_path: Path) -> None:
    configuration = tmp_path / "redis.conf"
    redis.program(data=tmp_path, socket=tmp_path / "redis.sock", configuration=configuration)
    embedded = dict(shlex.split(line) for line in configuration.read_text(encoding="utf-8").splitlines())
    words = SERVICES["redis"].words
    for option in ("appendonly", "appendfsync", "save", "maxmemory-policy"):
        assert words[words.index(f"--{option}") + 1] == embedded[option]


def test_postgres_logs_no_statement_as_in_the_embedded_stack(tmp_path: Path) -> None:
    cluster = postgres.Cluster(data=tmp_path, sockets=tmp_path, user=None)
    embedded = postgres.program(cluster).command
    for setting in ("log_min_error_statement", "log_error_verbosity", "timezone", "max_connections"):
        (given,) = (word for word in SERVICES["postgres"].words if word.startswith(f"{setting}="))
        assert given in embedded
    assert SERVICES["postgres"].raw["image"].partition(":")[2] == postgres.MAJOR


@pytest.mark.parametrize("kind", programs.WORKER_QUEUES)
def test_there_are_as_many_workers_of_a_kind_as_in_the_embedded_stack(kind: str) -> None:
    assert SERVICES[kind].raw.get("scale", 1) == list(programs.WORKERS.values()).count(kind)


@pytest.mark.parametrize("target", ["api", "worker"])
def test_an_image_alone_starts_and_checks_itself_as_its_service_does(target: str) -> None:
    assert instruction(target, "CMD") == SERVICES[target].words
    assert instruction(target, r"HEALTHCHECK") == SERVICES[target].health


def test_every_package_in_an_image_is_checked_against_a_hash_and_none_is_compiled() -> None:
    installs = re.findall(r"pip (?:--python \S+ )?install [^&\n]*", DOCKERFILE.read_text(encoding="utf-8"))
    assert len(installs) == 7
    for install in installs:
        ours = "--no-index /wheels/" in install and "--no-deps" in install
        assert ours or ("--require-hashes" in install and "--only-binary :all:" in install)


@pytest.mark.e2e
def test_the_services_run_as_plain_processes_and_a_job_passes_through(servers: Servers, tmp_path: Path) -> None:
    port, here = settled_here(servers, tmp_path)
    long_running = {name: service for name, service in SERVICES.items() if "profiles" not in service.raw}
    cli = SERVICES["cli"]
    (tmp_path / "keys").mkdir()
    (tmp_path / "redis").mkdir()
    (tmp_path / "regions.toml").write_text(here.translate(REGIONS_FILE.read_text(encoding="utf-8")), encoding="utf-8")
    here.run(cli, "keys", "create", "/var/lib/certfleet/keys/keks.json")

    with composed(long_running, here) as composition:
        here.run(cli, "accounts", "create", "acme")
        token = here.run(cli, "tokens", "create", "--account", "acme")
        job = run_job(port, token)

    assert job["state"] == "succeeded"
    assert {answer["region"]: answer["state"] for answer in job["deployments"]} == dict.fromkeys(regions(), "deployed")
    assert composition.ended == {name: 0 for name in long_running if name not in here.elsewhere}
    assert here.used == set(here.words)


def settled_here(servers: Servers, directory: Path) -> tuple[int, Here]:
    """The API's port, and the one mapping from the file's names to this machine."""
    api_port, redis_port = choose_port(0), choose_port(0)
    database = f"compose_{secrets.token_hex(4)}"
    postgres.create_database(servers.cluster, database)
    words = {
        # The session's PostgreSQL listens on a socket and asks for no password.
        "postgresql://certfleet:from-dotenv@postgres:5432/certfleet": servers.cluster.url(database),
        "redis://redis:": "redis://127.0.0.1:",
        "6379": str(redis_port),
        "8080": str(api_port),
        "0.0.0.0": "127.0.0.1",  # noqa: S104 - what is replaced, so that only this machine is listened to
        "/var/lib/certfleet": str(directory),
        "/etc/certfleet": str(directory),
        "/tmp/beat-schedule": str(directory / "beat-schedule"),  # noqa: S108 - what is replaced
        "/data": str(directory / "redis"),
        "valkey-server": redis.find_server(),
        "pg_isready": str(postgres.binary("pg_isready")),
        "localhost": str(servers.cluster.sockets),
    }
    ping = f"import redis; redis.Redis(port={redis_port}).ping()"
    here = Here(
        directory=directory,
        words=words,
        elsewhere=frozenset({"postgres"}),
        health={"redis": (sys.executable, "-c", ping)},  # no wheel brings valkey-cli
    )
    return api_port, here


def regions() -> list[str]:
    return re.findall(r'^id = "(.+)"$', REGIONS_FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def run_job(port: int, token: str) -> dict[str, Any]:
    """Submit one certificate to every region and return its job once it is final."""
    now = datetime.now(UTC)
    issued = pki.server("www.example.test", not_before=now - timedelta(days=1), not_after=now + timedelta(days=90))
    upload = {
        "source": "third_party",
        "type": "server",
        "certificate": issued.chain_pem,
        "private_key": issued.key_pem,
        "regions": regions(),
    }
    job_id = call(port, token, "POST", path="/v1/certificates", body=upload)["job"]["id"]
    deadline = time.monotonic() + JOB_SECONDS
    while time.monotonic() < deadline:
        job = call(port, token, "GET", path=f"/v1/jobs/{job_id}")
        if job["state"] not in ("queued", "validating", "deploying"):
            return job
        time.sleep(0.05)
    pytest.fail(f"not final after {JOB_SECONDS:.0f} s: {job}")


def call(port: int, token: str, method: str, *, path: str, body: object = None) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    try:
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    assert response.status in (200, 202), text
    answer: dict[str, Any] = json.loads(text)
    return answer
