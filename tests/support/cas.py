"""A Certificate Management Service on this machine: speaks Alibaba Cloud's RPC protocol and believes no signature.

It is written from the protocol's description, not from our client: what both got wrong would be wrong twice.

::

    with running_cas(clock) as cas:
        cas.issue("shop.example.com")
        source = AlibabaCas.for_service(cas.service())
        cas.answer_next("RenewCertificateOrderForPackageRequest", lose=True)   # done, and the connection closed
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives import hashes

from shared.config.sources import CertificateService
from shared.usecases.clock import Clock
from tests.support import pki

KEY_ID: Final = "LTAI5tTestTestTestTest"
SECRET: Final = "casSecretNeedle0123456789abcd"  # noqa: S105 - of a server of tests
SKEW: Final = timedelta(minutes=15)
EXPIRING: Final = timedelta(days=30)
NEEDED: Final = frozenset(
    {"host", "x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"}
)
_AUTHORIZATION: Final = re.compile(
    r"ACS3-HMAC-SHA256 Credential=([^,]+),SignedHeaders=([a-z0-9;-]+),Signature=([0-9a-f]{64})"
)


class _Problem(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One certificate of the service."""

    issued: pki.Issued
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    order_id: int | None
    is_uploaded: bool
    gives_key: bool = True


@dataclass(slots=True)
class _Fault:
    action: str
    status: int
    code: str
    lose: bool
    body: bytes | None


@dataclass(slots=True)
class Cas:
    """What the service holds, and how it answers."""

    clock: Clock
    address: str = ""
    held: dict[int, Held] = field(default_factory=dict)
    orders: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Renewals that were ordered and are not issued yet: the order's number to the names."""
    ordered: int = 0
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Action, request line and body of every call."""
    faults: list[_Fault] = field(default_factory=list)
    nonces: set[str] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def issue(
        self,
        *names: str,
        key: str = "rsa-2048",
        life: timedelta = timedelta(days=20),
        is_uploaded: bool = False,
        gives_key: bool = True,
    ) -> int:
        """A certificate for these names; its number."""
        with self.lock:
            number = 10_000_001 + len(self.held)
            now = self.clock().replace(microsecond=0)
            issued = pki.server_with_chain(
                *names, key=key, number=200 + number % 4, not_before=now - timedelta(days=1), not_after=now + life
            )
            self.held[number] = Held(
                issued=issued,
                names=names,
                not_before=now - timedelta(days=1),
                not_after=now + life,
                order_id=None if is_uploaded else 500_000 + number,
                is_uploaded=is_uploaded,
                gives_key=gives_key,
            )
            return number

    def issue_ordered(self) -> None:
        """The certificate authority is done with every order."""
        with self.lock:
            for order, names in list(self.orders.items()):
                del self.orders[order]
                self.issue(*names, life=timedelta(days=365))

    def answer_next(
        self,
        action: str,
        *,
        status: int = 500,
        code: str = "InternalError",
        lose: bool = False,
        body: bytes | None = None,
    ) -> None:
        """The next call of the action is refused; with ``lose`` it is done, and its answer never comes."""
        self.faults.append(_Fault(action=action, status=status, code=code, lose=lose, body=body))

    def service(self, source_id: str = "cas", **settings: Any) -> CertificateService:
        """How an operator would declare it; the secret comes from the environment variable ``CAS_SECRET``."""
        return CertificateService(
            id=source_id,
            name="Certificate Management Service",
            kind="alibaba_cas",
            account="default",
            settings={
                "endpoint": f"http://{self.address}",
                "access_key_id": KEY_ID,
                "access_key_secret": {"env": "CAS_SECRET"},
                "timeout_seconds": 5,
                **settings,
            },
        )

    def handle(self, action: str, parameters: dict[str, str]) -> dict[str, Any]:
        verbs = {
            "ListUserCertificateOrder": self._list,
            "GetUserCertificateDetail": self._detail,
            "RenewCertificateOrderForPackageRequest": self._renew,
        }
        if action not in verbs:
            raise _Problem(404, "InvalidAction.NotFound")
        with self.lock:
            return {"RequestId": f"REQ-{len(self.requests)}", **verbs[action](parameters)}

    def _list(self, parameters: dict[str, str]) -> dict[str, Any]:
        keyword = parameters.get("Keyword", "")
        if parameters.get("OrderType", "CPACK") == "CERT":
            found = [
                self._row(number) for number, one in self.held.items() if any(keyword in name for name in one.names)
            ]
        else:
            found = [
                {"OrderId": order, "Domain": names[0], "Status": "CHECKING", "InstanceId": f"cas-ivauto-{order}"}
                for order, names in self.orders.items()
                if any(keyword in name for name in names)
            ]
        page, size = int(parameters.get("CurrentPage", "1")), int(parameters.get("ShowSize", "50"))
        shown = found[(page - 1) * size : page * size]
        return {"TotalCount": len(found), "CurrentPage": page, "ShowSize": size, "CertificateOrderList": shown}

    def _row(self, number: int) -> dict[str, Any]:
        one = self.held[number]
        return {
            "CertificateId": number,
            "Name": f"cert-{number}",
            "CommonName": one.names[0],
            "Sans": ",".join(one.names),
            "StartDate": f"{one.not_before:%Y-%m-%d}",
            "EndDate": f"{one.not_after:%Y-%m-%d}",
            "Expired": one.not_after < self.clock(),
            "Fingerprint": one.issued.certificate.fingerprint(hashes.SHA1()).hex().upper(),  # noqa: S303 - as CAS does
            "Sha2": one.issued.certificate.fingerprint(hashes.SHA256()).hex().upper(),
            "SerialNo": f"{one.issued.certificate.serial_number:040x}",
            "Issuer": "Test Issuing CA",
            "OrgName": "",
            "Upload": one.is_uploaded,
        }

    def _detail(self, parameters: dict[str, str]) -> dict[str, Any]:
        try:
            one = self.held[int(parameters["CertId"])]
        except (KeyError, ValueError) as error:
            raise _Problem(404, "NotFound") from error
        document: dict[str, Any] = {
            "Id": int(parameters["CertId"]),
            "Common": one.names[0],
            "Sans": ",".join(one.names),
            "Algorithm": "RSA",
            "NotBefore": int(one.not_before.timestamp() * 1000),
            "NotAfter": int(one.not_after.timestamp() * 1000),
            "BuyInAliyun": not one.is_uploaded,
            "OrderId": one.order_id or 0,
        }
        if parameters.get("CertFilter") != "true":
            document["Cert"] = one.issued.chain_pem
            document["Key"] = one.issued.key_pem if one.gives_key else ""
        return document

    def _renew(self, parameters: dict[str, str]) -> dict[str, Any]:
        order = int(parameters["OrderId"])
        one = next((held for held in self.held.values() if held.order_id == order), None)
        if one is None:
            raise _Problem(404, "OrderNotFound")
        if one.not_after - self.clock() > EXPIRING:
            raise _Problem(400, "OrderNotExpiring")
        self.ordered += 1
        new = 900_000 + self.ordered
        self.orders[new] = one.names
        return {"OrderId": new}

    def verify(self, request_line: str, headers: dict[str, str], body: bytes) -> str:
        """The action, if the request is signed as the protocol wants it."""
        if request_line != "POST / HTTP/1.1":
            raise _Problem(400, "ParametersBelongIntoTheBody")
        found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        if found is None:
            raise _Problem(400, "IncompleteSignature")
        key_id, names, signature = found.groups()
        if key_id != KEY_ID:
            raise _Problem(404, "InvalidAccessKeyId.NotFound")
        signed = names.split(";")
        must = NEEDED | {name for name in headers if name.startswith("x-acs-") or name == "content-type"}
        if signed != sorted(signed) or set(signed) != must:
            raise _Problem(400, "IncompleteSignature")
        if headers["x-acs-content-sha256"] != hashlib.sha256(body).hexdigest():
            raise _Problem(400, "SignatureDoesNotMatch")
        lines = [f"{name}:{headers[name]}" for name in signed]
        canonical = "\n".join(["POST", "/", "", *lines, "", names, headers["x-acs-content-sha256"]])
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        expected = hmac.digest(SECRET.encode(), f"ACS3-HMAC-SHA256\n{digest}".encode(), "sha256").hex()
        if not hmac.compare_digest(expected, signature):
            raise _Problem(400, "SignatureDoesNotMatch")
        self._check_freshness(headers)
        if headers["x-acs-version"] != "2020-04-07":
            raise _Problem(404, "InvalidVersion")
        return headers["x-acs-action"]

    def _check_freshness(self, headers: dict[str, str]) -> None:
        sent = datetime.strptime(headers["x-acs-date"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        if abs(self.clock() - sent) > SKEW:
            raise _Problem(400, "InvalidTimeStamp.Expired")
        with self.lock:
            if headers["x-acs-signature-nonce"] in self.nonces:
                raise _Problem(400, "SignatureNonceUsed")
            self.nonces.add(headers["x-acs-signature-nonce"])


@contextmanager
def running_cas(clock: Clock) -> Iterator[Cas]:
    """The service on a port of its own."""
    cas = Cas(clock)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(cas))
    server.daemon_threads = True
    cas.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield cas
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(cas: Cas) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            action = headers.get("x-acs-action", "")
            cas.requests.append((action, self.requestline, body))
            fault = next((one for one in cas.faults if one.action in (action, "*")), None)
            if fault is not None:
                cas.faults.remove(fault)
            try:
                if fault is not None and not fault.lose:
                    self._answer(fault.status, fault.body or _envelope(fault.code))
                    return
                action = cas.verify(self.requestline, headers, body)
                document = cas.handle(action, dict(parse_qsl(body.decode(), keep_blank_values=True)))
            except _Problem as problem:
                self._answer(problem.status, _envelope(problem.code))
                return
            if fault is None:
                self._answer(200, json.dumps(document).encode())
            self.close_connection = True

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json;charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            """Nothing on standard error."""

    return Handler


def _envelope(code: str) -> bytes:
    return json.dumps(
        {
            "Code": code,
            "HostId": "cas.aliyuncs.com",
            "Message": f"The request was: POST&... with {SECRET[:4]}… refused.",
            "Recommend": "https://api.aliyun.com/troubleshoot",
            "RequestId": "9FFF450B-1B1C-4B0A-A2A5-0123456789AB",
        }
    ).encode()
