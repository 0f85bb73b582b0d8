"""Pass events on to a receiver that is being written, signed as Certfleet signs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import urllib3

from services.cli.listening.heard import Heard
from shared.crypto.webhook_signature import headers

TIMEOUT: Final = urllib3.Timeout(total=15)
"""As long as Certfleet itself waits, unless its operator set another time."""
UNREACHABLE: Final = 502


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What came of passing one event on: the receiver's status, or 502, and either in words."""

    status: int
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarder:
    """The receiver at ``url``; redirects are not followed, as Certfleet follows none."""

    url: str
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(timeout=TIMEOUT, retries=False))

    def send(self, body: bytes, signed: Mapping[str, str]) -> Passed:
        """POST an event with the headers that sign it."""
        wanted = {"content-type": "application/json", **signed}
        try:
            answer = self.pool.request("POST", self.url, body=body, headers=wanted, redirect=False)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            return Passed(status=UNREACHABLE, words=f"{self.url} does not answer ({type(error).__name__})")
        return Passed(status=answer.status, words=str(answer.status))

    def sign_and_send(self, heard: Heard, *, secret: str) -> Heard:
        """The same for an event that was pulled: signed here and now."""
        signed = headers(heard.event["id"], datetime.now(UTC), body=heard.body, secrets=[secret])
        return Heard(body=heard.body, is_pushed=heard.is_pushed, forwarded=self.send(heard.body, signed).words)
