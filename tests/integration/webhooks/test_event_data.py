"""What really happens says what docs/webhooks.md promises: each event of real jobs fits the shape of its type."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import select

from shared.config.regions import Region
from shared.domain.rollout import ServedState
from shared.domain.served import Verdict
from shared.errors import Unreachable
from shared.events import log
from shared.models import Event
from shared.schemas.event_data import DATA, RESERVED
from shared.usecases import proofs, reminder_scan, rollout, webhook_deliveries
from shared.usecases.cancellation import cancel_job
from shared.usecases.driver import Driver
from shared.usecases.driver_registry import build_driver
from shared.usecases.replacement import NewContent, replace_certificate
from shared.usecases.sweep import sweep
from tests.support import pki
from tests.support.fleet import new_upload, server_upload
from tests.support.listeners import add_listener
from tests.support.memory_balancers import MemoryDriver, forget_balancers, memory_region
from tests.support.reminders import add_certificate
from tests.support.webhook_world import World

SICK: Final = "eu-central-1"


def with_a_sick_region(region: Region) -> Driver:
    if region.id == SICK:
        raise Unreachable("The load balancer does not answer.")
    return build_driver(region)


def work(world: World, *, hours: int) -> None:
    """Let the workers and the sweep run for so long."""
    for _ in range(hours):
        world.fleet.run()
        world.fleet.pass_time(timedelta(hours=1))
        sweep(world.context, now=world.now)
    world.fleet.run()


def with_a_balancer_in_memory(region: Region) -> Driver:
    return MemoryDriver.for_region(region) if region.driver == "memory" else build_driver(region)


def a_listener_gets_new_content_and_drifts(world: World) -> None:
    forget_balancers()
    fleet = world.fleet
    fleet.driver_for = with_a_balancer_in_memory
    fleet.context.settings.regions["tokyo"] = memory_region("tokyo")
    _, old = fleet.submit(server_upload("tokyo.example.com", regions=["tokyo"]))
    fleet.run()
    listener_id = add_listener(fleet, "tokyo", ["tokyo.example.com"], server=old)
    fleet.run()
    issued = pki.server_with_chain("tokyo.example.com")
    content = NewContent(certificate=issued.chain_pem, private_key=issued.key_pem)
    with fleet.transaction() as session:
        replace_certificate(fleet.context, session, fleet.caller, old, content, now=fleet.now)
    fleet.run()
    for state in (ServedState.MISMATCH, ServedState.MATCH):
        with fleet.transaction() as session:
            listener = proofs.hold(session, listener_id)
            assert listener is not None
            verdict = Verdict(state=state, message="As a client saw it.")
            facts = proofs.record(session, listener, verdict, now=fleet.now, every=timedelta(minutes=1))
            log.append(session, listener.account_id, facts, now=fleet.now)


def everything_happens(world: World) -> None:
    world.now = pki.NOW
    world.fleet.driver_for = with_a_sick_region
    _, certificate_id = world.fleet.submit(server_upload())
    world.fleet.submit(new_upload(certificate="nonsense"))
    unwanted, _ = world.fleet.submit(server_upload())
    with world.transaction() as session:
        cancel_job(session, world.caller, unwanted, now=world.now)
    world.fleet.submit(server_upload("other.example.com", regions=[SICK]))
    work(world, hours=16)
    world.fleet.driver_for = build_driver
    world.fleet.retry(certificate_id, SICK)
    work(world, hours=16)
    world.fleet.change(rollout.remove_certificate, certificate_id)
    work(world, hours=16)
    a_listener_gets_new_content_and_drifts(world)
    add_certificate(world.fleet, left=timedelta(days=5))
    add_certificate(world.fleet, left=timedelta(days=-1), fingerprint_sha256="cd" * 32)
    reminder_scan.scan(world.context, now=world.now)
    endpoint_id, _ = world.create("https://example.com/")
    with world.transaction() as session:
        webhook_deliveries.send_test(session, world.caller, endpoint_id, now=world.now)


def test_every_event_that_is_sent_fits_its_documented_shape(world: World) -> None:
    everything_happens(world)
    with world.transaction() as session:
        events = session.execute(select(Event).order_by(Event.sequence)).scalars().all()
    assert set(DATA) - {event.type for event in events} == RESERVED
    faults = {f"{event.sequence} {event.type}": DATA[event.type]().validate(event.data) for event in events}
    assert {name: fault for name, fault in faults.items() if fault} == {}


def test_every_event_of_a_region_names_certificate_job_region_state_and_attempt(world: World) -> None:
    everything_happens(world)
    with world.transaction() as session:
        events = session.execute(select(Event).where(Event.type.startswith("deployment."))).scalars().all()
    assert events
    for event in events:
        assert {"certificate_id", "job_id", "region", "state", "attempt"} <= set(event.data)
    plans = {
        (event.type, "next_attempt_at" in event.data["error"])
        for event in events
        if event.type in {"deployment.retrying", "deployment.failed"}
    }
    assert plans == {("deployment.retrying", True), ("deployment.failed", False)}
