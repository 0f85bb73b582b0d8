"""Certificate and key as Nginx takes them: a zip of <name>.pem (leaf first) and <name>.key."""

from __future__ import annotations

import io
import re
import zipfile
from typing import Final
from urllib.parse import quote

from flask import Response

from shared.usecases.downloads import Download

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


def download_answer(download: Download) -> Response:
    """The zip, to be kept by nobody on the way."""
    response = Response(_zipped(download), mimetype="application/zip")
    response.headers["Content-Disposition"] = _disposition(download.name)
    response.headers["Cache-Control"] = "no-store"
    return response


def safe_name(name: str) -> str:
    """A file name on every system: letters, digits, dot, dash, underscore; never hidden, never empty."""
    return _UNSAFE.sub("_", name).strip("._")[:100] or "certificate"


def _zipped(download: Download) -> bytes:
    """Built in memory: a key is never written to a disk of ours."""
    stem = safe_name(download.name)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_entry(f"{stem}.pem", mode=0o644), download.certificate_pem)
        if download.private_key_pem is not None:
            archive.writestr(_entry(f"{stem}.key", mode=0o600), download.private_key_pem)
    return buffer.getvalue()


def _entry(name: str, *, mode: int) -> zipfile.ZipInfo:
    """The same content is the same archive: no time of day in it (1980 is where the zip format begins)."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _disposition(name: str) -> str:
    """RFC 6266: an ASCII name for all, and the real one for those who read RFC 8187."""
    full = quote(name.replace("/", "_").replace("\\", "_").encode("utf-8", "replace"), safe="")
    return f"attachment; filename=\"{safe_name(name)}.zip\"; filename*=UTF-8''{full}.zip"
