"""The ledger can fail: with a guard taken away it names what is lost, and each lie about the outside is found."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import update

from services.worker.drivers.directory import DirectoryDriver
from shared.config.regions import Region
from shared.models import Deployment
from tests.contract.driver_kit import owner, server_material
from tests.support.chaos.customers import Customers
from tests.support.chaos.ledger import Outside, Report, read_ledger, unsettled
from tests.support.chaos.stack import WORKERS, ChaosStack, chaos_stack
from tests.support.receiver import Receiver, running_receiver
from tests.support.stack import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("chaos"), pytest.mark.timeout(600)]

CALM: Final = "refuse = 0\nlose_answer = 0\nhang = 0\nanswer_late = 0\ndie_half_way = 0\nspoil = 0"
REGION: Final = "region-0"
SUBMITTED: Final = 5
SETTLED: Final = 120.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
def stack(place: Path, receiver: Receiver) -> Iterator[ChaosStack]:
    """The API, a worker and the courier; no beat, and with it neither sweep nor scan: the guard that is taken away."""
    with chaos_stack(place, seed=1, regions=1, mood=CALM) as running:
        running.hear(receiver.url)
        running.start("api", WORKERS[0], "courier")
        running.wait_until_ready()
        yield running


def test_without_the_sweep_every_job_whose_message_is_gone_is_reported_as_lost(
    stack: ChaosStack, receiver: Receiver
) -> None:
    customers = Customers(stack, seed=1)
    stack.kill(WORKERS[0])
    submit(customers, range(1, 1 + SUBMITTED))
    stack.flush_redis()
    stack.start(WORKERS[0])
    submit(customers, [9])
    last = customers.accepted.jobs[-1]
    wait_until(lambda: not [one for one in unsettled(stack) if last in one], seconds=SETTLED, otherwise=stack.log)
    report = report_of(stack, customers, receiver)
    assert len(report.lost) == SUBMITTED
    assert {one.split(" ", 1)[1] for one in report.lost} == {"is still queued"}
    stack.start("beat-0")
    wait_until(lambda: not unsettled(stack), seconds=SETTLED, otherwise=lambda: (unsettled(stack), stack.log()))
    assert report_of(stack, customers, receiver).wrong() == []


def test_each_lie_about_what_the_outside_saw_is_found(stack: ChaosStack, receiver: Receiver) -> None:
    customers = Customers(stack, seed=1)
    stack.start("beat-0")
    submit(customers, range(3))  # 0 has a contact and expires soon
    wait_until(lambda: len(mails(stack)) == 1 and not unsettled(stack), seconds=SETTLED, otherwise=stack.log)
    assert report_of(stack, customers, receiver).wrong() == []

    heard = outside(stack, receiver)
    without_last = replace(heard, received=heard.received[:-1])
    assert len(read_ledger(stack, customers.accepted, without_last).unheard) == 1

    customers.accepted.jobs.append("job_never")
    assert report_of(stack, customers, receiver).lost == ["job_never was accepted and is not there"]

    shutil.copy(mails(stack)[0], mails(stack)[0].with_name("again.eml"))
    assert report_of(stack, customers, receiver).reminders == ["1 mails came again after 0 kills"]

    stack.kill(WORKERS[0], "beat-0")  # or they would put right what follows
    driver = directory_of(stack)
    held = driver.snapshot().objects[0].ref
    say(stack, held.name.certificate_id, state="failed", holds_slot=True)  # nobody knows, and the row says so
    assert report_of(stack, customers, receiver).untrue == []
    say(stack, held.name.certificate_id, state="failed", holds_slot=False)
    assert report_of(stack, customers, receiver).untrue == [
        f"{held.name.certificate_id} lies in {REGION} and nobody says so"
    ]
    say(stack, held.name.certificate_id, state="deployed", holds_slot=True)
    driver.retire(held)
    assert report_of(stack, customers, receiver).untrue == [
        f"{held.name.certificate_id} is said to be deployed in {REGION} and is not there"
    ]

    driver.stage(server_material(), owner=owner(certificate_id="stranger"))
    assert len(report_of(stack, customers, receiver).untrue) == 2

    driver.stage(server_material(), owner=owner(certificate_id=held.name.certificate_id))
    assert len(report_of(stack, customers, receiver).doubled) == 1


def test_a_run_in_which_hardly_anything_happened_is_found_to_prove_nothing() -> None:
    busy = Report(jobs=Counter(succeeded=20), deployments=30, events=99, webhooks_again=0, mails=4, mails_again=0)
    assert busy.idle(deeds=60) == []
    assert len(busy.idle(deeds=61)) == 1
    for less in ({"jobs": Counter(succeeded=19)}, {"deployments": 9}, {"events": 20}, {"mails": 0}):
        assert len(replace(busy, **less).idle(deeds=60)) == 1, less
    assert len(replace(busy, jobs=Counter(), deployments=0, events=0, mails=0).idle(deeds=60)) == 3


def submit(customers: Customers, numbers: list[int] | range) -> None:
    for number in numbers:
        customers.create(number, random.Random(number))  # noqa: S311 - which of the one region


def say(stack: ChaosStack, certificate_id: str, *, state: str, holds_slot: bool) -> None:
    """The row says this of the region from now on."""
    with stack.context.transaction() as session:
        chosen = update(Deployment).where(Deployment.certificate_id == certificate_id)
        session.execute(chosen.values(state=state, holds_slot=holds_slot))


def outside(stack: ChaosStack, receiver: Receiver) -> Outside:
    return Outside(received=receiver.received, replies=(), mailbox=stack.place / "mailbox")


def report_of(stack: ChaosStack, customers: Customers, receiver: Receiver) -> Report:
    return read_ledger(stack, customers.accepted, outside(stack, receiver))


def mails(stack: ChaosStack) -> list[Path]:
    return sorted((stack.place / "mailbox").glob("*.eml"))


def directory_of(stack: ChaosStack) -> DirectoryDriver:
    path = str(stack.context.settings.regions[REGION].settings["path"])
    return DirectoryDriver.for_region(Region(id=REGION, name=REGION, driver="directory", settings={"path": path}))
