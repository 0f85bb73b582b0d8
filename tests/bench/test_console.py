"""Every page of the console with 10,000 certificates in the account: bytes of a first visit, and time of the server."""

from __future__ import annotations

import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from flask.testing import FlaskClient

from tests.support.api import Api
from tests.support.console import Browser
from tests.support.console_pages import addresses
from tests.support.crowd import multiply
from tests.support.servers import Servers
from tests.support.showcase import showcase

COUNT: Final = 10_000
VISITS: Final = 9
MOST_BYTES: Final = 150_000
MOST_SECONDS: Final = 0.1
_ASSET: Final = re.compile(r'"(/static/[^"#]+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One page: bytes of its text and of all files that it names, as they travel; seconds of each visit."""

    rule: str
    page: int
    files: int
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def is_over(self) -> bool:
        return self.page + self.files > MOST_BYTES or self.median > MOST_SECONDS

    def line(self) -> str:
        total = (self.page + self.files) / 1000
        times = f"{self.median * 1000:8.1f} {max(self.seconds) * 1000:8.1f}"
        return f"  {self.rule:<50} {self.page / 1000:8.1f} {total:8.1f}   {times}{'   OVER' if self.is_over else ''}"


@pytest.mark.timeout(900)
def test_pages_of_an_account_with_ten_thousand_certificates(servers: Servers, tmp_path: Path) -> None:
    with showcase(servers.create_database("bench_console"), tmp_path) as shown:
        host = "img.shop.example"
        rows = multiply(shown.fleet, shown.ids[host], host, count=COUNT)
        one = _signed_in(shown.api, shown.sign_in_token)
        pages = addresses(shown.api.app, shown.ids)
        figures = [_measured(one.http, rule, address) for rule, address in pages.items()]
    _print(rows, figures)


def _signed_in(api: Api, token: str) -> Browser:
    one = Browser(http=api.app.test_client())
    assert one.submit(f"/sign-in/{token}", f"/sign-in/{token}").status_code == 303
    return one


def _measured(http: FlaskClient, rule: str, address: str) -> Figure:
    body = http.get(address)
    assert body.status_code == 200, (rule, body.text)
    seconds = []
    for _ in range(VISITS):
        began = time.perf_counter()
        http.get(address)
        seconds.append(time.perf_counter() - began)
    files = {*_ASSET.findall(body.text)}
    packed = [http.get(file, headers={"Accept-Encoding": "gzip"}) for file in files]
    return Figure(rule=rule, page=len(body.data), files=sum(len(one.data) for one in packed), seconds=tuple(seconds))


def _print(rows: dict[str, int], figures: list[Figure]) -> None:
    print(f"\n{', '.join(f'{count:,} {table}' for table, count in rows.items())}")
    print("Pages are not compressed, files are (gzip). kB = 1000 bytes; ms in the process, of one visitor")
    print(f"  {'page':<50} {'page kB':>8} {'all kB':>8}   {'median':>8} {'slowest':>8}")
    for figure in sorted(figures, key=lambda one: -one.median):
        print(figure.line())
    print(f"  {'budget':<50} {'':>8} {MOST_BYTES / 1000:8.1f}   {MOST_SECONDS * 1000:8.1f}")
