"""Style sheets, scripts and drawings: files of this package, at addresses that carry a hash of their content.

They are compressed where the browser takes it; pages are not: a page holds the token of its forms beside what its
address says, and the length of the two compressed together tells of the token (BREACH, 2013; RFC 9110 has no remedy).
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

from flask import Response, request
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
    packed: dict[str, bytes]
    """The same, compressed (RFC 1952)."""

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
        is_packed = request.accept_encodings.quality("gzip") > 0
        response = Response(self.packed[name] if is_packed else content, content_type=_TYPES[name.rpartition(".")[2]])
        response.headers["Cache-Control"] = _FOR_EVER
        response.headers["Vary"] = "Accept-Encoding"
        if is_packed:
            response.headers["Content-Encoding"] = "gzip"
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
    packed = {name: gzip.compress(content, mtime=0) for name, content in contents.items()}
    return Assets(addresses=addresses, contents=contents, packed=packed)
