"""Workers that renew and roll out until a test kills them (``tests/support/killable.py``).

Each does what Celery's would do for every wake-up, with real drivers, a real prober and the local authority.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from services.worker.probe import TlsProber
from services.worker.sources.local_ca import LocalCa, parse_settings
from shared.config.regions import load_regions
from shared.config.settings import Settings
from shared.config.sources import CertificateService, load_sources
from shared.crypto.vault import load_vault
from shared.domain.acquisitions import FINAL_ACQUISITIONS
from shared.domain.rollout import FINAL_JOBS
from shared.models import Acquisition, Job
from shared.models.database import Database
from shared.usecases.acquiring import acquire
from shared.usecases.clock import Clock
from shared.usecases.context import Context
from shared.usecases.driver_registry import build_driver
from shared.usecases.region_tools import RegionTools
from shared.usecases.region_work import work_in_region
from shared.usecases.source_tools import SourceTools
from shared.usecases.validation import validate_job
from tests.support import pki
from tests.support.fleet import WaitingRoom
from tests.support.killable import Workers, fork_on_demand, killable_workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a worker needs to know. ``began``: the real time at which the test's clock showed ``pki.NOW``.

    ``sources_file``: the certificate services, all of kind ``local_ca``; empty: none.
    """

    database_url: str
    kek_file: str
    regions_file: str
    lease_seconds: float
    began: float
    sources_file: str = ""

    @property
    def clock(self) -> Clock:
        """The test's time, running."""
        return lambda: pki.NOW + (datetime.now(UTC) - datetime.fromtimestamp(self.began, UTC))

    def local_ca(self, service: CertificateService) -> LocalCa:
        """The service's source, in the test's time."""
        return LocalCa(parse_settings(service.settings), clock=self.clock)


def build_context(orders: Orders) -> Context:
    """Everything real but the queue: the worker looks for work itself."""
    settings = Settings(
        database_url=orders.database_url,
        redis_url="unix:///nowhere",
        kek_file=Path(orders.kek_file),
        regions=load_regions(Path(orders.regions_file)),
        sources=load_sources(Path(orders.sources_file)) if orders.sources_file else {},
        lease=timedelta(seconds=orders.lease_seconds),
    )
    return Context(
        settings=settings,
        database=Database(orders.database_url, pool=2),
        vault=load_vault(settings.kek_file),
        publisher=WaitingRoom(),
    )


def region_workers(orders: Orders) -> AbstractContextManager[Workers]:
    """Workers with these orders, started with ``start``."""
    return killable_workers("tests.support.region_worker", json.dumps(asdict(orders)))


def main() -> None:
    """Fork workers on demand."""
    orders = Orders(**json.loads(sys.argv[1]))
    fork_on_demand(lambda ahead: _work(replace(orders, began=orders.began - ahead.total_seconds())))


def _work(orders: Orders) -> None:
    context = build_context(orders)
    tools = RegionTools(driver_for=build_driver, prober=TlsProber(), clock=orders.clock)
    sources = SourceTools(source_for=orders.local_ca, clock=orders.clock)
    while True:
        with context.transaction() as session:
            wanted = list(
                session.execute(
                    select(Acquisition.id).where(Acquisition.state.not_in(FINAL_ACQUISITIONS)).order_by(Acquisition.id)
                ).scalars()
            )
            jobs = list(session.execute(select(Job.id).where(Job.state.not_in(FINAL_JOBS)).order_by(Job.id)).scalars())
        for acquisition_id in wanted:
            acquire(context, sources, acquisition_id)
        for job_id in jobs:
            validate_job(context, job_id, now=orders.clock())
        for region_id in context.settings.regions:
            work_in_region(context, tools, region_id)
        time.sleep(0.005)


if __name__ == "__main__":
    main()
