"""What every answer of the console tells the browser: nothing from elsewhere, nothing inline, in nobody's frame."""

from __future__ import annotations

from typing import Final

from flask import Response

from services.api.console.visits import is_https

_SOURCES: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
POLICY: Final = "; ".join(f"{name} {sources}" for name, sources in _SOURCES.items())

_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    # not no-referrer: browsers then send "Origin: null" with forms, and we could not tell ours from others'
    "Referrer-Policy": "same-origin",
}
_YEAR_SECONDS: Final = 31_536_000


def protect(response: Response) -> Response:
    """Add them."""
    response.headers.update(_HEADERS)
    if is_https():
        response.headers["Strict-Transport-Security"] = f"max-age={_YEAR_SECONDS}"
    return response
