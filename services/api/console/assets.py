"""Style sheet, scripts and icon: files of this package, at addresses that carry a hash of their content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

from flask import Response
from werkzeug.exceptions import NotFound

from shared.errors import Misconfigured

_TYPES: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_HASH_LENGTH: Final = 16
_FOR_EVER: Final = "public, max-age=31536000, immutable"
"""RFC 8246: a year, and not asked for again; another content has another address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assets:
    """Held in memory: a few files, a few kilobytes."""

    addresses: dict[str, str]
    contents: dict[str, bytes]

    def address(self, name: str) -> str:
        """Where the browser finds the file ``static/NAME``."""
        if name not in self.addresses:
            raise Misconfigured((f"The console has no static file {name!r}.",))
        return self.addresses[name]

    def answer(self, name: str) -> Response:
        """The file, to be kept for ever. Names are looked up, never opened.

        Raises:
            werkzeug NotFound: no such file, or of another version than ours.
        """
        content = self.contents.get(name)
        if content is None:
            raise NotFound
        response = Response(content, content_type=_TYPES[name.rpartition(".")[2]])
        response.headers["Cache-Control"] = _FOR_EVER
        return response


def load_assets() -> Assets:
    """Every file of ``static/``."""
    addresses, contents = {}, {}
    for file in resources.files("services.api.console").joinpath("static").iterdir():
        stem, _, kind = file.name.rpartition(".")
        if kind not in _TYPES:
            continue
        content = file.read_bytes()
        hashed = f"{stem}.{hashlib.sha256(content).hexdigest()[:_HASH_LENGTH]}.{kind}"
        addresses[file.name] = f"/static/{hashed}"
        contents[hashed] = content
    return Assets(addresses=addresses, contents=contents)
