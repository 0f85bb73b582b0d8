"""/healthz, /readyz, /metrics: for operators and their machines; no token, nothing about any account."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from http import HTTPStatus
from typing import Any

from apiflask.types import ResponseReturnValueType
from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.api.calls import current_context, current_time
from services.api.resource import Resource
from shared.domain.circuits import CircuitState
from shared.domain.rollout import ServedState
from shared.errors import Transient
from shared.schemas.operations import HealthOut, ReadinessOut
from shared.usecases.context import Context
from shared.usecases.figures import Figures, read_figures
from shared.usecases.readiness import Readiness, check_readiness

blueprint = Resource("operations", __name__, tag="Operations")

_READINESS = {"application/json": {"schema": {"$ref": "#/components/schemas/ReadinessOut"}}}
_AWAY: dict[int | str, Any] = {503: {"description": "The database is away.", "content": _READINESS}}
_PROMETHEUS: dict[int | str, Any] = {200: {"description": "Prometheus text.", "content": {"text/plain": {}}}}


@blueprint.get("/healthz")
@blueprint.answers(HealthOut)
def healthz() -> ResponseReturnValueType:
    """Is the process alive? Asks nobody else."""
    return {"status": "ok"}


@blueprint.get("/readyz")
@blueprint.answers(ReadinessOut)
@blueprint.doc(responses=_AWAY)
def readyz() -> ResponseReturnValueType:
    """Is everything there? 503 only without the database; without the broker requests are kept ("degraded")."""
    report = check_readiness(current_context(), now=current_time())
    is_away = report.status is Readiness.UNAVAILABLE
    status = HTTPStatus.SERVICE_UNAVAILABLE if is_away else HTTPStatus.OK
    checks = {name: asdict(check) for name, check in report.checks.items()}
    return {"status": report.status.value, "checks": checks}, status.value


@blueprint.get("/metrics")
@blueprint.doc(responses=_PROMETHEUS)
def metrics() -> Response:
    """Gauges in Prometheus's text format: what is waiting, how late, and this process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Database(current_context(), now=current_time()))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _Database(Collector):
    """Gauges read from the database at the moment of asking."""

    def __init__(self, context: Context, *, now: datetime) -> None:
        self._context = context
        self._now = now

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            with self._context.transaction() as session:
                figures = read_figures(session, now=self._now)
        except Transient:
            yield GaugeMetricFamily("certfleet_database_up", "Whether the database answers.", value=0)
            return
        yield GaugeMetricFamily("certfleet_database_up", "Whether the database answers.", value=1)
        yield from _gauges(figures, now=self._now)


def _gauges(figures: Figures, *, now: datetime) -> Iterator[GaugeMetricFamily]:
    waiting = GaugeMetricFamily("certfleet_waiting", "Rows that are not final.", labels=("kind", "state"))
    for (kind, state), count in figures.waiting.items():
        waiting.add_metric((kind, state), count)
    overdue = GaugeMetricFamily("certfleet_overdue_seconds", "How late the oldest due row is.", labels=("kind",))
    for kind, seconds in figures.overdue_seconds.items():
        overdue.add_metric((kind,), seconds)
    yield from (
        waiting,
        overdue,
        *_periodic_gauges(figures, now=now),
        *_served_gauges(figures),
        *_lag_gauges(figures, now=now),
    )


def _periodic_gauges(figures: Figures, *, now: datetime) -> Iterator[GaugeMetricFamily]:
    runs = GaugeMetricFamily("certfleet_periodic_last_run_timestamp_seconds", "Last success.", labels=("name",))
    ages = GaugeMetricFamily("certfleet_periodic_age_seconds", "Since the last success; +Inf: never.", labels=("name",))
    for name, moment in figures.last_runs.items():
        if moment is not None:
            runs.add_metric((name,), moment.timestamp())
        ages.add_metric((name,), math.inf if moment is None else (now - moment).total_seconds())
    yield from (runs, ages)


def _served_gauges(figures: Figures) -> Iterator[GaugeMetricFamily]:
    served = GaugeMetricFamily("certfleet_listeners", "Listeners by what clients were last shown.", labels=("served",))
    for state in ServedState:
        served.add_metric((state.value,), figures.served.get(state.value, 0))
    yield served
    yield GaugeMetricFamily("certfleet_drifting_deployments", "Not as they were deployed.", value=figures.drifting)
    ages = GaugeMetricFamily(
        "certfleet_region_patrol_age_seconds", "Since the balancer last said what it holds.", labels=("region",)
    )
    for region, seconds in figures.patrol_age_seconds.items():
        ages.add_metric((region,), seconds)
    yield ages
    circuits = GaugeMetricFamily(
        "certfleet_region_circuit_open", "1: left alone, its balancer does not answer.", labels=("region",)
    )
    for region, circuit in figures.circuits.items():
        circuits.add_metric((region,), circuit is not CircuitState.CLOSED)
    yield circuits


def _lag_gauges(figures: Figures, *, now: datetime) -> Iterator[GaugeMetricFamily]:
    """Of the endpoints farthest behind only: a gauge for each endpoint would be too many."""
    pending = GaugeMetricFamily(
        "certfleet_webhook_pending", "Deliveries that wait for an endpoint.", labels=("endpoint",)
    )
    oldest = GaugeMetricFamily(
        "certfleet_webhook_oldest_seconds", "Age of an endpoint's oldest undelivered event.", labels=("endpoint",)
    )
    for endpoint_id, lag in figures.webhook_lags.items():
        pending.add_metric((endpoint_id,), lag.pending)
        oldest.add_metric((endpoint_id,), lag.oldest_seconds(now))
    yield from (pending, oldest)
