"""A small client of the HTTP API, for the commands that talk to it as any program would."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import urllib3

from shared.errors import CertfleetError

FINAL_STATES: Final = frozenset({"succeeded", "partially_succeeded", "failed", "cancelled"})
FAILED: Final = 400
"""RFC 9110 §15.5: from here on statuses are errors."""
UNWELL: Final = 500
"""RFC 9110 §15.6: from here on errors are the server's."""
TIMEOUT: Final = urllib3.Timeout(connect=5, read=30)


class ApiRefused(CertfleetError):
    """The API answered with a problem (RFC 9457).

    Attributes:
        fields: the fields that it refused.
    """

    code = "api_refused"

    def __init__(self, message: str, *, fields: Iterable[str] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.fields = frozenset(fields)


class ApiSilent(ApiRefused):
    """It did not answer, or is not well: asking again later may help."""

    code = "api_silent"


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

    def delete(self, path: str) -> None:
        """Whatever was there is gone."""
        self._request("DELETE", path, {})

    @contextmanager
    def stream(self, path: str, *, headers: Mapping[str, str], silence: timedelta) -> Iterator[Iterator[bytes]]:
        """The lines of an answer that goes on, without their line ends, as they come.

        Raises:
            ApiSilent: nothing came for ``silence``, the connection broke, or the API asks to try later.
            ApiRefused: it refuses, for good.
        """
        timeout = urllib3.Timeout(connect=5, read=silence.total_seconds())
        try:
            answer = self._pool.request(
                "GET",
                self._url + path,
                headers={**self._headers, **headers},
                timeout=timeout,
                preload_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise self._silent(error) from error
        try:
            if answer.status >= FAILED:
                raise _problem(f"GET {path}", answer.status, answer.data)
            yield self._lines(answer)
        finally:
            answer.close()

    def _lines(self, answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        rest = b""
        try:
            for chunk in answer.stream():
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
        except urllib3.exceptions.HTTPError as error:
            raise self._silent(error) from error

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
            raise self._silent(error) from error
        if answer.status >= FAILED:
            raise _problem(f"{method} {path}", answer.status, answer.data)
        try:
            return dict(json.loads(answer.data)) if answer.data else {}
        except ValueError as error:
            raise ApiRefused(f"{method} {path} answered {answer.status} without JSON.") from error

    def _silent(self, error: Exception) -> ApiSilent:
        return ApiSilent(f"{self._url} does not answer ({type(error).__name__}).")


def _problem(asked: str, status: int, body: bytes) -> ApiRefused:
    """What a refusal says, as far as it says anything."""
    try:
        problem = dict(json.loads(body))
    except ValueError:
        problem = {}
    faults = [dict(fault) for fault in problem.get("errors") or ()]
    said = [f"{fault.get('field')}: {fault.get('message')} {fault.get('hint', '')}".rstrip() for fault in faults]
    said = said or [str(problem.get("detail") or "without a reason")]
    kind = ApiSilent if status >= UNWELL else ApiRefused
    hint = "" if faults else str(problem.get("hint") or "")
    return kind(
        f"{asked} answered {status}: {' '.join(said)}", fields=(str(fault.get("field")) for fault in faults), hint=hint
    )
