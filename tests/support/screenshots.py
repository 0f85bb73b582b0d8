"""Pictures of every page of the console for ``docs/images``: light, dark, and on a phone (``make screenshots``)."""

from __future__ import annotations

import base64
import logging
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog
from playwright.sync_api import Browser, Page

from tests.support.browsing import signed_in
from tests.support.chromium import DESKTOP, PHONE, chromium, visitor
from tests.support.console_pages import addresses
from tests.support.live_api import live_api
from tests.support.servers import shared_servers
from tests.support.showcase import Showcase, showcase

PICTURES: Final = Path("docs/images/console")
KINDS: Final[Mapping[str, tuple[tuple[int, int], str]]] = {
    "light": (DESKTOP, "light"),
    "dark": (DESKTOP, "dark"),
    "phone": (PHONE, "light"),
}
_TALLEST: Final = 1300
"""CSS pixels; a picture that is longer shows nobody more."""

_QUALITY: Final = 72
"""Of WebP, which is a tenth of PNG here, and no edge of a letter is seen to suffer."""


def take() -> None:
    """Write all of them; those of pages that are no more go."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    PICTURES.mkdir(parents=True, exist_ok=True)
    for old in PICTURES.glob("*.webp"):
        old.unlink()
    with tempfile.TemporaryDirectory() as directory, shared_servers(Path(directory) / "servers") as servers:
        url = servers.create_database("showcase")
        with showcase(url, Path(directory)) as shown, live_api(shown.api.app) as address, chromium() as browser:
            _before_sign_in(browser, address)
            _signed_in_pages(browser, address, shown)
    size = sum(picture.stat().st_size for picture in PICTURES.glob("*.webp"))
    print(f"{len(list(PICTURES.glob('*.webp')))} pictures, {size / 1e6:.1f} MB")  # noqa: T201 - what a target tells


def name_of(rule: str) -> str:
    """``/certificates/<certificate_id>/delete`` is ``certificates-one-delete``."""
    return re.sub(r"<[^>]+>", "one", rule).strip("/").replace("/", "-")


def _before_sign_in(browser: Browser, address: str) -> None:
    for kind, (size, scheme) in KINDS.items():
        with visitor(browser, address, size=size) as page:
            _picture(page, "/sign-in", f"sign-in-{kind}", scheme)


def _signed_in_pages(browser: Browser, address: str, shown: Showcase) -> None:
    console = signed_in(browser, address, f"/sign-in/{shown.sign_in_token}")
    for kind, (size, scheme) in KINDS.items():
        with console.page(size=size) as page:
            for rule, path in addresses(shown.api.app, shown.ids).items():
                _picture(page, path, f"{name_of(rule)}-{kind}", scheme)


def _picture(page: Page, path: str, name: str, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(path)
    width, height = page.evaluate("() => [window.innerWidth, document.documentElement.scrollHeight]")
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, _TALLEST), "scale": 1}
    options = {"format": "webp", "quality": _QUALITY, "captureBeyondViewport": True, "clip": clip}
    answer = page.context.new_cdp_session(page).send("Page.captureScreenshot", options)
    (PICTURES / f"{name}.webp").write_bytes(base64.b64decode(answer["data"]))


if __name__ == "__main__":
    take()
