"""PostgreSQL is stopped, frozen, full: requests are refused in a way that says so, and all is well again by itself."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from services.cli.embedded.plan import choose_port
from services.cli.embedded.programs import API_THREADS
from tests.support.outages import OwnPostgres, own_postgres, silent_broker, threads_of
from tests.support.processes import Installation, installation, slow_region, upload
from tests.support.stack import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stack")]

REGION: Final = "cn-hangzhou"
REQUESTS: Final = 300
AT_ONCE: Final = 16
POOL: Final = 4
PROCESSES: Final = 2
"""Of gunicorn, below its master."""
MOST_CONNECTIONS: Final = PROCESSES * (2 * POOL + 4)
"""A pool and its overflow, and those of the impatient (``Database.impatient``), in each process."""
MOST_THREADS: Final = 1 + PROCESSES * (API_THREADS + 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    kind: str
    retry_after: str | None
    body: dict[str, Any]


@dataclass(kw_only=True)
class Served:
    """An API that answers."""

    fleet: Installation
    port: int
    pid: int

    def ask(self, path: str, *, method: str = "GET", body: Any = None, seconds: float = 20) -> Answer:
        """One request; raises TimeoutError when no answer comes in time."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        headers = {"Authorization": f"Bearer {self.fleet.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return Answer(
                status=answer.status,
                kind=str(answer.headers.get_content_type()),
                retry_after=answer.headers.get("Retry-After"),
                body=json.loads(answer.read()),
            )
        finally:
            connection.close()

    def ask_often(self) -> list[Answer]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda _: self.ask("/v1/regions"), range(REQUESTS)))


@pytest.fixture
def database(place: Path) -> Iterator[OwnPostgres]:
    (place / "own").mkdir()
    with own_postgres(place) as running:
        yield running


@pytest.fixture
def served(database: OwnPostgres, place: Path, redis_url: str) -> Iterator[Served]:
    regions = slow_region(place, REGION, delay_seconds=0)
    pool = {"CERTFLEET_DATABASE_POOL": str(POOL)}
    with installation(place, database_url=database.url, redis_url=redis_url, regions=regions, **pool) as fleet:
        port = choose_port(0)
        api = fleet.api(port)
        yield Served(fleet=fleet, port=port, pid=api.pid)


def is_unavailable(answer: Answer) -> bool:
    return (answer.status, answer.kind, answer.body["code"]) == (
        503,
        "application/problem+json",
        "database_unavailable",
    ) and bool(answer.retry_after)


def test_while_postgresql_is_away_requests_get_503_and_afterwards_all_is_as_before(
    served: Served, database: OwnPostgres
) -> None:
    assert {answer.status for answer in served.ask_often()} == {200}
    for _ in range(2):
        database.stop()
        refused = served.ask_often()
        assert [answer for answer in refused if not is_unavailable(answer)] == []
        assert is_unavailable(served.ask("/v1/certificates", method="POST", body=upload(REGION)))
        assert served.ask("/healthz").status == 200
        readiness = served.ask("/readyz")
        assert (readiness.status, readiness.body["status"]) == (503, "unavailable")
        database.start()
        assert {answer.status for answer in served.ask_often()} == {200}
        assert served.ask("/readyz").status == 200
    assert served.ask("/v1/certificates", method="POST", body=upload(REGION)).status == 202
    assert database.connections() <= MOST_CONNECTIONS
    assert threads_of(served.pid) <= MOST_THREADS


def test_a_frozen_postgresql_is_noticed_soon_and_its_requests_are_given_up(
    served: Served, database: OwnPostgres
) -> None:
    assert {answer.status for answer in served.ask_often()} == {200}
    assert served.ask("/readyz").status == 200
    with database.frozen():
        readiness = served.ask("/readyz", seconds=4)
        assert (readiness.status, readiness.body["status"]) == (503, "unavailable")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            asked = [pool.submit(served.ask, "/v1/regions", seconds=30) for _ in range(AT_ONCE)]
            assert served.ask("/healthz", seconds=4).status == 200
            assert [each.result() for each in asked if not is_unavailable(each.result())] == []
        assert served.ask("/readyz", seconds=4).status == 503
    wait_until(lambda: served.ask("/readyz").status == 200, seconds=20, otherwise=served.fleet.log)
    assert {answer.status for answer in served.ask_often()} == {200}
    assert database.connections() <= MOST_CONNECTIONS
    assert threads_of(served.pid) <= MOST_THREADS


def test_a_server_that_is_out_of_disk_memory_or_connections_is_unavailable_and_no_fault_of_ours(
    served: Served, database: OwnPostgres
) -> None:
    """PostgreSQL manual, Appendix A: class 53, insufficient resources."""
    for sqlstate in ("53000", "53100", "53200", "53300", "53400"):
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute(
                "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN RAISE EXCEPTION 'no more' USING ERRCODE = '{sqlstate}'; END $$"
            )
            connection.execute("CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON jobs EXECUTE FUNCTION refuse()")
        assert is_unavailable(served.ask("/v1/certificates", method="POST", body=upload(REGION))), sqlstate
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("DROP TRIGGER refuse ON jobs")
    assert served.ask("/v1/certificates", method="POST", body=upload(REGION)).status == 202


def test_a_broker_that_is_silent_delays_no_answer_for_long_and_loses_nothing(
    database_url: str, redis_url: str, place: Path
) -> None:
    regions = slow_region(place, REGION, delay_seconds=0)
    with (
        silent_broker() as silent,
        installation(
            place, database_url=database_url, redis_url=redis_url, regions=regions, CERTFLEET_SWEEP_SECONDS="1"
        ) as fleet,
    ):
        port = choose_port(0)
        api = fleet.api(port, REDIS_URL=silent)
        served = Served(fleet=fleet, port=port, pid=api.pid)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(
                pool.map(
                    lambda number: served.ask(
                        "/v1/certificates", method="POST", body=upload(REGION, number=number), seconds=10
                    ),
                    range(AT_ONCE),
                )
            )
        assert {answer.status for answer in answers} == {202}
        readiness = served.ask("/readyz", seconds=4)
        assert (readiness.status, readiness.body["checks"]["broker"]["ok"]) == (200, False)
        assert set(fleet.jobs()) == {"queued"}
        fleet.worker()
        fleet.beat()
        fleet.wait_for_jobs(seconds=60)
        assert fleet.jobs() == ["succeeded"] * AT_ONCE
