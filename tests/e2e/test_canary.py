"""The canary: after everything was done with a known private key, it is nowhere that it should not be."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import urllib3
from cryptography.hazmat.primitives import serialization

from services.cli.client import ApiClient, ApiRefused
from services.cli.demo.receiver import Receiver
from services.cli.embedded import envoy, postgres
from tests.support import pki
from tests.support.cas import KEY_ID, SECRET, Cas, running_cas
from tests.support.places import private_directory
from tests.support.stack import RunningStack, running_stack, wait_until
from tests.support.visitor import Visitor

SICK = "us-west-1"
PRIVATE_WEBHOOK_KEY = b"whsk_"
"""How every private key that signs webhooks begins; none is ever shown."""
PICKED = "picked.example.com"
REGIONS = ("cn-hangzhou", "eu-central-1", SICK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A key whose every appearance would be recognised, in any spelling that a leak could take.

    ``secret``: of the certificate service's access key. ``shown``: what the console showed once.
    """

    pair: pki.Issued
    secret: str = SECRET
    cas_key_pem: str = ""
    """Of what the certificate service holds, once it is known."""
    shown: list[str] = field(default_factory=list)

    def needles(self) -> list[bytes]:
        texts = [
            pki.key_pem(self.pair.key, style="traditional"),
            pki.key_pem(self.pair.key, style="pkcs8"),
            self.cas_key_pem,
        ]
        lines = [line for text in texts for line in text.splitlines() if not line.startswith("-----")]
        whole = [line.encode() for line in lines if len(line) == 64]
        der = self.pair.key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        piece = der[len(der) // 2 : len(der) // 2 + 24]
        spelled = [line.hex().encode() for line in whole] + [base64.b64encode(line)[4:-8] for line in whole]
        once = [each.encode() for each in self.shown]
        return [*whole, *spelled, piece, piece.hex().encode(), PRIVATE_WEBHOOK_KEY, self.secret.encode(), *once]

    def found_in(self, haystack: bytes) -> bool:
        return any(needle in haystack for needle in self.needles())


@pytest.fixture(scope="module")
def cas() -> Iterator[Cas]:
    """A certificate service with one certificate, whose renewal is due."""
    with running_cas(lambda: datetime.now(UTC)) as running:
        running.issue(PICKED)
        yield running


@pytest.fixture(scope="module")
def stack(cas: Cas) -> Iterator[RunningStack]:
    with private_directory() as place:
        sources, secret = place / "sources.toml", place / "secret"
        secret.write_text(f"{SECRET}\n", encoding="utf-8")
        secret.chmod(0o600)
        sources.write_text(
            f'[[source]]\nid = "cas"\nkind = "alibaba_cas"\naccount = "default"\n[source.settings]\n'
            f'endpoint = "http://{cas.address}"\naccess_key_id = "{KEY_ID}"\n'
            f'access_key_secret = {{ file = "{secret}" }}\n',
            encoding="utf-8",
        )
        environ = {"CERTFLEET_REMINDERS_SECONDS": "1", "CERTFLEET_SOURCES": str(sources)}
        with running_stack(place / "state", environ=environ) as running:
            yield running


@pytest.fixture(scope="module")
def canary(cas: Cas) -> Canary:
    now = datetime.now(UTC)
    pair = pki.server_with_chain(
        "canary.example.com", number=77, not_before=now - timedelta(days=80), not_after=now + timedelta(days=6)
    )
    return Canary(pair=pair, cas_key_pem=next(iter(cas.held.values())).issued.key_pem)


@pytest.fixture(scope="module")
def heard(stack: RunningStack, canary: Canary, cas: Cas) -> list[bytes]:
    """Do everything that can be done with the key, right and wrong; what came out by webhook and by answer."""
    client = ApiClient(stack.connection.url, stack.connection.token)
    answers: list[bytes] = []
    with Receiver() as receiver:
        client.post("/v1/webhooks", {"url": receiver.url, "types": ["*"]})
        signed = client.post("/v1/webhooks", {"url": receiver.url, "signature_scheme": "ed25519"})
        rotated = client.post(f"/v1/webhooks/{signed['id']}/rotate")
        assert rotated["public_key"].startswith("whpk_")
        answers += [repr(each).encode() for each in (signed, rotated, client.get("/v1/webhooks"))]
        directory = stack.state.regions / SICK
        away = directory.rename(directory.with_name("away"))
        directory.write_text("in the way")
        for body in _uploads(canary, callback_url=receiver.url):
            with suppress(ApiRefused):
                answers.append(repr(client.post("/v1/certificates/validate", body)).encode())
            with suppress(ApiRefused):
                answer = client.post("/v1/certificates", body)
                answers.append(repr(client.follow(answer["job"]["id"], seconds=60, see=lambda _: None)).encode())
        directory.unlink()
        away.rename(directory)
        certificate = client.get("/v1/certificates?q=canary&state=valid")["items"][0]["id"]
        job = client.post(f"/v1/certificates/{certificate}/deployments/{SICK}/retry")["job"]["id"]
        assert client.follow(job, seconds=60, see=lambda _: None)["state"] == "succeeded"
        _serve(client, certificate)
        answers += _pick_and_renew(client, cas)
        answers += _work_in_the_console(stack, canary, receiver.url)
        _send_garbage(stack, canary)
        answers.append(repr(client.get("/v1/events?limit=100")).encode())
        answers.append(repr(client.get(f"/v1/certificates/{certificate}")).encode())
        _download(stack, certificate, canary)
        wait_until(
            lambda: any(Path(stack.connection.mailbox).glob("*.eml")), seconds=60, otherwise=lambda: "no reminder mail"
        )
        wait_until(
            lambda: any(one.event["type"] == "deployment.succeeded" for one in receiver.received()),
            seconds=60,
            otherwise=lambda: "no webhook",
        )
        return answers + [one.body + repr(one.headers).encode() for one in receiver.received()]


def _uploads(canary: Canary, *, callback_url: str) -> list[dict[str, Any]]:
    good = {
        "source": "third_party",
        "type": "server",
        "certificate": canary.pair.chain_pem,
        "private_key": pki.key_pem(canary.pair.key, style="pkcs8"),
        "regions": list(REGIONS),
        "contacts": ["platform@example.com"],
        "callback_url": callback_url,
    }
    key = canary.pair.key_pem
    return [
        good,
        {**good, "certificate": key, "private_key": canary.pair.chain_pem},
        {**good, "certificate": canary.pair.chain_pem + key, "private_key": key[:-80]},
        {**good, "certificate": pki.server("other.example.com", number=5).pem},
        {**good, "private_key": key.replace("RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY")},
        {**good, "type": "ca", "certificate": pki.authority().pem + key, "private_key": None},
        {**{name: good[name] for name in good if name != "private_key"}, "type": "ca", "certificate": key},
        {**good, "regions": [key]},
        {**good, "callback_url": key},
        {**good, key: "an unknown field"},
    ]


def _pick_and_renew(client: ApiClient, cas: Cas) -> list[bytes]:
    """A certificate of the service into every region, once with the service out of order, and then its renewal."""
    wait_until(
        lambda: bool(client.get("/v1/managed-certificates")["items"]), seconds=60, otherwise=lambda: "nothing offered"
    )
    listed = client.get("/v1/managed-certificates")
    body = {
        "source": "managed",
        "type": "server",
        "managed_certificate_id": listed["items"][0]["id"],
        "regions": list(REGIONS),
    }
    cas.answer_next("GetUserCertificateDetail", status=400, code="Throttling.User")
    picked = client.post("/v1/certificates", body)
    ended = client.follow(picked["job"]["id"], seconds=60, see=lambda _: None)
    assert ended["state"] == "succeeded", ended
    cas.answer_next("RenewCertificateOrderForPackageRequest", lose=True)
    renewal = client.post(f"/v1/certificates/{picked['certificate']['id']}/renew")
    wait_until(lambda: bool(cas.orders), seconds=60, otherwise=lambda: "nothing ordered")
    cas.issue_ordered()
    renewed = client.follow(renewal["job"]["id"], seconds=90, see=lambda _: None)
    assert renewed["state"] == "succeeded", renewed
    assert cas.ordered == 1
    return [repr(one).encode() for one in (listed, picked, ended, renewal, renewed)]


def _work_in_the_console(stack: RunningStack, canary: Canary, url: str) -> list[bytes]:
    """Secrets made, shown once, typed and pasted; the pages that are read after."""
    visitor = Visitor(base=stack.connection.url)
    visitor.sign_in(_command(stack, "people", "add", "--account", "default", "canary@example.com"))
    answers = [
        visitor.submit("/webhooks/add", "/webhooks/add", {"url": url, "types": "*", "signature_scheme": "ed25519"}),
        *(visitor.submit("/certificates/add", "/certificates/check?part=1", form) for form in _pasted(canary)),
    ]
    (webhook,) = set(re.findall(r"/webhooks/(whk_\w+)", answers[0]))
    rotation = {"overlap_seconds": "3600", "signature_scheme": "ed25519"}
    answers.append(visitor.submit(f"/webhooks/{webhook}/rotate", f"/webhooks/{webhook}/rotate", rotation))
    rotation["signature_scheme"] = "hmac-sha256"
    password = "a canary sings four words"  # noqa: S105 - of nobody
    shown = [
        visitor.submit(f"/webhooks/{webhook}/rotate", f"/webhooks/{webhook}/rotate", rotation),
        visitor.submit("/webhooks/callback-secret", "/webhooks/callback-secret/show"),
        visitor.submit("/settings/tokens", "/settings/tokens", {"name": "canary", "scopes": "read", "days": "30"}),
        visitor.submit("/settings/people", "/settings/people", {"email": "second@example.com"}),
        visitor.submit("/settings/calendars", "/settings/calendars", {"name": "canary"}),
    ]
    secrets = [found[1] for page in shown if (found := re.search(r'id="secret"[^>]*>([^<]+)</code>', page))]
    assert len(secrets) == len(shown)
    visitor.submit("/settings", "/settings/password", {"password": password, "again": password})
    canary.shown.extend([*(secret.rpartition("/")[2] for secret in secrets[2:]), *secrets[:2], password])
    canary.shown.append(visitor.cookies["certfleet_session"])
    read = ("/webhooks", f"/webhooks/{webhook}", "/settings", "/settings/tokens", "/settings/people", "/audit", "/jobs")
    return [each.encode() for each in (*answers, *(visitor.page(path) for path in read))]


def _pasted(canary: Canary) -> list[dict[str, str]]:
    good = {"source": "third_party", "type": "server", "certificate": canary.pair.chain_pem}
    key = canary.pair.key_pem
    return [{**good, "private_key": key}, {**good, "certificate": key}, {**good, "name": key, "private_key": key * 2}]


def _command(stack: RunningStack, *arguments: str) -> str:
    command = [sys.executable, "-m", "services.cli.main", *arguments, "--state-dir", str(stack.state.root)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _serve(client: ApiClient, certificate: str) -> None:
    """From here on the load balancers work with the key."""
    body = {"name": "canary", "hosts": ["canary.example.com"], "server_certificate_id": certificate}
    jobs = [client.post("/v1/listeners", {**body, "region": region})["job"]["id"] for region in REGIONS]
    assert {client.follow(job, seconds=60, see=lambda _: None)["state"] for job in jobs} == {"succeeded"}


def _send_garbage(stack: RunningStack, canary: Canary) -> None:
    """Not even JSON, and a key where a path, a header or a query belongs."""
    key = canary.pair.key_pem
    line = key.splitlines()[3]
    headers = {"Authorization": f"Bearer {stack.connection.token}", "Content-Type": "application/json"}
    base = stack.connection.url
    for method, path, body, extra in [
        ("POST", "/v1/certificates", '{"private_key": "' + key, {}),
        ("POST", "/v1/certificates", key, {"Content-Type": "text/plain"}),
        ("POST", "/v1/certificates", "{}", {"Idempotency-Key": line}),
        ("GET", "/v1/certificates", None, {"Authorization": f"Bearer {line}"}),
    ]:
        answer = urllib3.request(method, base + path, body=body, headers={**headers, **extra})
        assert answer.status < 500
        assert not canary.found_in(answer.data)


def _download(stack: RunningStack, certificate: str, canary: Canary) -> None:
    """The one way out, and the proof that the needles would be found."""
    answer = urllib3.request(
        "GET",
        f"{stack.connection.url}/v1/certificates/{certificate}/download",
        headers={"Authorization": f"Bearer {stack.connection.token}"},
    )
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert any(canary.found_in(archive.read(name)) for name in archive.namelist() if name.endswith(".key"))


@pytest.mark.usefixtures("heard")
def test_the_needles_are_found_where_the_key_belongs(stack: RunningStack, canary: Canary) -> None:
    for region in REGIONS:
        staged = list((stack.state.regions / region / "objects").rglob("*.pem"))
        assert any(canary.found_in(path.read_bytes()) for path in staged)


def test_the_key_is_in_no_answer_event_or_webhook(heard: list[bytes], canary: Canary) -> None:
    assert len(heard) > 20
    assert not any(canary.found_in(said) for said in heard)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("path", ["/config_dump?include_eds", "/certs", "/listeners", "/stats", "/server_info"])
def test_no_load_balancer_shows_the_key_to_its_admin(stack: RunningStack, canary: Canary, path: str) -> None:
    for region in REGIONS:
        status, shown = envoy.ask(envoy.admin_socket(stack.state.sockets, region), path)
        assert status == 200
        assert not canary.found_in(shown)
        assert path not in ("/config_dump?include_eds", "/certs") or b"canary.example.com" in shown


@pytest.mark.usefixtures("heard")
def test_the_key_is_in_no_redis_key(stack: RunningStack, canary: Canary) -> None:
    client = redis.Redis.from_url(stack.connection.redis_url)
    try:
        names = list(client.scan_iter())
        dumped = [bytes(name) + bytes(client.dump(name) or b"") for name in names]
    finally:
        client.close()
    assert names
    assert not any(canary.found_in(one) for one in dumped)


@pytest.mark.usefixtures("heard")
def test_the_key_is_in_no_column(stack: RunningStack, canary: Canary) -> None:
    dump = subprocess.run(
        [str(postgres.binary("pg_dump")), stack.connection.database_url], check=True, capture_output=True
    ).stdout
    assert b"canary.example.com" in dump
    assert not canary.found_in(dump)


@pytest.mark.usefixtures("heard")
def test_the_key_is_in_no_file_but_the_regions(stack: RunningStack, canary: Canary) -> None:
    """Logs (Envoy's, too), bootstraps, mails, the append-only file, PostgreSQL's own files and write-ahead log."""
    looked_at = 0
    for path in stack.state.root.rglob("*"):
        if path.is_file() and "regions" not in path.relative_to(stack.state.root).parts:
            looked_at += 1
            assert not canary.found_in(path.read_bytes()), path
    assert looked_at > 100


@pytest.mark.usefixtures("heard")
def test_the_key_is_in_no_process_argument_or_environment(stack: RunningStack, canary: Canary) -> None:
    pids = stack.note_processes()
    assert len(pids) > 5
    for pid in pids:
        for name in ("cmdline", "environ"):
            with suppress(OSError):
                assert not canary.found_in(Path(f"/proc/{pid}/{name}").read_bytes())
