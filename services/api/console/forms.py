"""Forms: whether a POST comes from a page of ours, and the token that says so."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final
from urllib.parse import urlsplit

from flask import request

from services.api.calls import current_context
from shared.errors import Forbidden

FIELD: Final = "csrf_token"
HEADER: Final = "X-CSRF-Token"
"""Where scripts of ours send it."""

_CONTEXT: Final = b"certfleet console form 1"


def form_token(cookie: str) -> str:
    """The token of every form shown to the browser with this cookie: derived, so that nothing need be kept."""
    digest = hmac.digest(cookie.encode("utf-8", "surrogatepass"), _CONTEXT, hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def check_form(cookie: str) -> None:
    """Refuse what another site made the browser send: by the token, and by what the browser says of the origin.

    Raises:
        Forbidden: the token is not this browser's, or the origin is another (``form_refused``).
    """
    given = request.form.get(FIELD) or request.headers.get(HEADER, "")
    is_ours = cookie != "" and hmac.compare_digest(given.encode("utf-8", "surrogatepass"), form_token(cookie).encode())
    if is_ours and _is_same_origin():
        return
    raise Forbidden(
        "This form does not come from a page of this session.",
        code="form_refused",
        hint="Go back, load the page again, and send it once more.",
    )


def _is_same_origin() -> bool:
    """Browsers say where a POST comes from (Fetch Metadata; RFC 6454); other clients say nothing."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        return False
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    return urlsplit(origin).netloc in {request.host, urlsplit(current_context().settings.public_url).netloc}
