"""A small client of the HTTP API, for the commands that talk to it as any program would."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final

import urllib3

from shared.errors import CertfleetError

FINAL_STATES: Final = frozenset({"succeeded", "partially_succeeded", "failed", "cancelled"})
TIMEOUT: Final = urllib3.Timeout(connect=5, read=30)


class ApiRefused(CertfleetError):
    """The API answered with a problem (RFC 9457)."""

    code = "api_refused"


class ApiClient:
    """Speaks JSON to one Certfleet with one token."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._pool = urllib3.PoolManager(timeout=TIMEOUT, retries=False)

    def get(self, path: str) -> dict[str, Any]:
        """The answer's JSON."""
        return self._request("GET", path, None)

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer's JSON."""
        return self._request("POST", path, body or {})

    def follow(self, job_id: str, *, seconds: float, see: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Poll the job until it is final, showing each answer to ``see``.

        Raises:
            ApiRefused: it is not final within ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while True:
            job = self.get(f"/v1/jobs/{job_id}")
            see(job)
            if job["state"] in FINAL_STATES:
                return job
            if time.monotonic() > deadline:
                raise ApiRefused(f"The job {job_id} is still {job['state']} after {seconds:.0f} s.")
            time.sleep(0.05)

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        try:
            answer = self._pool.request(method, self._url + path, json=body, headers=self._headers)
        except urllib3.exceptions.HTTPError as error:
            raise ApiRefused(f"{self._url} does not answer ({type(error).__name__}).") from error
        try:
            document = json.loads(answer.data) if answer.data else {}
        except ValueError as error:
            raise ApiRefused(f"{method} {path} answered {answer.status} without JSON.") from error
        if answer.status >= 400:  # noqa: PLR2004 - RFC 9110 §15.5: client and server errors
            raise ApiRefused(f"{method} {path} answered {answer.status}: {document.get('detail', document)}")
        return dict(document)
