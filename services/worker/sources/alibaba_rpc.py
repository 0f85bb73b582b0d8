"""Alibaba Cloud's RPC gateway: one signed POST a call, parameters in the body, answers and refusals by their code.

The official SDK puts parameters into the URL, where proxies, logs and exceptions show them; here it is always ``/``.
Signature: ACS3-HMAC-SHA256, Alibaba Cloud's "V3 request structure and signature".
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import ssl
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final
from urllib.parse import quote, urlencode

from services.worker.patience import ended_after
from shared.errors import AuthRefused, Busy, Corrupt, DriverError, OutcomeUnknown, Unreachable, Unsupported
from shared.usecases.clock import Clock

ALGORITHM: Final = "ACS3-HMAC-SHA256"
MOST_BYTES: Final = 8 << 20
_CHUNK: Final = 1 << 16
_WORD: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")

_BUSY: Final = re.compile(
    r"Throttling.*|Rejected\.Throttling|ServiceUnavailable|SystemBusy|OperationBusy|SignatureNonceUsed"
)
_AUTH: Final = re.compile(
    r"InvalidAccessKeyId.*|SignatureDoesNotMatch|IncompleteSignature|InvalidTimeStamp.*|InvalidSecurityToken.*"
    r"|MissingSecurityToken|Forbidden.*|Forbbiden.*|NoPermission.*|InvalidAuthorization|Unauthorized.*"
)
"""Codes, not statuses: many passing conditions are 400 (and one right is really spelled that way)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """An access key; ``security_token`` with a temporary one (STS)."""

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """Where a product's API is. ``host`` is ``name[:port]``; plain HTTP is for servers of tests on this machine."""

    host: str
    version: str
    credentials: Credentials
    timeout: timedelta
    clock: Clock
    is_plain: bool = False


class Refused(Unsupported):
    """The service understood and said no. ``refusal`` is its code; callers turn it into what it means for them."""

    code = "refused"

    def __init__(self, message: str, *, refusal: str = "unknown", status: int = 400) -> None:
        super().__init__(message)
        self.refusal = refusal
        self.status = status


def call(gateway: Gateway, action: str, parameters: Mapping[str, str], *, changes: bool = False) -> dict[str, Any]:
    """One call; the answer's document.

    ``changes``: the call orders something, so that an answer that is lost leaves its outcome unknown.

    Raises:
        Refused: for a reason that only the caller understands.
        AuthRefused, Busy, Unreachable, OutcomeUnknown, Corrupt: see ``shared/errors.py``.
    """
    body = urlencode(sorted(parameters.items()), quote_via=quote).encode()
    headers = signed_headers(gateway, action, body, nonce=secrets.token_hex(16))
    lost: type[DriverError] = OutcomeUnknown if changes else Unreachable
    try:
        connection = _connected(gateway)
    except (OSError, HTTPException) as error:
        raise Unreachable(f"No connection to {gateway.host} ({type(error).__name__}).") from error
    with closing(connection):
        try:
            with ended_after(gateway.timeout, lambda: connection.sock) as has_hung_up:
                connection.request("POST", "/", body=body, headers=headers)
                response = connection.getresponse()
            if has_hung_up.is_set():  # http.client takes the end of a connection for the end of a head
                raise TimeoutError
            with response:
                status, content = response.status, _read(response, gateway.timeout)
        except (OSError, HTTPException) as error:
            raise lost(f"No answer of {gateway.host} ({type(error).__name__}).") from error
    document = _document(content, status=status, lost=lost, host=gateway.host)
    if status == HTTPStatus.OK:
        return document
    raise _refusal(document, status=status, lost=lost)


def signed_headers(
    gateway: Gateway, action: str, body: bytes, *, nonce: str, query: str = "", content_type: str | None = None
) -> dict[str, str]:
    """All headers of a call, the signature among them. ``query`` is in canonical form; ours is always empty."""
    digest = hashlib.sha256(body).hexdigest()
    headers = {
        "host": gateway.host,
        "x-acs-action": action,
        "x-acs-content-sha256": digest,
        "x-acs-date": gateway.clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "x-acs-signature-nonce": nonce,
        "x-acs-version": gateway.version,
    }
    if body or content_type:
        headers["content-type"] = content_type or "application/x-www-form-urlencoded"
    if gateway.credentials.security_token is not None:
        headers["x-acs-security-token"] = gateway.credentials.security_token
    names = sorted(headers)
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
    canonical = "\n".join(["POST", "/", query, lines, ";".join(names), digest])
    to_sign = f"{ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    secret = gateway.credentials.access_key_secret.encode()
    signature = hmac.new(secret, to_sign.encode(), hashlib.sha256).hexdigest()
    identity = f"Credential={gateway.credentials.access_key_id},SignedHeaders={';'.join(names)}"
    return {**headers, "accept": "application/json", "authorization": f"{ALGORITHM} {identity},Signature={signature}"}


def _connected(gateway: Gateway) -> HTTPConnection:
    seconds = gateway.timeout.total_seconds()
    if gateway.is_plain:
        connection = HTTPConnection(gateway.host, timeout=seconds)
    else:
        connection = HTTPSConnection(gateway.host, timeout=seconds, context=ssl.create_default_context())
    connection.connect()
    return connection


def _read(response: HTTPResponse, timeout: timedelta) -> bytes:
    """The body, which has this time as a whole."""
    deadline = time.monotonic() + timeout.total_seconds()
    parts: list[bytes] = []
    size = 0
    while part := response.read1(_CHUNK):
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES or time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(parts)


def _document(content: bytes, *, status: int, lost: type[DriverError], host: str) -> dict[str, Any]:
    """What was answered. An order whose answer cannot be read may have been placed: that is an answer lost."""
    unreadable = Corrupt if lost is Unreachable else lost
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise lost(f"{host} answers {status} without a word.") from error
        raise unreadable(f"{host} answers {status} with what is not JSON.") from error
    if not isinstance(document, dict):
        raise unreadable(f"{host} answers {status} with JSON that is no object.")
    return document


def _refusal(document: dict[str, Any], *, status: int, lost: type[DriverError]) -> DriverError:
    """Its words stay out (they may quote the request); its code and the request's id are what support asks for."""
    code, request_id = (_word(document.get(name)) for name in ("Code", "RequestId"))
    said = f"{code} (request {request_id})"
    if _BUSY.fullmatch(code):
        return Busy(f"The service asks us to come back later: {said}.")
    if _AUTH.fullmatch(code):
        hint = "Check the access key, its rights, and this machine's clock."
        return AuthRefused(f"The service does not let us in: {said}.", hint=hint)
    if code == "UnsupportedOperation":
        return Unsupported(f"The service cannot do this: {said}.")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return lost(f"The service failed: {said}.")
    return Refused(f"The service refused: {said}.", refusal=code, status=status)


def _word(value: object) -> str:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else "unknown"
