"""A browser of a running stack's console, by HTTP: its cookies, and forms with their tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import urllib3

from tests.support.console import token_of


@dataclass(slots=True, kw_only=True)
class Visitor:
    """Begins as somebody who is not signed in."""

    base: str
    cookies: dict[str, str] = field(default_factory=dict, repr=False)

    def page(self, path: str) -> str:
        """A page that must be there."""
        return self._ask("GET", path, expected={200})

    def submit(self, shown_on: str, path: str, fields: dict[str, Any] | None = None) -> str:
        """Fill in the form on one page and send it to ``path``; the answer's text, empty for a redirect."""
        values = {"csrf_token": token_of(self.page(shown_on)), **(fields or {})}
        return self._ask("POST", path, expected={200, 303}, body=urlencode(values, doseq=True))

    def sign_in(self, link: str) -> None:
        """By a link that works once."""
        path = link.removeprefix(self.base)
        self.submit(path, path)

    def _ask(self, method: str, path: str, *, expected: set[int], body: str | None = None) -> str:
        headers = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        answer = urllib3.request(method, self.base + path, body=body, headers=headers, redirect=False)
        assert answer.status in expected, (method, path, answer.status, answer.data[:2000])
        for line in answer.headers.getlist("Set-Cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer.data.decode()
