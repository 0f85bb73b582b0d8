"""An account that looks lived in: for the pictures of the console, and for what a browser checks on every page.

Everything happens by the API and by the workers' use cases, on balancers in memory, at a clock that stands at
:data:`NOW` in the end: names, times and states are the same each time, keys and ids are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select

from shared.config.regions import Quota, Region, RetryLimits
from shared.domain.reminders import ReminderState
from shared.domain.webhooks import Answer, DeliveryState
from shared.errors import Unreachable
from shared.models import Account, ApiToken, Reminder, WebhookDelivery
from shared.usecases import reminder_mail, reminder_scan
from shared.usecases.driver import Driver
from shared.usecases.mail import Mail
from shared.usecases.people import add_person
from shared.usecases.region_work import work_in_region
from shared.usecases.sweep import sweep
from shared.usecases.validation import validate_job
from shared.usecases.webhook_delivery import Request
from shared.wakeups import Task
from tests.support import pki
from tests.support.api import Api, answer, build_api
from tests.support.console import newcomer, person
from tests.support.fleet import Fleet, build_fleet
from tests.support.managed import list_anew
from tests.support.memory_balancers import MemoryDriver, balancer, forget_balancers
from tests.support.memory_sources import MemoryService, MemorySource, certificate_service
from tests.support.patrols import foreign_material, patrol_now
from tests.support.webhook_world import World

NOW: Final = datetime(2026, 11, 27, 9, 30, tzinfo=UTC)
SICK: Final = "us-east-1"
"""Its load balancer stops answering in the end."""

ACCOUNT: Final = "Example Shop"
EVERYWHERE: Final = ("cn-hangzhou", "cn-shanghai", "ap-southeast-1", "eu-central-1", "us-west-1")
_NAMES: Final = {
    "cn-hangzhou": "China (Hangzhou)",
    "cn-shanghai": "China (Shanghai)",
    "ap-southeast-1": "Singapore",
    "eu-central-1": "Germany (Frankfurt)",
    "us-west-1": "US (Silicon Valley)",
    SICK: "US (Virginia)",
}
_WELL: Final = "https://hooks.shop.example/certificates"
_SILENT: Final = "https://chat.example/in/certificates"
_RECEIVERS: Final = {
    _WELL: Answer(status=204, duration=timedelta(milliseconds=48)),
    _SILENT: Answer(status=503, head="upstream connect error", duration=timedelta(seconds=2)),
}


IDS: Final = (
    "certificate_id",
    "delivery_id",
    "job_id",
    "listener_id",
    "person_id",
    "region",
    "region_id",
    "webhook_id",
)
"""What addresses of pages name; each has an interesting one in ``Showcase.ids``."""


@dataclass(slots=True, kw_only=True)
class Showcase:
    """The API of that account. ``ids``: what pages are about, by :data:`IDS`, and by host or name.

    ``sign_in_token`` is of a person of the account, ``newcomer_token`` of one of an empty account; each works once.
    """

    api: Api
    ids: dict[str, str]
    sign_in_token: str = ""
    newcomer_token: str = ""

    @property
    def fleet(self) -> Fleet:
        return self.api.fleet


@contextmanager
def showcase(database_url: str, place: Path) -> Iterator[Showcase]:
    """Build it in an empty database; a few seconds."""
    forget_balancers()
    fleet = _fleet(database_url, place)
    try:
        yield _lived_in(build_api(fleet))
    finally:
        fleet.context.database.close()
        forget_balancers()


def _fleet(database_url: str, place: Path) -> Fleet:
    regions = [_region(place, number, *item) for number, item in enumerate(_NAMES.items())]
    service = certificate_service("ca", name="Example Trust", account=ACCOUNT)
    fleet = build_fleet(database_url, place, regions=regions, services=[service])
    fleet.driver_for = _driver
    fleet.sources["ca"] = MemorySource(MemoryService(clock=lambda: fleet.now))
    return fleet


def _region(place: Path, number: int, region_id: str, name: str) -> Region:
    """Declared as an Envoy, so that its policy and limits are an Envoy's; driven in memory (:func:`_driver`)."""
    return Region(
        id=region_id,
        name=name,
        driver="envoy",
        settings={"path": str(place / region_id), "admin": f"unix:{place / region_id}.sock"},
        quota=Quota(server=(10, 20, 20, 12, 20, 20)[number], ca=10),
        listener_address=f"203.0.113.{10 + number}:443",
        retry=RetryLimits(max_attempts=3),
    )


def _driver(region: Region) -> Driver:
    return MemoryDriver.for_region(replace(region, driver="memory", settings={"balancer": region.id}))


def _lived_in(api: Api) -> Showcase:
    shown = Showcase(api=api, ids={})
    _name_account(shown)
    for days_ago, happen in _STORY:
        api.fleet.now = NOW - timedelta(days=days_ago)
        happen(shown)
        _work(shown)
    for minutes_ago in (9, 4):
        api.fleet.now = NOW - timedelta(minutes=minutes_ago)
        patrol_now(api.fleet)
        api.fleet.run()
        _deliver(api.fleet)
    api.fleet.now = NOW - timedelta(seconds=20)
    _begin_one_more(shown)
    api.fleet.now = NOW
    shown.newcomer_token = person(api, email="new@example.com", password=None, account_id=newcomer(api))
    _name_interesting_ones(shown)
    return shown


def _name_account(shown: Showcase) -> None:
    with shown.fleet.transaction() as session:
        account = session.get_one(Account, shown.fleet.caller.account_id)
        account.name, account.contacts = ACCOUNT, ["certificates@shop.example"]
        for token in session.execute(select(ApiToken)).scalars():
            token.name = "build server"


def _name_interesting_ones(shown: Showcase) -> None:
    client, chat = shown.api.client, shown.ids[_SILENT]
    mutual = [one for one in client.items("/v1/listeners") if one["authentication"] == "mutual"]
    deliveries = client.items(f"/v1/webhooks/{chat}/deliveries")
    shown.ids |= {
        "certificate_id": shown.ids["api.shop.example"],
        "delivery_id": max(deliveries, key=lambda one: int(one["attempt"]))["id"],
        "job_id": shown.ids["job"],
        "listener_id": mutual[0]["id"],
        "person_id": _people(shown),
        "region": "us-west-1",
        "region_id": SICK,
        "webhook_id": chat,
    }
    assert set(IDS) <= set(shown.ids)


def _people(shown: Showcase) -> str:
    """Whom the account's settings list, beside the one who signs in; the id of one of them."""
    account_id = shown.fleet.caller.account_id
    shown.sign_in_token = person(shown.api, password=None)
    with shown.fleet.transaction() as session:
        return add_person(session, account_id=account_id, email="ben@example.com", now=NOW - timedelta(days=40)).id


def _work(shown: Showcase) -> None:
    """Everything that workers and couriers would do by now."""
    fleet = shown.fleet
    fleet.run()
    reminder_scan.scan(fleet.context, now=fleet.now)
    _deliver(fleet)
    _remind(fleet)


def _deliver(fleet: Fleet) -> None:
    due = select(WebhookDelivery.id).where(
        WebhookDelivery.state == DeliveryState.PENDING, WebhookDelivery.next_attempt_at <= fleet.now
    )
    with fleet.transaction() as session:
        waiting = session.execute(due.order_by(WebhookDelivery.id)).scalars().all()
    world = World(fleet=fleet, sender=_Receivers())
    for delivery_id in waiting:
        world.deliver(delivery_id)


def _remind(fleet: Fleet) -> None:
    with fleet.transaction() as session:
        due = select(Reminder.id).where(Reminder.state == ReminderState.PENDING).order_by(Reminder.id)
        waiting = session.execute(due).scalars().all()
    for reminder_id in waiting:
        reminder_mail.send(fleet.context, _Mailbox(), reminder_id, now=fleet.now)


class _Receivers:
    """Answers each address as :data:`_RECEIVERS` says."""

    def send(self, request: Request, *, deadline: timedelta) -> Answer:  # noqa: ARG002 - the port's
        return _RECEIVERS[request.url]


class _Mailbox:
    """Takes every mail."""

    def send(self, mail: Mail) -> None:
        """Taken."""


def _upload(*names: str, life: int, regions: tuple[str, ...] = EVERYWHERE, **more: Any) -> Callable[[Showcase], None]:
    """A server certificate of these names, good for ``life`` days from then on."""

    def happen(shown: Showcase) -> None:
        issued = _issued(shown, names, life=life)
        body = {**_pems(issued), "regions": list(regions), **more}
        shown.ids[names[0]] = shown.api.submit(**body)["certificate"]["id"]

    return happen


def _authority(name: str, *, regions: tuple[str, ...]) -> Callable[[Showcase], None]:
    def happen(shown: Showcase) -> None:
        now = shown.fleet.now
        issued = pki.authority(name, not_before=now - pki.DAY, not_after=now + 1825 * pki.DAY)
        body: dict[str, Any] = {"type": "ca", "certificate": issued.pem, "private_key": ..., "regions": list(regions)}
        shown.ids[name] = shown.api.submit(**body)["certificate"]["id"]

    return happen


def _listen(host: str, *regions: str, ca: str | None = None) -> Callable[[Showcase], None]:
    """A listener for the host in each of these regions; mutual where clients come with certificates of ``ca``."""

    def happen(shown: Showcase) -> None:
        for region in regions:
            body = {
                "region": region,
                "name": host.partition(".")[0],
                "hosts": [host],
                "server_certificate_id": shown.ids[host],
                "authentication": "mutual" if ca else "one_way",
                **({"ca_certificate_id": shown.ids[ca]} if ca else {}),
            }
            _ask(shown, "/v1/listeners", body)

    return happen


def _replace(host: str, *, life: int) -> Callable[[Showcase], None]:
    def happen(shown: Showcase) -> None:
        issued = _issued(shown, (host,), life=life, number=7)
        document = _ask(shown, f"/v1/certificates/{shown.ids[host]}/replace", _pems(issued))
        shown.ids[f"old {host}"] = shown.ids[host]
        shown.ids[host] = document["certificate"]["id"]

    return happen


def _managed(host: str) -> Callable[[Showcase], None]:
    def happen(shown: Showcase) -> None:
        service = MemoryService(clock=lambda: shown.fleet.now, life=timedelta(days=180))
        shown.fleet.sources["ca"] = MemorySource(service)
        offered = [service.issue(host), service.issue("static.shop.example"), service.issue("mail.shop.example")]
        list_anew(shown.fleet)
        body: dict[str, Any] = {
            "source": "managed",
            "certificate": ...,
            "private_key": ...,
            "managed_certificate_id": f"ca:{offered[0].id}",
            "regions": list(EVERYWHERE[:3]),
        }
        shown.ids[host] = shown.api.submit(**body)["certificate"]["id"]

    return happen


def _webhook(url: str, description: str, *types: str) -> Callable[[Showcase], None]:
    def happen(shown: Showcase) -> None:
        body = {"url": url, "description": description, "types": list(types)}
        shown.ids[url] = _ask(shown, "/v1/webhooks", body, status=201)["id"]

    return happen


def _damaged(shown: Showcase) -> None:
    """Somebody pastes a certificate with another one's key, and a root that is not needed."""
    issued = _issued(shown, ("blog.shop.example",), life=365)
    other = _issued(shown, ("other.shop.example",), life=365, number=5)
    assert issued.root is not None
    pems: dict[str, Any] = {"certificate": issued.chain_pem + pki.to_pem(issued.root), "private_key": other.key_pem}
    shown.ids["rejected"] = shown.api.submit(name="blog.shop.example", **pems)["certificate"]["id"]


def _virginia_falls_silent(_shown: Showcase) -> None:
    balancer(SICK).faults.add("*", Unreachable, times=None)


def _attempts_are_used_up(shown: Showcase) -> None:
    for _ in range(3):
        shown.fleet.pass_time(timedelta(minutes=11))
        sweep(shown.fleet.context, now=shown.fleet.now)
        shown.fleet.run()
        _deliver(shown.fleet)


def _somebody_meddles(_shown: Showcase) -> None:
    balancer("us-west-1").show_by_hand("api.shop.example", foreign_material("api.shop.example"))


def _begin_one_more(shown: Showcase) -> None:
    """A job on its way: validated, one region done."""
    _upload("new.shop.example", life=365, contacts=["web@shop.example"])(shown)
    fleet, waiting = shown.fleet, shown.fleet.room.waiting
    job_id = next(wake_up.id for wake_up in waiting if wake_up.task is Task.VALIDATE)
    waiting.clear()
    validate_job(fleet.context, job_id, now=fleet.now)
    work_in_region(fleet.context, fleet.tools, EVERYWHERE[0])
    waiting.clear()
    shown.ids["job"] = job_id


def _issued(shown: Showcase, names: tuple[str, ...], *, life: int, number: int = 0) -> pki.Issued:
    now = shown.fleet.now
    root = pki.authority("Example Trust Root", not_before=now - 3000 * pki.DAY, not_after=now + 4000 * pki.DAY)
    issuer = pki.authority(
        "Example Trust TLS CA 1", issuer=root, not_before=now - 900 * pki.DAY, not_after=now + 1800 * pki.DAY
    )
    begins = now - timedelta(hours=2)
    return pki.server(*names, issuer=issuer, number=number, not_before=begins, not_after=begins + life * pki.DAY)


def _pems(issued: pki.Issued) -> dict[str, Any]:
    return {"certificate": issued.chain_pem, "private_key": issued.key_pem}


def _ask(shown: Showcase, path: str, body: Mapping[str, Any], *, status: int = 202) -> dict[str, Any]:
    response = shown.api.client.post(path, dict(body))
    assert response.status_code == status, response.text
    return answer(response)


_STORY: Final[tuple[tuple[float, Callable[[Showcase], None]], ...]] = (
    (199, _authority("Partners CA", regions=EVERYWHERE)),
    (199, _authority("Devices CA", regions=("cn-hangzhou", "eu-central-1"))),
    (190, _upload("shop.example", "www.shop.example", "m.shop.example", life=397, tags={"team": "shop"})),
    (190, _listen("shop.example", *EVERYWHERE)),
    (170, _upload("api.shop.example", life=199, tags={"team": "platform"}, contacts=["platform@shop.example"])),
    (170, _listen("api.shop.example", "cn-hangzhou", "us-west-1")),
    (160, _upload("partners.shop.example", life=365, regions=("cn-hangzhou", "eu-central-1"))),
    (160, _listen("partners.shop.example", "cn-hangzhou", "eu-central-1", ca="Partners CA")),
    (120, _managed("img.shop.example")),
    (85, _upload("pay.shop.example", "checkout.shop.example", life=90, contacts=["payments@shop.example"])),
    (85, _listen("pay.shop.example", "cn-hangzhou", "ap-southeast-1", "eu-central-1")),
    (80, _upload("legacy.shop.example", life=79, regions=("cn-shanghai",))),
    (62, _webhook(_WELL, "Deployment log", "*")),
    (61, _upload("*.cdn.shop.example", life=90)),
    (60, _listen("img.shop.example", "cn-hangzhou")),
    (33, _upload("status.shop.example", life=50, regions=("eu-central-1", SICK))),
    (12, _upload("search.shop.example", life=90)),
    (12, _listen("search.shop.example", "eu-central-1")),
    (3, _replace("search.shop.example", life=365)),
    (2.5, _webhook(_SILENT, "Chat of the operators", "deployment.*", "certificate.*")),
    (2, _damaged),
    (1.2, _virginia_falls_silent),
    (1.1, _upload("blog.shop.example", life=365, regions=("eu-central-1", SICK))),
    (1, _attempts_are_used_up),
    (0.1, _somebody_meddles),
)
"""What happened, and how many days ago."""
